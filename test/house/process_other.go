// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package house

import "syscall"

// dieWithParent has no means elsewhere: Stop and Kill are what ends a process.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
