// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"path/filepath"
)

// AgentConfig says how to run an agent.
type AgentConfig struct {
	Binaries   Binaries
	Dir        string
	Cluster    string
	Join       string
	Kubeconfig string // of the spoke
	Flags      []string
}

// Agent is a running agent.
type Agent struct {
	*Process

	config AgentConfig
}

// StartAgent runs «agent run». It returns at once: what comes next needs the
// hub, and maybe a person.
func StartAgent(config AgentConfig) (*Agent, error) {
	a := &Agent{config: config}
	return a, a.Launch()
}

// Launch starts the process, again after Kill or Stop.
func (a *Agent) Launch() error {
	args := append([]string{
		"run", "--join=" + a.config.Join, "--cluster-name=" + a.config.Cluster, "--spoke-kubeconfig=" + a.config.Kubeconfig,
		"--store=files", "--data-dir=" + a.DataDir(), "--http-listen=127.0.0.1:0",
	}, a.config.Flags...)
	p, err := start(a.config.Dir, "agent-"+a.config.Cluster, a.config.Binaries.Agent, args)
	a.Process = p
	return err
}

// DataDir is where the agent keeps what must outlive it.
func (a *Agent) DataDir() string { return filepath.Join(a.config.Dir, "data-"+a.config.Cluster) }
