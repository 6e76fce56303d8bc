// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package join

import (
	"fmt"
	"syscall"
)

// detached keeps a process alive when the terminal goes.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// reap tells whether a child has ended, and how, without waiting for it.
func reap(pid int) (how string, ended bool) {
	var status syscall.WaitStatus
	if got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); err != nil || got != pid {
		return "", false
	}
	if status.Signaled() {
		return "signal: " + status.Signal().String(), true
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus()), true
}
