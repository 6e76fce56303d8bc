// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !race

package sim

// defaultSeeds is what CI can afford.
const defaultSeeds = 150
