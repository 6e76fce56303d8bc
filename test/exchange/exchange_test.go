// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package exchange tests that what an agent holds becomes what the hub has, with
// the code of both sides: server/session compares, agent/link answers and stores.
package exchange

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/agent/link"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

// FuzzExchange begins a session between a hub and an agent that have any two sets
// of works. Two round trips tell what differs, and after the third they have the
// same, or later if that is more content than a session sends ahead (turns);
// nothing was sent that was the same before, and nothing twice; an orphan is
// deleted only if it is gone for good, and anything else only if its delete was
// asked for.
func FuzzExchange(f *testing.F) {
	c, err := codec.New(wire.MaxObject)
	require.NoError(f, err)
	f.Add([]byte{}, uint16(0))
	f.Add([]byte{}, uint16(500))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8}, uint16(10))
	f.Add([]byte{8, 7, 6, 5, 4, 3, 2, 1, 0, 0xf8, 0xf9, 0xfa}, uint16(300))
	f.Add([]byte(strings.Repeat("\x01", 600)), uint16(0))
	f.Add([]byte(strings.Repeat("\x04\x05", 200)), uint16(64))
	f.Add([]byte(strings.Repeat("\xfd", 1000)), uint16(0))
	f.Add([]byte(strings.Repeat("\xfd\x06", 500)), uint16(0))
	f.Add([]byte(strings.Repeat("\x01\x01\x06", 333)), uint16(0))
	f.Fuzz(func(t *testing.T, states []byte, alike uint16) {
		w := newWorld(t, c, states[:min(len(states), 1000)], int(alike)%2000)
		w.connect()
		for w.trip() {
			require.LessOrEqual(t, w.trips, asked+w.turns(), "round trips")
		}
		w.requireEqual()
	})
}

// A state is how one work is on both sides before.
const (
	alike        = iota
	missing      // the agent never had it
	older        // the agent has an older generation
	recreated    // the agent has the object before it of that name
	orphan       // the hub has it no more
	lagging      // the hub has it, and its index does not know yet
	deleting     // its delete was asked for, and the agent does not know
	deleteUnseen // the same, and the agent never had it
	deleteKnown  // its delete was asked for, and the agent knows
	states
)

// world is a hub and an agent, in one session.
type world struct {
	t     *testing.T
	codec *codec.Codec
	hub   *index
	store *store
	core  *session.Core
	steps *link.Steps
	link  *link.Link
	now   time.Time

	before map[wire.Key]int // states
	trips  int
	sent   map[wire.Key]*agentv1.ObjectChange
	cost   int // of what was sent, in bytes
}

// asked is how many round trips tell what differs: of buckets, then of entries.
const asked = 2

// turns is how many round trips what was sent so far takes, if a session begins
// with 64 KiB on its way, fills that to within one work, and then allows as much
// more as it sent above half of it (docs/adr/0008-pace.md).
func (w *world) turns() int {
	n, limit := 1, 64<<10
	for all := limit - largest; all < w.cost; n++ {
		limit += limit/2 - largest
		all += limit - largest
	}
	return n
}

const (
	// largest is what the largest work takes, in bytes.
	largest = 256/states*200 + overhead + 8
	// overhead is what a session counts for a change beside its content.
	overhead = 192
)

func newWorld(t *testing.T, c *codec.Codec, each []byte, same int) *world {
	t.Helper()
	w := &world{
		t: t, codec: c, hub: &index{codec: c, works: map[wire.Key]work{}}, store: &store{held: map[wire.Key]wire.Revision{}},
		now: time.Now(), before: map[wire.Key]int{}, sent: map[wire.Key]*agentv1.ObjectChange{},
	}
	for i, b := range each {
		w.put(i, int(b)%states, int(b)/states)
	}
	for i := range same {
		w.put(len(each)+i, alike, i%5)
	}
	return w
}

