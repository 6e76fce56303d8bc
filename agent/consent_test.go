// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestConsent has what the spoke says, a second apart, and whether the agent goes
// on: only a clear no that lasts, after a yes, ends it.
func TestConsent(t *testing.T) {
	repeat := func(s standing, n int) []standing {
		out := make([]standing, n)
		for i := range out {
			out[i] = s
		}
		return out
	}
	for name, tc := range map[string]struct {
		reason string
		said   []standing
		over   bool
	}{
		"yes":                  {"nothing has changed", repeat(granted, 100), false},
		"no":                   {"consent is withdrawn", append(repeat(granted, 1), repeat(revoked, 4)...), true},
		"a short no":           {"somebody mends the rights", append(append(repeat(granted, 1), repeat(revoked, 3)...), granted, revoked, revoked, revoked), false},
		"never yes":            {"rights of another form, that this agent does not know", repeat(revoked, 100), false},
		"no answer":            {"an apiserver that is away withdraws nothing", append(repeat(granted, 1), repeat(unclear, 100)...), false},
		"unknown for a moment": {"an apiserver that cannot reach who knows tokens", append(repeat(granted, 1), repeat(stranger, 15)...), false},
		"unknown for long":     {"the ServiceAccount is gone", append(repeat(granted, 1), repeat(stranger, 16)...), true},
		"no, among no answers": {"they do not take the no back", append(repeat(granted, 1), revoked, unclear, unclear, revoked), true},
	} {
		t.Run(name, func(t *testing.T) {
			var said standing
			c := &consent{
				Agent: &Agent{cfg: Config{ConsentGrace: 3 * time.Second}, log: slog.New(slog.DiscardHandler)},
				ask:   func(context.Context) standing { return said },
			}
			now, over := time.Now(), false
			for _, said = range tc.said {
				require.False(t, over, tc.reason)
				over = c.look(t.Context(), now)
				now = now.Add(time.Second)
			}
			require.Equal(t, tc.over, over, tc.reason)
		})
	}
}
