// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"fairlead.dev/fairlead/agent/store/hold"
	"fairlead.dev/fairlead/internal/wire"
)

// Verdict is what became of a delete that the hub sent.
type Verdict int

// Verdicts of Remove. Each is durable.
const (
	// Stored: the delete is recorded, and will be or was carried out.
	Stored Verdict = iota
	// HeldBack: it is recorded and waits for a person.
	HeldBack
	// OtherUID: another object of that name is held; nothing was done.
	OtherUID
	// Unknown: the object is not held, so there is nothing to do.
	Unknown
)

// Put stores content that has the digest of its revision. It takes the place
// of what was held under the key, a delete included.
func (s *Store) Put(ctx context.Context, key wire.Key, rev wire.Revision, content []byte) error {
	leave, err := s.gates.one(ctx, key)
	if err != nil {
		return err
	}
	defer leave()
	s.mu.Lock()
	item := s.book.Put(key, rev, s.cfg.Clock.Now())
	s.mu.Unlock()
	if item.Prune != nil {
		s.cfg.Log.Warn("content is stored, but its prune is held until it is released", "object", key, "reason", item.Prune.Reason, "generation", rev.Generation)
	}
	if err := s.save(ctx, key, item, s.codec.Compress(content)); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.book.Older, key) // delivered under the epoch of now
	s.mu.Unlock()
	return nil
}

// Request records that the hub's object of that UID is being deleted.
func (s *Store) Request(ctx context.Context, key wire.Key, uid string, generation int64) (Verdict, error) {
	leave, err := s.gates.one(ctx, key)
	if err != nil {
		return 0, err
	}
	defer leave()
	s.mu.Lock()
	item, ok := s.book.Request(key, uid, generation, s.cfg.Clock.Now())
	body := s.bodies[key]
	s.mu.Unlock()
	if !ok {
		return OtherUID, nil
	}
	return Stored, s.save(ctx, key, item, body)
}

// Orphan records that the hub proved to have no object of that UID; batch is
// the group that the hub announced it in.
func (s *Store) Orphan(ctx context.Context, key wire.Key, uid, batch string) (Verdict, error) {
	leave, err := s.gates.all(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	s.mu.Lock()
	old, had := s.book.Items[key]
	changed := s.book.Orphan(key, uid, batch, s.cfg.Clock.Now(), s.grace)
	s.mu.Unlock()
	if !had {
		return Unknown, nil
	}
	if old.UID() != uid {
		return OtherUID, nil
	}
	if err := s.saveAll(ctx, changed); err != nil {
		return 0, err
	}
	s.nudge()
	s.mu.Lock()
	item := s.book.Items[key]
	s.mu.Unlock()
	if item.Deletion != nil && item.Deletion.State == hold.Held {
		s.cfg.Log.Warn("a delete is held until it is released", "object", key, "reason", item.Deletion.Reason)
		return HeldBack, nil
	}
	return Stored, nil
}

// Forget drops an object whose requested delete is finished on both sides.
// Another UID, or an object that is not being deleted, stays.
func (s *Store) Forget(ctx context.Context, key wire.Key, uid string) error {
	done := func(item hold.Item) bool {
		return item.UID() == uid && item.Deletion != nil && item.Deletion.State == hold.Requested
	}
	s.mu.Lock()
	found, stale := done(s.book.Items[key]), s.metaStale
	s.mu.Unlock()
	if found && stale {
		// The record may be all that has the newest mark. Without it, a replica that
		// does not know of the delete yet would bring the object back.
		if err := s.writeMeta(ctx); err != nil {
			return err
		}
	}
	return s.drop(ctx, key, done)
}

// Removed drops an object whose orphan delete was carried out, and counts it.
func (s *Store) Removed(ctx context.Context, key wire.Key, uid string) error {
	now := s.cfg.Clock.Now()
	done := func(item hold.Item) bool {
		return item.UID() == uid && item.Deletion.Orphan() && item.Deletion.DueAt(now)
	}
	s.mu.Lock()
	found := done(s.book.Items[key])
	if found {
		s.book.Finish(now)
	}
	s.mu.Unlock()
	if !found {
		return nil
	}
	if err := s.writeMeta(ctx); err != nil {
		return err
	}
	return s.drop(ctx, key, done)
}

// Release lets a held batch go; an id that is not held releases nothing.
func (s *Store) Release(ctx context.Context, id string) error {
	leave, err := s.gates.all(ctx)
	if err != nil {
		return err
	}
	defer leave()
	s.mu.Lock()
	changed := s.book.Release(id, s.cfg.Clock.Now())
	s.mu.Unlock()
	s.cfg.Log.Info("a held batch is released", "batch", id, "objects", len(changed))
	return s.saveAll(ctx, changed)
}

// Drop forgets an object that there is nothing left to do about, if it is still
// of that revision.
func (s *Store) Drop(ctx context.Context, key wire.Key, rev wire.Revision) error {
	return s.drop(ctx, key, func(item hold.Item) bool { return item.Revision.Same(rev) })
}

func (s *Store) drop(ctx context.Context, key wire.Key, wanted func(hold.Item) bool) error {
	leave, err := s.gates.one(ctx, key)
	if err != nil {
		return err
	}
	defer leave()
	s.mu.Lock()
	item, had := s.book.Items[key]
	s.mu.Unlock()
	if !had || !wanted(item) {
		return nil
	}
	if err := s.cfg.Backend.RemoveRecord(ctx, key); err != nil {
		return err
	}
	s.mu.Lock()
	s.book.Unsure(key, false)
	delete(s.book.Items, key)
	delete(s.book.Older, key)
	delete(s.bodies, key)
	s.mu.Unlock()
	s.tell(key, item.Held(), false)
	return nil
}

// saveAll writes new states of objects; their content stays. The order is
// always the same, so that what a crash in between leaves can be replayed.
func (s *Store) saveAll(ctx context.Context, changed map[wire.Key]hold.Item) error {
	for _, key := range slices.SortedFunc(maps.Keys(changed), wireKeyOrder) {
		item := changed[key]
		s.mu.Lock()
		body := s.bodies[key]
		s.mu.Unlock()
		if err := s.save(ctx, key, item, body); err != nil {
			return err
		}
	}
	return nil
}

// save makes one object's new state durable, then visible. The caller has the
// key's gate.
func (s *Store) save(ctx context.Context, key wire.Key, item hold.Item, body []byte) error {
	s.mu.Lock()
	hub := s.mark()
	s.mu.Unlock()
	raw, err := encodeHead(item, hub)
	if err != nil {
		return fmt.Errorf("encoding the record of %s: %w", key, err)
	}
	if err := s.cfg.Backend.PutRecord(ctx, Record{Key: key, Head: raw, Body: body}); err != nil {
		s.mu.Lock()
		s.book.Unsure(key, true)
		s.mu.Unlock()
		return err
	}
	s.mu.Lock()
	s.book.Unsure(key, false)
	old := s.book.Items[key]
	s.book.Items[key] = item
	if body != nil {
		s.bodies[key] = body
	}
	s.mu.Unlock()
	s.tell(key, old.Held(), item.Held())
	return nil
}

// tell calls back, with no lock held.
func (s *Store) tell(key wire.Key, wasHeld, isHeld bool) {
	s.cfg.Changed(key)
	if wasHeld || isHeld {
		s.cfg.HeldChanged()
	}
}

func (s *Store) mark() mark {
	high := s.book.High
	return mark{Epoch: s.book.Epoch, RV: high.ResourceVersion, Proof: high.Proof}
}
