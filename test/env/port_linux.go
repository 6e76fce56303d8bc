// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

// soReusePort is SO_REUSEPORT, which package syscall lacks on this system.
const soReusePort = 0xf
