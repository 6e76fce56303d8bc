// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package join

import "syscall"

// detached needs nothing where processes do not end with a terminal.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// reap cannot tell here; that the agent's health page is silent has to do.
func reap(int) (how string, ended bool) { return "", false }
