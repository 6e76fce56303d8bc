// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build race

package house

// buildFlags: who is watched for races watches the processes as well.
func buildFlags() []string { return []string{"build", "-race"} }
