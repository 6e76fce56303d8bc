// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"fairlead.dev/fairlead/agent/store/hold"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
)

// ErrOtherHub says that what is stored came from another hub than the one that
// speaks now.
var ErrOtherHub = errors.New("the store holds what another hub delivered")

// DefaultGrace is how long an orphan delete waits (MW-62).
const DefaultGrace = time.Hour

// Config is what a Store needs.
type Config struct {
	Backend Backend
	Log     *slog.Logger
	Clock   clock.Clock
	// Grace is the least time that an orphan delete waits; the hub may ask for
	// more. Zero means DefaultGrace.
	Grace time.Duration
	// Changed is told every key whose Object changed, also when its delete
	// becomes due. It must not block. May be nil.
	Changed func(wire.Key)
	// HeldChanged is told that Held has changed. It must not block. May be nil.
	HeldChanged func()
}

// Store is the durable copy. Its methods are safe for concurrent use. Those
// with a context write, and return when what they did is durable; the others
// only read memory, which holds content compressed.
type Store struct {
	cfg     Config
	codec   *codec.Codec
	gates   *gates
	metaTo  chan struct{} // held by the one who writes the meta record
	wake    chan struct{} // a new due time
	tended  tending       // only Tend uses it
	dropped []Dropped

	mu        sync.Mutex
	book      *hold.Book
	bodies    map[wire.Key][]byte
	epoch     string // of the store itself
	hubID     string
	grace     time.Duration
	metaStale bool // the mark has moved since the meta record was written
}

