// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package house

import "os"

// Soak is whether the machine does nothing else, so that tests run at the scale that
// their threats name, and assert their seconds; see «make soak».
func Soak() bool { return os.Getenv("FAIRLEAD_SOAK") != "" }

// Scaled is short in CI and full in a soak.
func Scaled[T any](short, full T) T {
	if Soak() {
		return full
	}
	return short
}
