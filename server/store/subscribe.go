// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"slices"
	"sync/atomic"

	"fairlead.dev/fairlead/internal/wire"
)

// Mark tells a session that what it has to deliver of a key has changed. It
// says nothing about the new state: read that when sending.
type Mark struct {
	Key wire.Key
	// Gone: the index no longer has the key. That is no proof; see QuorumGet.
	Gone bool
	// LastUID is the UID that the index has now, or had before Gone.
	LastUID string
}

// Change is one change of the index.
type Change struct {
	Cluster, Name, UID string
	// Gone: the index no longer has the work.
	Gone bool
	// StatusOnly: nothing that is delivered to an agent has changed.
	StatusOnly bool
	// Expires: the work may be complete, and then ends by itself after a time that
	// its spec says.
	Expires bool
	// ReplicaSet is the label of the ManifestWorkReplicaSet that has the work, or had
	// it before Gone; FormerReplicaSet is of the one that had it, if it is another.
	// "" for none.
	ReplicaSet, FormerReplicaSet string
}

// subscriber is one registered function. Until it ended it is called, and maybe
// once more by who is calling at that moment.
type subscriber[T any] struct {
	call  func(T)
	ended atomic.Bool
}

func notify[T any](subscribers []*subscriber[T], event T) {
	for _, s := range subscribers {
		if !s.ended.Load() {
			s.call(event)
		}
	}
}

// Register has mark called on every change of what is delivered to a cluster,
// until cancel. Changes of status alone do not mark. mark has to be O(1), must
// not block, and may run in several goroutines at once; it is called with no
// lock of the index held. Who registers first and reads then loses nothing: a
// change is either in what is read or marked (B1).
func (x *Index) Register(clusterName string, mark func(Mark)) (cancel func()) {
	sub := &subscriber[Mark]{call: mark}
	s := x.shard(clusterName)
	s.mu.Lock()
	c := s.cluster(clusterName)
	c.subscribers = append(slices.Clip(c.subscribers), sub) // a new array: others may be reading the old one
	s.mu.Unlock()
	return func() {
		sub.ended.Store(true)
		s.mu.Lock()
		defer s.mu.Unlock()
		if c, ok := s.clusters[clusterName]; ok {
			c.subscribers = without(c.subscribers, sub)
			s.drop(clusterName, c)
		}
	}
}

// Mark marks a key of a cluster that is not the index's own, for those who have
// registered.
func (x *Index) Mark(clusterName string, mark Mark) {
	s := x.shard(clusterName)
	s.mu.Lock()
	var marked []*subscriber[Mark]
	if c, ok := s.clusters[clusterName]; ok {
		marked = c.subscribers
	}
	s.mu.Unlock()
	notify(marked, mark)
}

// Subscribe has call called on every change of every cluster, status included,
// until cancel. The same rules hold as for Register.
func (x *Index) Subscribe(call func(Change)) (cancel func()) {
	sub := &subscriber[Change]{call: call}
	x.updateSubscribers(func(all []*subscriber[Change]) []*subscriber[Change] { return append(slices.Clip(all), sub) })
	return func() {
		sub.ended.Store(true)
		x.updateSubscribers(func(all []*subscriber[Change]) []*subscriber[Change] { return without(all, sub) })
	}
}

func (x *Index) updateSubscribers(update func([]*subscriber[Change]) []*subscriber[Change]) {
	x.subscribersMu.Lock()
	defer x.subscribersMu.Unlock()
	var all []*subscriber[Change]
	if p := x.subscribers.Load(); p != nil {
		all = *p
	}
	all = update(all)
	x.subscribers.Store(&all)
}

func without[T any](all []*subscriber[T], gone *subscriber[T]) []*subscriber[T] {
	return slices.DeleteFunc(slices.Clone(all), func(s *subscriber[T]) bool { return s == gone })
}

// tell calls everybody who wants to know of a change, with no lock held.
func (x *Index) tell(marked []*subscriber[Mark], change Change) {
	if !change.StatusOnly {
		notify(marked, Mark{Key: workKey(change.Name), Gone: change.Gone, LastUID: change.UID})
	}
	if all := x.subscribers.Load(); all != nil {
		notify(*all, change)
	}
}

func workKey(name string) wire.Key { return wire.Key{Kind: wire.KindWork, Name: name} }