// put makes a work of some size as it is before.
func (w *world) put(i, state, size int) {
	key := wire.Key{Kind: wire.KindWork, Name: fmt.Sprintf("w%d", i)}
	content := fmt.Appendf(nil, "%d%s", i, strings.Repeat("x", 200*size))
	o := work{content: content, rev: wire.Revision{
		UID: fmt.Sprintf("uid-%d", i), Generation: 2, Digest: sha256.Sum256(content), Size: uint64(len(content)), ResourceVersion: "7",
	}}
	theirs := o.rev
	w.before[key] = state
	switch state {
	case older:
		theirs.Generation, theirs.Digest = 1, wire.Digest{1}
	case recreated:
		theirs.UID, theirs.Digest = "uid-before", wire.Digest{2}
	case deleting, deleteUnseen, deleteKnown:
		o.deleting = true
		o.rev.Generation, o.rev.Digest = 3, wire.DeletingDigest(o.rev.UID)
		if state == deleteKnown {
			theirs = o.rev
		}
	}
	if state != orphan && state != lagging {
		w.hub.works[key] = o
	}
	if state != missing && state != deleteUnseen {
		w.store.held[key] = theirs
	}
}

// connect says Hello, and takes Welcome.
func (w *world) connect() {
	w.t.Helper()
	var err error
	w.link, err = link.New(link.Config{
		Endpoints: []string{"x"}, Credentials: noCredentials{}, Store: w.store, Hub: w.store, Log: slog.New(slog.DiscardHandler),
		Identity: link.Identity{InstanceID: "i"}, Codec: w.codec, StoreParallel: 1, Window: link.Window{Bytes: 16 << 20, Objects: 4096},
	})
	require.NoError(w.t, err)
	w.core = session.New(session.Config{Hub: &session.Hub{Replica: "r", ID: "hub", Epoch: "e"}, SessionID: "s", Epoch: 1}, w.hub)
	w.step(session.Hello{Message: w.link.Hello()})
	w.steps, err = w.link.Begin(w.t.Context(), w.core.Next(w.now))
	require.NoError(w.t, err)
}

// trip brings all that the hub has to say to the agent, and its answers back;
// false if there was nothing.
func (w *world) trip() bool {
	w.t.Helper()
	said := false
	for m := w.core.Next(w.now); m != nil; m = w.core.Next(w.now) {
		said = true
		if m.GetInventoryRequest() != nil {
			require.Less(w.t, w.trips, asked, "asks again")
		}
		w.note(m.GetDelta())
		require.NoError(w.t, w.steps.Receive(m))
	}
	for did, err := w.steps.Work(w.t.Context()); did; did, err = w.steps.Work(w.t.Context()) {
		require.NoError(w.t, err)
	}
	for m, _ := w.steps.Next(); m != nil; m, _ = w.steps.Next() {
		w.step(session.Frame{Message: m})
	}
	w.step(session.Tick{})
	if said {
		w.trips++
	}
	return said
}

// note takes down what is sent, once, and what a session counts for it.
func (w *world) note(delta *agentv1.Delta) {
	for _, change := range delta.GetChanges() {
		key := wire.KeyOf(change.GetKey())
		if u := change.GetUpsert(); u.GetPart() == 0 {
			require.NotContains(w.t, w.sent, key, "sent twice")
		}
		w.sent[key] = change
		w.cost += overhead + len(change.GetUpsert().GetObjectJson())
		if change.GetDelete() != nil {
			w.cost += len(key.Name)
		}
	}
}

func (w *world) step(in session.Input) {
	w.t.Helper()
	for inputs := []session.Input{in}; len(inputs) > 0; inputs = inputs[1:] {
		for _, effect := range w.core.Step(w.now, inputs[0]) {
			switch e := effect.(type) {
			case session.ReadQuorum:
				inputs = append(inputs, w.quorum(e))
			case session.Close:
				require.Fail(w.t, "the session ends", "%+v", e)
			}
		}
	}
}

// quorum is what the apiserver itself has.
func (w *world) quorum(read session.ReadQuorum) session.QuorumAnswer {
	o, found := w.hub.works[read.Key]
	if w.before[read.Key] == lagging {
		return session.QuorumAnswer{Read: read, Found: true, UID: w.store.held[read.Key].UID, Generation: 2, ResourceVersion: "8"}
	}
	return session.QuorumAnswer{Read: read, Found: found, UID: o.rev.UID, Generation: o.rev.Generation, Deleting: o.deleting, ResourceVersion: "8"}
}

