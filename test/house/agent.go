// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"context"
	"path/filepath"
	"slices"
)

// AgentConfig says how to run an agent.
type AgentConfig struct {
	Binaries   Binaries
	Dir        string
	Cluster    string
	Name       string // of log and data; default the cluster's
	Join       string
	Kubeconfig string // of the spoke
	Flags      []string
	// Environment is added to that of this process.
	Environment []string
}

// Agent is a running agent.
type Agent struct {
	*Process
	HTTPAddress string // stays the same over restarts

	config AgentConfig
}

// StartAgent runs «agent run». It returns at once: what comes next needs the
// hub, and maybe a person.
func StartAgent(config AgentConfig) (*Agent, error) {
	if config.Name == "" {
		config.Name = config.Cluster
	}
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	a := &Agent{HTTPAddress: address, config: config}
	return a, a.Launch()
}

// Launch starts the process, again after Kill or Stop. The environment is added to
// that of the config, for this start.
func (a *Agent) Launch(environment ...string) error {
	told.addJoin(a.config.Join)
	args := append([]string{
		"run", "--join=" + a.config.Join, "--cluster-name=" + a.config.Cluster, "--spoke-kubeconfig=" + a.config.Kubeconfig,
		"--store=files", "--data-dir=" + a.DataDir(), "--http-listen=" + a.HTTPAddress,
	}, a.config.Flags...)
	p, err := start(a.config.Dir, "agent-"+a.config.Name, a.config.Binaries.Agent, args, append(slices.Clone(a.config.Environment), environment...)...)
	a.Process = p
	return err
}

// LaunchWith starts the process with another join string.
func (a *Agent) LaunchWith(join string) error {
	a.config.Join = join
	return a.Launch()
}

// DataDir is where the agent keeps what must outlive it.
func (a *Agent) DataDir() string { return filepath.Join(a.config.Dir, "data-"+a.config.Name) }

// Metric is the sum of a metric over those of its series that have all labels,
// each of the form name="value". One that does not exist yet is 0.
func (a *Agent) Metric(ctx context.Context, name string, labels ...string) (float64, error) {
	return metric(ctx, a.HTTPAddress, name, labels)
}
