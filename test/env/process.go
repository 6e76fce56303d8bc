// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one running component. It ends with us: it exits when the pipe
// that is its standard input does, which the kernel closes however we die.
type process struct {
	name Component
	log  string
	cmd  *exec.Cmd

	ended  chan struct{} // closed when it has ended and was waited for
	waiter sync.WaitGroup
}

// startProcess runs a component of devplane, appending its output to
// <dir>/<name>.log.
func startProcess(binary, dir string, name Component, args []string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, string(name)+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", name, err)
	}
	defer log.Close()
	p.cmd = exec.Command(binary, append([]string{string(name)}, args...)...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "DEVPLANE_EXIT_WITH_STDIN=1", "GOGC=300", "HOME="+dir)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// Its own group, so that Ctrl-C reaches us first and we stop it in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.waiter.Go(func() {
		_ = p.cmd.Wait() // how it ended stands in its log
		close(p.ended)
	})
	return p, nil
}

// stop asks the process to end, kills it after grace, and returns when it is gone.
func (p *process) stop(grace time.Duration) {
	if grace > 0 {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-p.ended:
		case <-timer.C:
		}
	}
	_ = p.cmd.Process.Kill()
	p.waiter.Wait()
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// until polls ready every few milliseconds until it is nil, and gives up when
// ctx ends or the process does.
func (p *process) until(ctx context.Context, ready func(context.Context) error) error {
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready; the end of %s:\n%s", p.name, p.log, tail(p.log, 30))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; the end of %s:\n%s", p.name, errors.Join(context.Cause(ctx), err), p.log, tail(p.log, 30))
		case <-ticker.C:
		}
	}
}

// tail returns the last lines of a file, or why it cannot be read.
func tail(file string, lines int) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
