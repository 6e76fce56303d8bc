// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/store"
	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/internal/wire"
)

// Steps is what lies between the store, the link and whoever applies works, for
// simulations: the agent's own code without its goroutines.
type Steps struct {
	in  *inbound
	out *outbound
}

// NewSteps is for a store that no Agent uses.
func NewSteps(s *store.Store, log *slog.Logger) *Steps {
	return &Steps{in: &inbound{store: s, hubID: newLatch()}, out: newOutbound(s, log)}
}

// Inbound is what a link hands on what it receives to.
func (s *Steps) Inbound() interface {
	link.Store
	link.Hub
} {
	return s.in
}

// Connect names the link to which statuses go.
func (s *Steps) Connect(l *link.Link) { s.out.link.Store(l) }

// Works is what is to be applied.
func (s *Steps) Works() work.Source { return s.out }

// Report takes what came of applying.
func (s *Steps) Report(r work.Report) { s.out.Report(r) }

// Drop forgets orphans that are gone from the spoke, in the order of their
// names; false means that some have to be tried again.
func (s *Steps) Drop(ctx context.Context) (done bool) {
	removed := s.out.take()
	keys := slices.SortedFunc(maps.Keys(removed), func(a, b wire.Key) int { return strings.Compare(a.Name, b.Name) })
	done = true
	for _, key := range keys {
		if !s.out.forget(ctx, key, removed[key]) {
			s.out.drop(key, removed[key])
			done = false
		}
	}
	return done
}
