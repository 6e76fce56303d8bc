// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"

	"fairlead.dev/fairlead/internal/wire"
)

// packFrom is the size in bytes from which a spec goes out compressed.
const packFrom = 4 << 10

// View reads what the index has of one cluster, always the newest. It is a
// small value; methods may be called at any time from anywhere.
type View struct {
	index   *Index
	cluster string
	session uint64
}

// Work is what the index has of one work, without its content.
type Work struct {
	wire.Revision
	// Status is the digest of its status, see wire.StatusDigest.
	Status wire.Digest
	// Deleting: it has a deletionTimestamp. Finalizer: ours is on it.
	Deleting, Finalizer bool
	// PackedSize is what its spec takes in the index.
	PackedSize int
}

// Content is one revision of one work, ready to be cut into parts.
type Content struct {
	Revision wire.Revision
	// Bytes are the delivered JSON, or its zstd form. Not to be changed.
	Bytes []byte
	Zstd  bool
	// Deleting: it has a deletionTimestamp. Finalizer: ours is on it.
	Deleting, Finalizer bool
}

// Summary is what an agent's resume state is compared with.
type Summary struct {
	// Root is over Entries, Count is their number, StatusRoot over StatusEntries.
	Root       wire.Digest
	Count      int
	StatusRoot wire.Digest
}

// View returns a view of a cluster, which need not have works.
func (x *Index) View(clusterName string) View { return View{index: x, cluster: clusterName} }

// SessionView returns the view of a session's cluster. Its Content also notes
// that this session has read the work in that very resourceVersion, so that a
// status for it needs no further look at who owns the session (PROTOCOL c7).
func (x *Index) SessionView(g Grant) View {
	return View{index: x, cluster: g.Cluster(), session: g.serial()}
}

// Get returns what the index has of a key.
func (v View) Get(key wire.Key) (Work, bool) {
	r, ok := v.record(key)
	if !ok {
		return Work{}, false
	}
	w := Work{Revision: r.revision(), Status: r.status, Deleting: r.deleting, Finalizer: r.finalizer}
	if r.spec != nil {
		w.PackedSize = len(r.spec.packed)
	}
	return w, true
}

func (v View) record(key wire.Key) (record, bool) {
	if key.Kind != wire.KindWork {
		return record{}, false
	}
	return v.index.lookup(v.cluster, key.Name)
}

// Content returns one revision of a key with its bytes.
func (v View) Content(key wire.Key) (Content, bool, error) {
	if key.Kind != wire.KindWork {
		return Content{}, false, nil
	}
	r, ok := v.read(key.Name)
	if !ok {
		return Content{}, false, nil
	}
	c := Content{Revision: r.revision(), Deleting: r.deleting, Finalizer: r.finalizer}
	var err error
	if c.Bytes, c.Zstd, err = v.index.pack(&r); err != nil {
		return Content{}, true, fmt.Errorf("content of %s in the index of cluster %q: %w", key, v.cluster, err)
	}
	return c, true, nil
}

// read is lookup that notes who read.
func (v View) read(name string) (record, bool) {
	s := v.index.shard(v.cluster)
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.clusters[v.cluster]
	if !ok {
		return record{}, false
	}
	r, ok := c.works[name]
	if !ok {
		return record{}, false
	}
	if v.session != 0 {
		r.session = v.session
	}
	return *r, true
}

// pack returns the delivered bytes of a record. A spec that is kept compressed
// goes out as it is, as one zstd frame between those of the envelope's ends: a
// decoder joins them, and one spec for many clusters is compressed only once.
func (x *Index) pack(r *record) (content []byte, zstd bool, err error) {
	head, tail := r.envelope[:r.split], r.envelope[r.split:]
	if r.spec == nil {
		return []byte(r.envelope), false, nil
	}
	if r.spec.packing == dense {
		packed := append(x.codec.Compress([]byte(head)), r.spec.packed...)
		packed = append(packed, x.codec.Compress([]byte(tail))...)
		if uint64(len(packed)) < r.size()*9/10 {
			return packed, true, nil
		}
	}
	if !r.deleting {
		if content := x.recent.get(r.digest); content != nil {
			return content, false, nil
		}
	}
	content = append(make([]byte, 0, r.size()), head...)
	if content, err = r.spec.appendTo(content, x.codec); err != nil {
		return nil, false, err
	}
	return append(content, tail...), false, nil
}

// Entries returns all keys with their revisions, in no order. The slice is the
// caller's. A deleting work has wire.DeletingDigest.
func (v View) Entries() []wire.Entry {
	entries, _ := v.collect(desiredEntry)
	return entries
}

// StatusEntries returns the works that have a status; Digest is that of the
// status, UID the work's, and nothing else is set. In no order; the caller's.
func (v View) StatusEntries() []wire.Entry {
	entries, _ := v.collect(statusEntry)
	return entries
}

func desiredEntry(name string, r *record) (wire.Entry, bool) {
	return wire.Entry{Key: workKey(name), Revision: wire.Revision{UID: r.uid, Generation: r.generation, Digest: r.digest, Size: r.size()}}, true
}

func statusEntry(name string, r *record) (wire.Entry, bool) {
	return wire.Entry{Key: workKey(name), Revision: wire.Revision{UID: r.uid, Digest: r.status}}, !r.status.IsZero()
}

// collect copies entries of one version of the cluster.
func (v View) collect(entry func(string, *record) (wire.Entry, bool)) (entries []wire.Entry, version uint64) {
	s := v.index.shard(v.cluster)
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.clusters[v.cluster]
	if !ok {
		return nil, 0
	}
	entries = make([]wire.Entry, 0, len(c.works))
	for name, r := range c.works {
		if e, ok := entry(name, r); ok {
			entries = append(entries, e)
		}
	}
	return entries, c.version
}

// Summary returns the roots and the count. They are computed when first asked
// for after a change, without holding up the watch.
func (v View) Summary() Summary {
	sum, rootKnown, statusKnown := v.cached()
	if !rootKnown {
		entries, version := v.collect(desiredEntry)
		sum.Root, sum.Count = wire.Summarize(entries).Root(), len(entries)
		v.remember(version, func(c *cluster) { c.summary.Root, c.summary.Count, c.rootKnown = sum.Root, sum.Count, true })
	}
	if !statusKnown {
		entries, version := v.collect(statusEntry)
		sum.StatusRoot = wire.Summarize(entries).Root()
		v.remember(version, func(c *cluster) { c.summary.StatusRoot, c.statusKnown = sum.StatusRoot, true })
	}
	return sum
}

func (v View) cached() (sum Summary, rootKnown, statusKnown bool) {
	s := v.index.shard(v.cluster)
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.clusters[v.cluster]
	if !ok {
		return Summary{}, true, true
	}
	return c.summary, c.rootKnown, c.statusKnown
}

// remember keeps a computed value unless the cluster has changed meanwhile.
func (v View) remember(version uint64, set func(*cluster)) {
	s := v.index.shard(v.cluster)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.clusters[v.cluster]; ok && c.version == version {
		set(c)
	}
}
