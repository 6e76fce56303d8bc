// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"fairlead.dev/fairlead/test/scale/stat"
)

// Process is a running child, seen from its parent. Its methods may be called
// concurrently, and then wait for each other.
type Process struct {
	name    string
	log     string
	cmd     *exec.Cmd
	stdin   io.Closer
	logFile *os.File

	mu      sync.Mutex
	encoder *json.Encoder
	decoder *json.Decoder
}

// Start runs this very program again with arguments. Its log goes to
// dir/name.log. When ctx ends, the child is killed.
func Start(ctx context.Context, dir, name string, arguments ...string) (*Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Process{name: name, log: filepath.Join(dir, name+".log"), cmd: exec.CommandContext(ctx, program, arguments...)}
	if p.logFile, err = os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	p.cmd.Stderr = p.logFile
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdin, p.encoder, p.decoder = stdin, json.NewEncoder(stdin), json.NewDecoder(stdout)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is the file with its standard error.
func (p *Process) Log() string { return p.log }

// Call sends a request and waits for the answer, which goes to result if that is
// not nil.
func (p *Process) Call(do string, argument, result any) error {
	raw, err := json.Marshal(argument)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.encoder.Encode(request{Do: do, Argument: raw}); err != nil {
		return fmt.Errorf("asking %s to %s: %w; its log is %s", p.name, do, err, p.log)
	}
	var r reply
	if err := p.decoder.Decode(&r); err != nil {
		return fmt.Errorf("%s did not answer to %s: %w; its log is %s", p.name, do, err, p.log)
	}
	if r.Error != "" {
		return fmt.Errorf("%s: %s: %s", p.name, do, r.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(r.Result, result)
}

// CPU is what it has used so far.
func (p *Process) CPU() (used time.Duration, err error) { return used, p.Call("cpu", None{}, &used) }

// Usage is the memory of a process, as the kernel and as the process see it.
type Usage struct {
	stat.Memory
	Heap
}

// RSS is what of it is in memory now.
func (p *Process) RSS() (int64, error) {
	memory, err := stat.ReadMemory(p.PID())
	return memory.RSS, err
}

// Collect has it give back what it does not need, and tells what is left.
func (p *Process) Collect() (u Usage, err error) {
	if err := p.Call("collect", None{}, &u.Heap); err != nil {
		return u, err
	}
	u.Memory, err = stat.ReadMemory(p.PID())
	return u, err
}

// Profile takes a profile of it.
func (p *Process) Profile(r ProfileRequest) error { return p.Call("profile", r, nil) }

// Stop closes the connection and waits for the child to end.
func (p *Process) Stop() error {
	closed := p.stdin.Close()
	err := p.cmd.Wait()
	return errors.Join(closed, err, p.logFile.Close())
}
