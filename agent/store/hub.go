// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/wire"
)

const (
	// flushEvery is how often a mark that moved without a delivery is written.
	flushEvery = 10 * time.Minute
	// flushTimeout bounds the last write when the agent ends.
	flushTimeout = 2 * time.Second
)

// Hub is what a hub says of itself when a session begins.
type Hub struct {
	ID        string
	Epoch     string
	HighWater wire.HighWater
	Grace     time.Duration
}

// Welcomed begins a session. A hub of another id than the one that filled the
// store is refused with ErrOtherHub, and nothing changes.
func (s *Store) Welcomed(ctx context.Context, hub Hub) error {
	leave, err := s.gates.all(ctx)
	if err != nil {
		return err
	}
	defer leave()
	s.mu.Lock()
	if s.hubID != "" && s.hubID != hub.ID {
		known := s.hubID
		s.mu.Unlock()
		return fmt.Errorf("%w: %q, and this hub is %q; to move the spoke, detach it there and start with an empty store", ErrOtherHub, known, hub.ID)
	}
	before := s.book.High.ResourceVersion
	restored := s.book.Welcome(hub.Epoch, hub.HighWater)
	s.metaStale = s.metaStale || s.book.High.ResourceVersion != before
	behind := s.book.Behind()
	changed := restored || s.hubID == ""
	objects := len(s.book.Items)
	s.hubID, s.grace = hub.ID, max(s.cfg.Grace, hub.Grace)
	s.mu.Unlock()
	if restored && objects > 0 {
		s.cfg.Log.Warn("the hub was restored: deletes by absence are held for what was stored before", "hubEpoch", hub.Epoch, "objects", objects)
	}
	if behind {
		s.cfg.Log.Warn("the hub knows less than it once told: deletes by absence and prunes are held", "mark", hub.HighWater.ResourceVersion)
	}
	if !changed {
		return nil
	}
	return s.writeMeta(ctx)
}

// Marked notes a mark of the running session. It becomes durable with the next
// write, or some minutes later.
func (s *Store) Marked(mark wire.HighWater) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.book.High.ResourceVersion
	s.book.Mark(mark)
	s.metaStale = s.metaStale || s.book.High.ResourceVersion != before
}

// Synced ends a sync: what the hub did not announce as an orphan is there. So
// its orphan delete is cancelled, and it belongs to the hub's epoch of now;
// failed are the keys that the hub sent and that could not be stored.
func (s *Store) Synced(ctx context.Context, failed []wire.Key) error {
	leave, err := s.gates.all(ctx)
	if err != nil {
		return err
	}
	defer leave()
	s.mu.Lock()
	changed := s.book.Confirm()
	s.mu.Unlock()
	for key := range changed {
		s.cfg.Log.Info("a delete is cancelled: the hub has the object", "object", key)
	}
	if err := s.saveAll(ctx, changed); err != nil {
		return err
	}
	s.mu.Lock()
	moved := s.book.TakeEpoch(failed)
	s.mu.Unlock()
	if !moved {
		return nil
	}
	return s.writeMeta(ctx)
}

// writeMeta writes the store's own record as it is now; one writer at a time.
func (s *Store) writeMeta(ctx context.Context) error {
	select {
	case s.metaTo <- struct{}{}:
		defer func() { <-s.metaTo }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	m := meta{StoreEpoch: s.epoch, HubID: s.hubID, Hub: s.mark(), Older: olderByEpoch(s.book.Older), Done: slices.Clone(s.book.Done)}
	s.metaStale = false
	s.mu.Unlock()
	raw, err := encodeMeta(m, s.codec)
	if err != nil {
		return fmt.Errorf("encoding the store's own record: %w", err)
	}
	if err := s.cfg.Backend.PutMeta(ctx, raw); err != nil {
		s.mu.Lock()
		s.metaStale = true
		s.mu.Unlock()
		return err
	}
	return nil
}

// Run tells Config.Changed of deletes that become due, and writes marks that
// moved, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	for {
		timer := s.cfg.Clock.NewTimer(s.Tend(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout) // the mark is worth one more write
			defer cancel()
			s.flush(last)
			return nil
		case <-s.wake:
		case <-timer.C():
		}
		timer.Stop()
	}
}

// tending is when Tend did what.
type tending struct{ told, flushed time.Time }

// Tend does what time alone asks for, and returns after what time, at most, to
// call it again. Whoever calls Run has no use for it; it is for simulations,
// which have no goroutine beside their own.
func (s *Store) Tend(ctx context.Context) time.Duration {
	now := s.cfg.Clock.Now()
	wait := s.tellDue(s.tended.told, now)
	s.tended.told = now
	if now.Sub(s.tended.flushed) >= flushEvery {
		s.flush(ctx)
		s.tended.flushed = now
	}
	return min(wait, flushEvery)
}

// tellDue tells of what became due in (after, now] and returns the time until
// the next one.
func (s *Store) tellDue(after, now time.Time) time.Duration {
	s.mu.Lock()
	keys := s.book.DueKeys(after, now)
	due, ok := s.book.NextDue(now)
	s.mu.Unlock()
	for _, key := range keys {
		s.cfg.Changed(key)
	}
	if !ok {
		return flushEvery
	}
	return due.Sub(now)
}

func (s *Store) flush(ctx context.Context) {
	s.mu.Lock()
	stale := s.metaStale
	s.mu.Unlock()
	if !stale {
		return
	}
	if err := s.writeMeta(ctx); err != nil {
		s.cfg.Log.Warn("the hub's mark could not be stored; trying again later", "error", err)
	}
}

// nudge makes Run look at due times again.
func (s *Store) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
