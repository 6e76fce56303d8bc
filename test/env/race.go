// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build race

package env

// Race tells whether this program has the race detector. What it builds and
// starts is to have it then as well.
const Race = true
