// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"maps"
	"sync"
	"time"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/internal/wire"
)

// store keeps revisions in memory; it outlives links, as the real one outlives
// processes.
type store struct {
	cluster string
	tallies *tallies

	mu       sync.Mutex
	hubEpoch string
	mark     wire.HighWater
	held     map[wire.Key]wire.Revision
	arrivals []Arrival
}

// Snapshot implements link.Store.
func (s *store) Snapshot() link.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := make([]wire.Entry, 0, len(s.held))
	for key, rev := range s.held {
		entries = append(entries, wire.Entry{Key: key, Revision: rev})
	}
	return link.Snapshot{StoreEpoch: "epoch-" + s.cluster, HubEpoch: s.hubEpoch, HighWater: s.mark, Entries: entries}
}

// Put implements link.Store.
func (s *store) Put(_ context.Context, key wire.Key, rev wire.Revision, _ []byte) error {
	s.mu.Lock()
	s.held[key] = rev
	s.arrivals = append(s.arrivals, Arrival{Cluster: s.cluster, Name: key.Name, Generation: rev.Generation, At: time.Now()})
	s.mu.Unlock()
	s.tallies.stored.Add(1)
	return nil
}

// Delete implements link.Store.
func (s *store) Delete(_ context.Context, d link.Delete) (link.Verdict, error) {
	s.mu.Lock()
	delete(s.held, d.Key)
	s.mu.Unlock()
	s.tallies.deleted.Add(1)
	return link.DeleteStored, nil
}

// Forget implements link.Store.
func (*store) Forget(context.Context, wire.Key, string) error { return nil }

// Welcomed implements link.Hub.
func (s *store) Welcomed(_ context.Context, w link.Welcome) error {
	s.mu.Lock()
	s.hubEpoch, s.mark = w.HubEpoch, w.HighWater
	s.mu.Unlock()
	s.tallies.welcomed.Add(1)
	return nil
}

// Marked implements link.Hub.
func (s *store) Marked(mark wire.HighWater) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark = mark
}

// Synced implements link.Hub.
func (s *store) Synced(context.Context, []wire.Key) error {
	s.tallies.synced.Add(1)
	return nil
}

// Release implements link.Hub.
func (*store) Release(context.Context, string) error { return nil }

// objects returns what is held.
func (s *store) objects() map[wire.Key]wire.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	objects := make(map[wire.Key]wire.Revision, len(s.held))
	maps.Copy(objects, s.held)
	return objects
}

func (s *store) takeArrivals() []Arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.arrivals
	s.arrivals = nil
	return taken
}