// Open loads the store, or makes it when it is empty.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	c, err := codec.New(wire.MaxObject)
	if err != nil {
		return nil, err
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.Changed == nil {
		cfg.Changed = func(wire.Key) {}
	}
	if cfg.HeldChanged == nil {
		cfg.HeldChanged = func() {}
	}
	s := &Store{
		cfg: cfg, codec: c, gates: newGates(), metaTo: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		book: hold.NewBook(), bodies: map[wire.Key][]byte{}, grace: cfg.Grace, tended: tending{flushed: cfg.Clock.Now()},
	}
	loaded, err := cfg.Backend.Load(ctx)
	if err != nil {
		return nil, err
	}
	s.dropped = loaded.Dropped
	fresh := s.loadMeta(loaded.Meta)
	for _, record := range loaded.Records {
		if err := s.loadRecord(ctx, record); err != nil {
			return nil, err
		}
	}
	for _, d := range s.dropped {
		cfg.Log.Warn("a damaged part of the store was dropped; the hub will send it again", "name", d.Name, "why", d.Why)
	}
	if fresh {
		if err := s.writeMeta(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// loadMeta tells whether the store starts anew. Objects without a meta record
// belong to no epoch of the hub, so that their orphans are held.
func (s *Store) loadMeta(raw []byte) (fresh bool) {
	m, err := meta{}, error(nil)
	if raw != nil {
		m, err = decodeMeta(raw, s.codec)
	}
	if raw == nil || err != nil {
		s.epoch = rand.Text()
		if err != nil {
			s.dropped = append(s.dropped, Dropped{Name: "the store's own record", Why: err.Error()})
		}
		return true
	}
	s.epoch, s.hubID = m.StoreEpoch, m.HubID
	s.book.Epoch, s.book.Done = m.Hub.Epoch, m.Done
	s.book.High = wire.HighWater{ResourceVersion: m.Hub.RV, Proof: m.Hub.Proof}
	for epoch, keys := range m.Older {
		for _, key := range keys {
			s.book.Older[wire.Key{Kind: key.Kind, Name: key.Name}] = epoch
		}
	}
	return false
}

func (s *Store) loadRecord(ctx context.Context, record Record) error {
	item, hub, err := decodeHead(record.Head)
	if err == nil && item.HasContent() {
		_, err = s.unpack(item.Revision, record.Body)
	}
	if err != nil {
		s.dropped = append(s.dropped, Dropped{Name: record.Key.String(), Why: err.Error()})
		return s.cfg.Backend.RemoveRecord(ctx, record.Key)
	}
	s.book.Items[record.Key] = item
	if item.HasContent() {
		s.bodies[record.Key] = record.Body
	}
	if hub.Epoch == s.book.Epoch && hub.RV > s.book.High.ResourceVersion {
		s.book.High = wire.HighWater{ResourceVersion: hub.RV, Proof: hub.Proof}
	}
	return nil
}

// unpack gives back the exact bytes that were delivered.
func (s *Store) unpack(rev wire.Revision, body []byte) ([]byte, error) {
	content, err := s.codec.Decompress(body, rev.Size)
	if err != nil {
		return nil, err
	}
	return content, wire.Verify(rev, content)
}

// Dropped lists what Open could not read back.
func (s *Store) Dropped() []Dropped { return slices.Clone(s.dropped) }

// Snapshot is what the store holds, as told to the hub.
type Snapshot struct {
	StoreEpoch string
	HubID      string
	HubEpoch   string
	HighWater  wire.HighWater
	Entries    []wire.Entry
}

// Snapshot describes what is held now. The caller owns it.
func (s *Store) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	snapshot := Snapshot{
		StoreEpoch: s.epoch, HubID: s.hubID, HubEpoch: s.book.Epoch, HighWater: s.book.High,
		Entries: make([]wire.Entry, 0, len(s.book.Items)),
	}
	for key, item := range s.book.Items {
		snapshot.Entries = append(snapshot.Entries, item.Entry(key))
	}
	return snapshot
}

// Delete is the state of an object's delete, as far as it matters to whoever
// applies the object. A delete that waits for its grace to end is none yet.
type Delete int

// States of a delete.
const (
	DeleteNone      Delete = iota
	DeleteRequested        // the hub's object is being deleted: remove everything, then say so
	DeleteOrphaned         // the hub has no such object and its time is over: remove everything
	DeleteHeld             // an orphan that waits for a person: leave everything
)

// Object is one object as held.
type Object struct {
	UID       string
	Revision  wire.Revision // zero when there is no content
	Content   []byte        // exactly as delivered; nil when only a delete is known
	Delete    Delete
	Orphaned  time.Time // since when it is known that the hub has no such object; zero if it has
	HoldPrune bool
}

// Get returns an object; ok is false when nothing is known of the key.
func (s *Store) Get(key wire.Key) (object Object, ok bool, err error) {
	s.mu.Lock()
	item, ok := s.book.Items[key]
	body := s.bodies[key]
	s.mu.Unlock()
	if !ok {
		return Object{}, false, nil
	}
	object = Object{UID: item.UID(), Revision: item.Revision, HoldPrune: item.Prune != nil, Delete: s.deleteState(item)}
	if item.Deletion.Orphan() {
		object.Orphaned = item.Deletion.Since
	}
	if item.HasContent() {
		if object.Content, err = s.unpack(item.Revision, body); err != nil {
			return Object{}, true, fmt.Errorf("reading %s from the store: %w", key, err)
		}
	}
	return object, true, nil
}

func (s *Store) deleteState(item hold.Item) Delete {
	d := item.Deletion
	switch {
	case d == nil:
		return DeleteNone
	case d.State == hold.Requested:
		return DeleteRequested
	case d.State == hold.Held:
		return DeleteHeld
	case d.DueAt(s.cfg.Clock.Now()):
		return DeleteOrphaned
	}
	return DeleteNone
}

// Keys lists what is held of one kind, sorted by name.
func (s *Store) Keys(kind wire.Kind) []wire.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(s.book.Items), wireKeyOrder)
	return slices.DeleteFunc(keys, func(key wire.Key) bool { return key.Kind != kind })
}

// Held lists everything that waits for a person.
func (s *Store) Held() []hold.Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.book.Batches()
}

func wireKeyOrder(a, b wire.Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}
