// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"maps"
	"slices"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

// record is what an index has of one work.
type record struct {
	object
	listed  int
	session uint64 // serial of the grant that read or wrote exactly this
}

// index is the model of server/store's works index of one replica. It implements
// session.Source.
type index struct {
	replica *replica
	works   map[string]record
	high    uint64
	summary *session.Summary
	mark    wire.HighWater
	marked  string // the epoch of mark
	// Only following the apiserver uses these.
	listing          int
	older, restoring bool
	last             sighted
}

// sighted is the newest change that the index has taken in.
type sighted struct {
	name, uid string
	rv        uint64
	gone      bool
}

type origin int

const (
	watched origin = iota
	restored
	written
)

func newIndex(r *replica) *index { return &index{replica: r, works: map[string]record{}} }

func workKey(name string) wire.Key { return wire.Key{Kind: wire.KindWork, Name: name} }

// put takes in one object, as server/store.Index.put does.
func (x *index) put(o object, from origin, serial uint64) {
	old, had := x.works[o.name]
	if had && from != restored && old.rv >= o.rv {
		if from != written {
			old.listed = x.listing
		} else if old.rv == o.rv {
			old.session = serial
		}
		x.works[o.name] = old
		return
	}
	if from == written && (!had || old.uid != o.uid) {
		return
	}
	fresh := record{object: o, listed: x.listing, session: serial}
	if from == written {
		fresh.listed = old.listed
	}
	x.works[o.name] = fresh
	x.summary = nil
	if !had || !old.revision().Same(fresh.revision()) {
		x.replica.mark(session.Marked{Key: workKey(o.name), UID: o.uid})
	}
}

// remove takes out a deleted object, unless the index knows a newer one.
func (x *index) remove(o object) {
	old, had := x.works[o.name]
	if !had || old.rv > o.rv {
		return
	}
	x.takeOut(old)
}

func (x *index) takeOut(old record) {
	delete(x.works, old.name)
	x.summary = nil
	x.replica.mark(session.Marked{Key: workKey(old.name), UID: old.uid})
}

// sweep takes out what the list that has just ended did not have.
func (x *index) sweep() {
	for _, name := range slices.Sorted(maps.Keys(x.works)) {
		if x.works[name].listed != x.listing {
			x.takeOut(x.works[name])
		}
	}
}

func (x *index) sighted(o object, gone bool) {
	if o.rv >= x.last.rv {
		x.last = sighted{o.name, o.uid, o.rv, gone}
	}
}

// wentBack tells whether a listed object shows that the apiserver was restored.
func (x *index) wentBack(o object, listed uint64) bool {
	have, ok := x.works[o.name]
	return ok && o.rv < have.rv && have.rv <= listed
}

// view is the index as one session sees it: what it reads is noted.
type view struct {
	*index
	serial uint64
}

// Get implements session.Source.
func (v view) Get(key wire.Key) (session.Object, bool) {
	r, ok := v.works[key.Name]
	if !ok {
		return session.Object{}, false
	}
	return session.Object{Revision: r.revision(), Deleting: r.deleting, Finalizer: r.finalizer, PackedSize: len(r.json)}, true
}

// Content implements session.Source.
func (v view) Content(key wire.Key) (session.Content, bool) {
	r, ok := v.works[key.Name]
	if !ok {
		return session.Content{}, false
	}
	r.session = v.serial
	v.works[key.Name] = r
	return session.Content{
		Revision: r.revision(), Encoding: agentv1.Encoding_ENCODING_IDENTITY, Bytes: r.json,
		Deleting: r.deleting, Finalizer: r.finalizer,
	}, true
}

// Entries implements session.Source.
func (x *index) Entries() []wire.Entry {
	entries := make([]wire.Entry, 0, len(x.works))
	for _, name := range slices.Sorted(maps.Keys(x.works)) {
		entries = append(entries, wire.Entry{Key: workKey(name), Revision: x.works[name].revision()})
	}
	return entries
}

// Summary implements session.Source.
func (x *index) Summary() session.Summary {
	if x.summary == nil {
		entries := x.Entries()
		var statuses []wire.Entry
		for _, e := range entries {
			if sum := x.works[e.Key.Name].statusSum; !sum.IsZero() {
				statuses = append(statuses, wire.Entry{Key: e.Key, Revision: wire.Revision{UID: e.UID, Digest: sum}})
			}
		}
		x.summary = &session.Summary{
			Root: wire.Summarize(entries).Root(), Count: len(entries), StatusRoot: wire.Summarize(statuses).Root(),
		}
	}
	return *x.summary
}

// HighWater implements session.Source.
func (x *index) HighWater() wire.HighWater {
	if x.high == 0 {
		return wire.HighWater{}
	}
	if epoch := x.replica.hub.Epoch; x.mark.ResourceVersion != x.high || x.marked != epoch {
		x.mark, x.marked = wire.ProveHighWater(secret(), scope(epoch), x.high), epoch
	}
	return x.mark
}

const hubID = "hub-1"

func secret() []byte { return []byte("the hub's secret") }

func scope(epoch string) string { return fmt.Sprintf("%s/%s", hubID, epoch) }
