// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package house

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
