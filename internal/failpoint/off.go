// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !faultinject

package failpoint

// Pass says that the process is at a point. In this build nothing happens.
func Pass(Point) {}