func (w *world) requireEqual() {
	w.t.Helper()
	for key, state := range w.before {
		held, holds := w.store.held[key]
		change := w.sent[key]
		switch state {
		case alike, deleteKnown, lagging:
			require.Nil(w.t, change, "%s is the same on both sides, or not known to be otherwise", key)
		case missing, older, recreated:
			require.NotNil(w.t, change.GetUpsert(), key)
		case orphan:
			require.Equal(w.t, agentv1.DeleteReason_DELETE_REASON_ORPHAN, change.GetDelete().GetReason(), key)
			require.NotEmpty(w.t, change.GetDelete().GetProofResourceVersion(), "no delete without proof")
			require.False(w.t, holds)
		case deleting, deleteUnseen:
			require.Equal(w.t, agentv1.DeleteReason_DELETE_REASON_REQUESTED, change.GetDelete().GetReason(), key)
		}
		if has, ok := w.hub.works[key]; ok {
			require.True(w.t, has.rev.Same(held), "%s: the hub has %+v, the agent %+v", key, has.rev, held)
		} else if state == lagging {
			require.True(w.t, holds, "%s lives", key)
		}
	}
	require.Len(w.t, w.before, len(w.hub.works)+count(w.before, orphan)+count(w.before, lagging))
}

func count(before map[wire.Key]int, state int) (n int) {
	for _, s := range before {
		if s == state {
			n++
		}
	}
	return n
}

// work is one object on the hub.
type work struct {
	rev      wire.Revision
	content  []byte
	deleting bool
}

// index is the hub's; it implements session.Source.
type index struct {
	codec *codec.Codec
	works map[wire.Key]work
}

func (x *index) Get(key wire.Key) (session.Object, bool) {
	o, ok := x.works[key]
	return session.Object{Revision: o.rev, Deleting: o.deleting, Finalizer: true}, ok
}

func (x *index) Content(key wire.Key) (session.Content, bool) {
	o, ok := x.works[key]
	packed, compressed := x.codec.Pack(o.content)
	encoding := agentv1.Encoding_ENCODING_IDENTITY
	if compressed {
		encoding = agentv1.Encoding_ENCODING_ZSTD
	}
	return session.Content{Revision: o.rev, Encoding: encoding, Bytes: packed, Deleting: o.deleting, Finalizer: true}, ok
}

func (x *index) Entries() []wire.Entry {
	entries := make([]wire.Entry, 0, len(x.works))
	for key, o := range x.works {
		entries = append(entries, wire.Entry{Key: key, Revision: o.rev})
	}
	return entries
}

func (x *index) Summary() session.Summary {
	return session.Summary{Root: wire.Summarize(x.Entries()).Root(), Count: len(x.works)}
}

func (x *index) HighWater() wire.HighWater { return wire.HighWater{ResourceVersion: 9} }

// store is what the agent holds; it implements link.Store and link.Hub.
type store struct{ held map[wire.Key]wire.Revision }

func (s *store) Snapshot() link.Snapshot {
	snapshot := link.Snapshot{StoreEpoch: "store", HubEpoch: "e"}
	for key, rev := range s.held {
		snapshot.Entries = append(snapshot.Entries, wire.Entry{Key: key, Revision: rev})
	}
	return snapshot
}

func (s *store) Put(_ context.Context, key wire.Key, rev wire.Revision, _ []byte) error {
	s.held[key] = rev
	return nil
}

func (s *store) Delete(_ context.Context, d link.Delete) (link.Verdict, error) {
	held, ok := s.held[d.Key]
	switch {
	case ok && held.UID != d.Revision.UID:
		return link.DeleteOtherUID, nil
	case d.Orphan:
		delete(s.held, d.Key)
	default:
		rev := d.Revision
		rev.Digest = wire.DeletingDigest(rev.UID)
		s.held[d.Key] = rev
	}
	return link.DeleteStored, nil
}

func (s *store) Forget(context.Context, wire.Key, string) error { return nil }
func (s *store) Welcomed(context.Context, link.Welcome) error   { return nil }
func (s *store) Marked(wire.HighWater)                          {}
func (s *store) Synced(context.Context, []wire.Key) error       { return nil }
func (s *store) Release(context.Context, string) error          { return nil }

// noCredentials are those of a link that is never dialled.
type noCredentials struct{ link.Credentials }

func (noCredentials) TrustVersion() uint64 { return 0 }
