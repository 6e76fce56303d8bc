// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Binaries are the built programs.
type Binaries struct{ Hub, Agent, CLI string }

const (
	// module is ours.
	module = "fairlead.dev/fairlead"
	// variableBinaries names a folder with programs that are there already, as
	// those of a release; then nothing is compiled.
	variableBinaries = "FAIRLEAD_BINARIES"
)

// Build compiles hub, agent and CLI into dir, with the race detector if race is
// true: env.Verify then hears what it says. It needs the Go toolchain and the
// source tree, which whoever runs a test has.
func Build(ctx context.Context, dir string, race bool) (Binaries, error) {
	if made := os.Getenv(variableBinaries); made != "" {
		return Binaries{Hub: filepath.Join(made, "hub"), Agent: filepath.Join(made, "agent"), CLI: filepath.Join(made, "fairlead")}, nil
	}
	if err := build(ctx, race, "-o", dir+string(filepath.Separator), module+"/cmd/hub", module+"/cmd/agent", module+"/cmd/fairlead"); err != nil {
		return Binaries{}, fmt.Errorf("building hub, agent and CLI: %w", err)
	}
	return Binaries{Hub: filepath.Join(dir, "hub"), Agent: filepath.Join(dir, "agent"), CLI: filepath.Join(dir, "fairlead")}, nil
}

// BuildFaulty compiles the hub or the agent (name) with faults that its
// environment asks for (build tag faultinject) into dir, with the race detector
// if race is true, and returns its path. The hub breaks its own sessions, the
// agent ends at a failpoint.
func BuildFaulty(ctx context.Context, dir, name string, race bool) (string, error) {
	if made := os.Getenv(variableBinaries); made != "" {
		dir = made
	}
	binary := filepath.Join(dir, "faulty-"+name)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := build(ctx, race, "-tags=faultinject", "-o", binary, module+"/cmd/"+name); err != nil {
		return "", fmt.Errorf("building the %s with faults: %w", name, err)
	}
	return binary, nil
}

func build(ctx context.Context, race bool, args ...string) error {
	if race {
		args = append([]string{"-race"}, args...)
	}
	out, err := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// FreeAddress is a loopback address that nobody listens on at the moment.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

// output runs a program to its end and returns its standard output; its error
// has what it wrote to standard error.
func output(ctx context.Context, environment []string, binary string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environment
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(binary), strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
