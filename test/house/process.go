// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long a process may take to end after SIGTERM.
const stopGrace = 30 * time.Second

// Process is one running binary. Its output goes to a log file.
type Process struct {
	Name string
	Log  string

	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended
	err  error         // of Wait; read after done

	group sync.WaitGroup
}

// start runs a binary with its output appended to dir/name.log.
func start(dir, name, binary string, args []string, environment ...string) (*Process, error) {
	log := filepath.Join(dir, name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), environment...)
	cmd.SysProcAttr = dieWithParent()
	p := &Process{Name: name, Log: log, cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	p.group.Go(func() { p.run(out, started) })
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// run starts the process and waits for it on one thread, because the kernel
// ends the child when the thread that started it ends.
func (p *Process) run(out *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
	_ = out.Close() // a log: nothing is lost that matters
	// A test may have removed it.
	if text, err := os.ReadFile(p.Log); err == nil {
		told.look("the log of "+p.Name, text)
	}
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the process to end with SIGTERM and returns how long that took; one
// that does not end in time is killed, which is an error.
func (p *Process) Stop() (time.Duration, error) {
	began := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.done:
		return time.Since(began), nil
	case <-time.After(stopGrace):
		p.Kill()
		return time.Since(began), fmt.Errorf("%s did not end within %s of SIGTERM; its log is %s", p.Name, stopGrace, p.Log)
	}
}

// Done is closed once the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive tells whether the process runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Pause waits between two looks at what is to come about, after the n-th of them: soon
// at first, then less and less often, as looking costs both sides CPU that what is waited
// for needs. It returns early when ctx ends.
func Pause(ctx context.Context, n int) {
	const first, most = 20 * time.Millisecond, 300 * time.Millisecond
	pause := first
	for ; n > 0 && pause < most; n-- {
		pause += pause / 3
	}
	timer := time.NewTimer(min(pause, most))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
		return
	}
}

// Until calls check again and again until it gives true. It fails when ctx ends or
// one of the processes does, with the last thing that check said.
func Until(ctx context.Context, what string, check func(context.Context) (bool, error), needed ...*Process) error {
	var last error
	for n := 0; ; n++ {
		ok, err := check(ctx)
		if ok {
			return nil
		}
		if ctx.Err() == nil { // else it says no more than that
			last = err
		}
		for _, p := range needed {
			if !p.Alive() {
				return fmt.Errorf("waiting for %s: %s ended (%w); its log is %s", what, p.Name, p.err, p.Log)
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for %s: %w (last: %v)", what, ctx.Err(), last) //nolint:errorlint // it may be nil
		}
		Pause(ctx, n)
	}
}
