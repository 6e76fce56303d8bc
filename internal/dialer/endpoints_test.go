// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package dialer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEndpoints(t *testing.T) {
	now := time.Now()
	fail := func(e *Endpoints) bool { return e.Failed(now) }
	tests := map[string]func(t *testing.T, e *Endpoints){
		"each once, then wait": func(t *testing.T, e *Endpoints) {
			t.Helper()
			var tried []string
			for _, another := range []bool{true, true, false, true, true, false} {
				tried = append(tried, e.Current())
				require.Equal(t, another, fail(e))
			}
			require.Equal(t, []string{"a", "b", "c", "a", "b", "c"}, tried)
		},
		"what works stays": func(t *testing.T, e *Endpoints) {
			t.Helper()
			fail(e)
			e.Worked()
			for range 3 {
				require.Equal(t, "b", e.Current())
				e.Worked()
			}
		},
		"what works is lost: it goes back to the first, which was dead": func(t *testing.T, e *Endpoints) {
			t.Helper()
			fail(e)
			fail(e)
			e.Worked()
			require.True(t, fail(e))
			require.Equal(t, "a", e.Current())
			require.True(t, fail(e))
			require.Equal(t, "b", e.Current())
			require.False(t, fail(e), "all were tried")
		},
		"another one, but none that is dead": func(t *testing.T, e *Endpoints) {
			t.Helper()
			fail(e)
			e.Worked()
			e.Other(now)
			require.Equal(t, "c", e.Current())
			e.Worked()
			e.Other(now)
			require.Equal(t, "b", e.Current(), "a failed a moment ago")
			e.Worked()
			e.Other(now.Add(badFor))
			e.Worked()
			e.Other(now.Add(badFor))
			require.Equal(t, "a", e.Current(), "it may be back")
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, NewEndpoints([]string{"a", "b", "c"})) })
	}
	alone := NewEndpoints([]string{"a"})
	alone.Other(now)
	require.False(t, fail(alone))
	require.Equal(t, "a", alone.Current())
}
