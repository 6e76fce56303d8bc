// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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

// Build puts hub, agent and CLI into dir, with the race detector if race is true:
// env.Verify then hears what it says. It needs the Go toolchain and the source
// tree, which whoever runs a test has.
func Build(ctx context.Context, dir string, race bool) (Binaries, error) {
	if made := os.Getenv(variableBinaries); made != "" {
		return Binaries{Hub: filepath.Join(made, "hub"), Agent: filepath.Join(made, "agent"), CLI: filepath.Join(made, "fairlead")}, nil
	}
	if err := (way{race: race}).build(ctx, dir, "hub", "agent", "fairlead"); err != nil {
		return Binaries{}, fmt.Errorf("building hub, agent and CLI: %w", err)
	}
	return Binaries{Hub: filepath.Join(dir, "hub"), Agent: filepath.Join(dir, "agent"), CLI: filepath.Join(dir, "fairlead")}, nil
}

// BuildFaulty puts the hub or the agent (name) with faults that its environment
// asks for (build tag faultinject) into dir, with the race detector if race is
// true, and returns its path. The hub breaks its own sessions, the agent ends at
// a failpoint.
func BuildFaulty(ctx context.Context, dir, name string, race bool) (string, error) {
	if made := os.Getenv(variableBinaries); made != "" {
		dir = made
	}
	binary := filepath.Join(dir, "faulty-"+name)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := (way{race: race, faulty: true}).build(ctx, dir, name); err != nil {
		return "", fmt.Errorf("building the %s with faults: %w", name, err)
	}
	return binary, nil
}

// way is how to build a command.
type way struct{ race, faulty bool }

// flags are those of «go build». Stack traces need no symbol table.
func (w way) flags() []string {
	flags := []string{"-ldflags=-s -w"}
	if w.race {
		flags = append(flags, "-race")
	}
	if w.faulty {
		flags = append(flags, "-tags=faultinject")
	}
	return flags
}

// folder keeps commands built this way inside the repository.
func (w way) folder(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("finding the source tree of %s: %w", module, err)
	}
	name := "test"
	if w.faulty {
		name += "-faulty"
	}
	if w.race {
		name += "-race"
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "bin", name)
	return dir, os.MkdirAll(dir, 0o755)
}

// build puts commands of ours into dir. Several packages of one test run ask for
// the same: what is built stays in the repository's bin/, where the go command
// sees that it is what the sources give and does not link it again. Those in dir
// are links to it, and stay as they are when a later build replaces it.
func (w way) build(ctx context.Context, dir string, names ...string) error {
	made, err := w.folder(ctx)
	if err != nil {
		return err
	}
	unlock, err := lock(filepath.Join(made, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	args := append([]string{"build", "-o", made + string(filepath.Separator)}, w.flags()...)
	for _, name := range names {
		args = append(args, module+"/cmd/"+name)
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	prefix := ""
	if w.faulty {
		prefix = "faulty-"
	}
	for _, name := range names {
		if err := link(filepath.Join(made, name), filepath.Join(dir, prefix+name)); err != nil {
			return err
		}
	}
	return nil
}

// lock waits for whoever holds the lock of that file, in any process.
func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the built commands: %w", err)
	}
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); {
		case err == nil:
			return func() { _ = f.Close() }, nil // closing releases the lock
		case !errors.Is(err, syscall.EINTR):
			_ = f.Close()
			return nil, fmt.Errorf("locking %q: %w", file, err)
		}
	}
}

// link makes to another name of the file from, or a copy where they are in
// different file systems.
func link(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing a built command: %w", err)
	}
	if os.Link(from, to) == nil {
		return nil
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copying a built command: %w", err)
	}
	return os.WriteFile(to, content, 0o755)
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
