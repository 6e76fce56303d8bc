// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A change costs those placements that it concerns: of 40, most sleep through it.
func TestChanges_concern_few(t *testing.T) {
	f, err := newFleet(700, 40)
	require.NoError(t, err)
	rows, err := f.measure(20)
	require.NoError(t, err)
	decided := map[string]float64{}
	for _, r := range rows {
		decided[r.what] = r.decided
	}
	require.InDelta(t, 40, decided["all 40 placements are decided for the first time"], 0)
	require.Zero(t, decided["a cluster's status is written and says the same"])
	require.Zero(t, decided["a label changes that no placement asks for"])
	for _, what := range []string{"a label changes, and the cluster leaves some placements for others", "a cluster becomes unreachable", "a score changes"} {
		require.Positive(t, decided[what], what)
		require.Less(t, decided[what], 10.0, what)
	}
}
