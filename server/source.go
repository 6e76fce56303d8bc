// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"sync"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/internal/workrules"
	"fairlead.dev/fairlead/server/session"
	"fairlead.dev/fairlead/server/store"
)

// source implements session.Source over the index's view of one cluster.
type source struct {
	*house
	view    store.View
	cluster string
}

// config is the cluster's configuration; false when the cluster is not known.
// One that asks for nothing is no entry: an agent that has never had another need
// not hear of it, and one that has is sent it because it names it.
func (s source) config() (wire.ClusterConfig, bool) {
	admission := s.admission.Load()
	if admission == nil {
		return wire.ClusterConfig{}, false
	}
	return admission.clusters.Config(context.Background(), s.cluster) // a look into the cache
}

// Get implements session.Source.
func (s source) Get(key wire.Key) (session.Object, bool) {
	if key == wire.ConfigKey() {
		config, ok := s.config()
		revision, _ := config.Encode()
		return session.Object{Revision: revision, Finalizer: true, PackedSize: int(revision.Size)}, ok //nolint:gosec // it was in memory
	}
	work, ok := s.view.Get(key)
	if !ok {
		return session.Object{}, false
	}
	object := session.Object{Revision: work.Revision, Deleting: work.Deleting, Finalizer: work.Finalizer, PackedSize: work.PackedSize}
	if !work.Deleting {
		if size := s.tooLarge(key, work); size > 0 {
			object.Undeliverable = reason.ObjectTooLarge
			object.Why = fmt.Sprintf("its manifests are %d bytes, the limit is %d: split it into several works", size, s.sizes.limit)
		}
	}
	return object, true
}

// Content implements session.Source.
func (s source) Content(key wire.Key) (session.Content, bool) {
	if key == wire.ConfigKey() {
		config, ok := s.config()
		revision, raw := config.Encode()
		return session.Content{Revision: revision, Encoding: agentv1.Encoding_ENCODING_IDENTITY, Bytes: raw, Finalizer: true}, ok
	}
	content, ok, err := s.view.Content(key)
	if err != nil {
		s.log.Error("the index cannot unpack a work", "key", key, "error", err)
		return session.Content{}, false
	}
	encoding := agentv1.Encoding_ENCODING_IDENTITY
	if content.Zstd {
		encoding = agentv1.Encoding_ENCODING_ZSTD
	}
	return session.Content{
		Revision: content.Revision, Encoding: encoding, Bytes: content.Bytes,
		Deleting: content.Deleting, Finalizer: content.Finalizer,
	}, ok
}

// Entries implements session.Source.
func (s source) Entries() []wire.Entry {
	entries := s.view.Entries()
	if config, ok := s.config(); ok && !config.IsZero() {
		revision, _ := config.Encode()
		entries = append(entries, wire.Entry{Key: wire.ConfigKey(), Revision: revision})
	}
	return entries
}

// Summary implements session.Source. Clusters with a configuration have theirs
// computed each time that it is asked for: at Hello, and by anti-entropy.
func (s source) Summary() session.Summary {
	summary := session.Summary(s.view.Summary())
	if config, ok := s.config(); ok && !config.IsZero() {
		entries := s.Entries()
		summary.Root, summary.Count = wire.Summarize(entries).Root(), len(entries)
	}
	return summary
}

// HighWater implements session.Source.
func (s source) HighWater() wire.HighWater { return s.highWater() }

// provenMark is a mark with its proof, made once per resourceVersion and hub
// epoch however many sessions tell it.
type provenMark struct {
	rv    uint64
	epoch string
	mark  wire.HighWater
}

func (h *house) highWater() wire.HighWater {
	rv := h.index.HighWater()
	if rv == 0 {
		return wire.HighWater{}
	}
	epoch := h.shared.Load().Epoch
	if known := h.mark.Load(); known != nil && known.rv == rv && known.epoch == epoch {
		return known.mark
	}
	proven := &provenMark{rv: rv, epoch: epoch, mark: wire.ProveHighWater(h.hub.HMACKey, markScope(h.hub.ID, epoch), rv)}
	h.mark.Store(proven)
	return proven.mark
}

// manifestSizes holds works against --manifest-limit where no webhook did. Only
// works that could be over it are looked into, and each content once.
type manifestSizes struct {
	limit int
	mu    sync.Mutex
	known map[wire.Digest]int // bytes of the manifests; 0 is few enough
}

// maxKnownSizes bounds the memory of manifestSizes; large works are rare.
const maxKnownSizes = 4096

// tooLarge is how many bytes of manifests a work has, if they are too many; else 0.
func (s source) tooLarge(key wire.Key, work store.Work) int {
	m := &s.sizes
	if m.limit <= 0 || work.Size <= uint64(m.limit) {
		return 0 // all of it is smaller than what its manifests may be
	}
	m.mu.Lock()
	size, known := m.known[work.Digest]
	m.mu.Unlock()
	if known {
		return size
	}
	content, ok, err := s.view.Content(key)
	if err != nil || !ok || content.Revision.Digest != work.Digest {
		return 0 // asked again when it is sent
	}
	size, err = manifestBytes(content)
	if err != nil {
		s.log.Error("the manifests of a work cannot be measured", "key", key, "error", err)
		return 0
	}
	if size <= m.limit {
		size = 0
	}
	m.remember(work.Digest, size)
	return size
}

func (m *manifestSizes) remember(digest wire.Digest, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= maxKnownSizes {
		m.known = map[wire.Digest]int{}
	}
	m.known[digest] = size
}

// manifestBytes is the sum of the manifests' JSON (WH-16).
func manifestBytes(content store.Content) (int, error) {
	raw := content.Bytes
	if content.Zstd {
		unpacker, err := codec.New(content.Revision.Size)
		if err != nil {
			return 0, err
		}
		if raw, err = unpacker.Decompress(raw, content.Revision.Size); err != nil {
			return 0, err
		}
	}
	var work workrules.Work
	if err := workrules.Decode(raw, &work); err != nil {
		return 0, fmt.Errorf("reading a work: %w", err)
	}
	return work.Spec.Size(), nil
}
