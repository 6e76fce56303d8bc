// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !race

package house

func buildFlags() []string { return []string{"build"} }
