// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClockOffset(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	c := &agentClock{}
	told := func(after, offset time.Duration) (time.Duration, bool) {
		now = now.Add(after)
		return c.measure(now, offset)
	}
	expect := func(want, after, offset time.Duration) {
		t.Helper()
		got, due := told(after, offset)
		require.True(t, due)
		require.Equal(t, want, got)
	}
	silent := func(after, offset time.Duration) {
		t.Helper()
		_, due := told(after, offset)
		require.False(t, due)
	}

	silent(0, 10*time.Minute) // may have been long on its way
	expect(10*time.Minute-time.Millisecond, 20*time.Second, 10*time.Minute-time.Millisecond)
	silent(time.Hour, 10*time.Minute)      // as noted
	silent(20*time.Second, 30*time.Minute) // one late heartbeat
	silent(20*time.Second, 10*time.Minute)
	expect(0, 20*time.Second, 0) // NTP set it
	silent(20*time.Second, -10*time.Minute)
	silent(20*time.Second, -10*time.Minute) // once a minute at most
	expect(-10*time.Minute, time.Minute, -10*time.Minute)

	c = &agentClock{}
	expect(0, 0, 0) // the first is told at once if it is good
	silent(time.Hour, 500*time.Millisecond)
}
