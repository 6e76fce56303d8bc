// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
)

// versionTimeout is how long a program may take to say that it is the agent.
const versionTimeout = 10 * time.Second

// chooseMode settles how the agent runs, and where its program is.
func (r *request) chooseMode(ctx context.Context) error {
	switch r.mode {
	case modePrint, modeDeployment:
		return nil
	case modeAuto, modeProcess:
	default:
		return cli.Usagef("--agent %q is not one of process, deployment, print", r.mode)
	}
	if r.mode == modeAuto && r.image != "" {
		r.mode = modeDeployment
		return nil
	}
	binary := r.findAgent(ctx)
	switch {
	case binary != "":
		r.mode, r.binary = modeProcess, binary
	case r.mode == modeProcess:
		return cli.Usagef("no agent's program found beside this one or on PATH: say where it is with --agent-binary, or use --agent deployment --image IMAGE")
	default:
		r.mode = modePrint
	}
	return nil
}

// findAgent looks for the agent's program. Agent is everybody's name, so a
// program has to say whose it is.
func (r *request) findAgent(ctx context.Context) string {
	if r.binary != "" {
		return r.binary
	}
	var candidates []string
	if self, err := os.Executable(); err == nil {
		for _, name := range agentNames() {
			candidates = append(candidates, filepath.Join(filepath.Dir(self), name))
		}
	}
	for _, name := range agentNames() {
		if path, err := exec.LookPath(name); err == nil {
			candidates = append(candidates, path)
		}
	}
	for _, path := range candidates {
		if isAgent(ctx, path) {
			return path
		}
	}
	return ""
}

func agentNames() []string {
	if runtime.GOOS == "windows" {
		return []string{"fairlead-agent.exe", "agent.exe"}
	}
	return []string{"fairlead-agent", "agent"}
}

func isAgent(ctx context.Context, path string) bool {
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "version").Output()
	return err == nil && strings.Contains(string(out), "fairlead")
}
