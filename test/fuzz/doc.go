// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command fuzz runs every fuzz target of the repository for some time, one after
// the other, which go test cannot do. It finds them by itself. It exits with 1
// if any of them failed, after printing the input and how to see it again.
package main
