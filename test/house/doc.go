// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package house runs the real binaries — hub, agent and CLI — as processes
// beside planes of test/env, for the demo, for tests that kill and cut, and for
// benchmarks. What it starts ends with the process that started it, however
// that ends.
package house
