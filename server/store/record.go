// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"strings"

	"fairlead.dev/fairlead/internal/wire"
)

// record is what the index keeps of one work, some 450 bytes with its envelope.
// The envelope is the delivered JSON around the spec; uid, and the key in the
// cluster's map, are parts of it and take no memory of their own. All but listed
// and session is immutable: a change makes a new record.
type record struct {
	envelope        string
	uid             string
	resourceVersion uint64
	generation      int64
	digest, status  wire.Digest
	spec            *spec
	split           int // the spec goes here into the envelope
	deleting        bool
	finalizer       bool
	undelivered     bool // as in wire.Scanned: the hub's condition seems to be there
	expires         bool // as there: it seems to be complete, and to end by itself

	generated *generated // of a replica set's work

	listed uint32 // number of the last full list that had it
	// session is the serial of the Grant that last read or wrote exactly this
	// resourceVersion; 0 for none.
	session uint64
}

// newRecord makes a record of a scanned object; held is its spec.
func newRecord(s *wire.Scanned, held *spec) *record {
	return &record{
		resourceVersion: s.ResourceVersion, generation: s.Generation, digest: s.Digest, status: s.Status,
		spec: held, split: len(s.Head), deleting: s.Deleting, finalizer: s.Finalizer, undelivered: s.Undelivered,
		expires: s.Expires, generated: newGenerated(s.Generated),
	}
}

// wrap gives the record its envelope, that of old where it is the same.
func (r *record) wrap(s *wire.Scanned, old *record) (shared bool) {
	if old != nil && old.uid == s.UID && old.split == r.split && len(old.envelope) == len(s.Head)+len(s.Tail) &&
		old.envelope[:old.split] == string(s.Head) && old.envelope[old.split:] == string(s.Tail) {
		r.envelope, r.uid = old.envelope, old.uid
		return true
	}
	var b strings.Builder
	b.Grow(len(s.Head) + len(s.Tail))
	b.Write(s.Head)
	b.Write(s.Tail)
	r.envelope = b.String()
	r.uid = within(r.envelope, s.UID)
	return false
}

// within is part as a piece of whole, so that it shares its memory.
func within(whole, part string) string {
	if i := strings.Index(whole, part); i >= 0 {
		return whole[i : i+len(part)]
	}
	return strings.Clone(part)
}

func (r *record) size() uint64 {
	size := uint64(len(r.envelope))
	if r.spec != nil {
		size += r.spec.size
	}
	return size
}

func (r *record) revision() wire.Revision {
	return wire.Revision{
		UID: r.uid, Generation: r.generation, Digest: r.digest,
		Size: r.size(), ResourceVersion: formatRV(r.resourceVersion),
	}
}

// delivers tells whether both are the same to an agent.
func (r *record) delivers(o *record) bool {
	return r.uid == o.uid && r.generation == o.generation && r.digest == o.digest
}
