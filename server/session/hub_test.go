// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

const (
	hubID     = "hub-1"
	hubEpoch  = "epoch-1"
	finalizer = true
)

// secret is what the model hub proves its marks with.
func secret() []byte { return []byte("a secret of the model hub") }

// object is one work on the model hub.
type object struct {
	uid           string
	generation    int64
	content       []byte
	deleting      bool
	finalizer     bool
	rv            uint64
	undeliverable string
}

func (o object) revision() wire.Revision {
	rev := wire.Revision{
		UID: o.uid, Generation: o.generation, Size: uint64(len(o.content)),
		Digest: sha256.Sum256(o.content), ResourceVersion: strconv.FormatUint(o.rv, 10),
	}
	if o.deleting {
		rev.Digest = wire.DeletingDigest(o.uid)
	}
	return rev
}

// hub is the model of the apiserver (truth) and of the index over it, which may
// lag. It implements session.Source from the index.
type hub struct {
	truth, index map[wire.Key]object
	rv, indexRV  uint64
	uids         int
	lagging      bool
	unreadable   map[wire.Key]bool
	marks        []session.Marked
}

func newHub() *hub {
	return &hub{truth: map[wire.Key]object{}, index: map[wire.Key]object{}, rv: 100, indexRV: 100, unreadable: map[wire.Key]bool{}}
}

func work(name string) wire.Key { return wire.Key{Kind: wire.KindWork, Name: name} }

// put creates or changes a work.
func (h *hub) put(name string, content []byte, change ...func(*object)) {
	key := work(name)
	o, ok := h.truth[key]
	if !ok {
		h.uids++
		o = object{uid: fmt.Sprintf("uid-%d", h.uids), finalizer: finalizer}
	}
	o.generation++
	o.content = content
	for _, f := range change {
		f(&o)
	}
	h.store(key, o)
}

func (h *hub) store(key wire.Key, o object) {
	h.rv++
	o.rv = h.rv
	h.truth[key] = o
	h.show(key)
}

// remove asks for deletion; without a finalizer the work is gone at once.
func (h *hub) remove(name string) {
	key := work(name)
	o, ok := h.truth[key]
	if !ok || o.deleting {
		return
	}
	if !o.finalizer {
		h.purge(name)
		return
	}
	o.deleting = true
	o.generation++
	h.store(key, o)
}

// purge makes a work vanish, whatever its finalizers.
func (h *hub) purge(name string) {
	h.rv++
	delete(h.truth, work(name))
	h.show(work(name))
}

// show lets the index see one key as it is, and marks it, unless it lags.
func (h *hub) show(key wire.Key) {
	if h.lagging {
		return
	}
	h.indexRV = h.rv
	old, had := h.index[key]
	now, has := h.truth[key]
	switch {
	case has:
		h.index[key] = now
		if had && old.uid != now.uid {
			h.marks = append(h.marks, session.Marked{Key: key, UID: old.uid})
		}
		if !had || !old.revision().Same(now.revision()) {
			h.marks = append(h.marks, session.Marked{Key: key})
		}
	case had:
		delete(h.index, key)
		h.marks = append(h.marks, session.Marked{Key: key, UID: old.uid})
	}
}

// catchUp ends a lag.
func (h *hub) catchUp() {
	h.lagging = false
	keys := maps.Clone(h.index)
	for key := range h.truth {
		keys[key] = object{}
	}
	for _, key := range slices.SortedFunc(maps.Keys(keys), func(a, b wire.Key) int { return strings.Compare(a.Name, b.Name) }) {
		h.show(key)
	}
}

// Get implements session.Source.
func (h *hub) Get(key wire.Key) (session.Object, bool) {
	o, ok := h.index[key]
	if !ok {
		return session.Object{}, false
	}
	return session.Object{Revision: o.revision(), Deleting: o.deleting, Finalizer: o.finalizer, Undeliverable: o.undeliverable}, true
}

// Content implements session.Source.
func (h *hub) Content(key wire.Key) (session.Content, bool) {
	o, ok := h.index[key]
	if !ok || h.unreadable[key] {
		return session.Content{}, false
	}
	return session.Content{
		Revision: o.revision(), Encoding: agentv1.Encoding_ENCODING_IDENTITY, Bytes: o.content,
		Deleting: o.deleting, Finalizer: o.finalizer,
	}, true
}

// Entries implements session.Source.
func (h *hub) Entries() []wire.Entry {
	entries := make([]wire.Entry, 0, len(h.index))
	for key, o := range h.index {
		entries = append(entries, wire.Entry{Key: key, Revision: o.revision()})
	}
	return entries
}

// Summary implements session.Source.
func (h *hub) Summary() session.Summary {
	entries := h.Entries()
	return session.Summary{Root: wire.Summarize(entries).Root(), Count: len(entries)}
}

// HighWater implements session.Source.
func (h *hub) HighWater() wire.HighWater { return wire.ProveHighWater(secret(), hubID, h.indexRV) }

// quorum is a read of the truth.
func (h *hub) quorum(read session.ReadQuorum) session.QuorumAnswer {
	o, ok := h.truth[read.Key]
	rv := h.rv
	if ok {
		rv = o.rv
	}
	return session.QuorumAnswer{
		Read: read, Found: ok, UID: o.uid, Generation: o.generation, Deleting: o.deleting,
		ResourceVersion: strconv.FormatUint(rv, 10),
	}
}
