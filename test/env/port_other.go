// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package env

import "syscall"

const soReusePort = syscall.SO_REUSEPORT
