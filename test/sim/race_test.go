// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build race

package sim

// defaultSeeds is small with the race detector: it takes ten times as long, and
// there is one goroutine to a run.
const defaultSeeds = 30
