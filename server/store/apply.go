// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"strconv"

	"fairlead.dev/fairlead/internal/wire"
)

// cluster is what the index has of one cluster. It lives while there are works
// or subscribers.
type cluster struct {
	works       map[string]*record
	subscribers []*subscriber[Mark] // copied on write
	// version rises with every change; a summary computed without the lock
	// counts only if it has not moved.
	version                uint64
	summary                Summary
	rootKnown, statusKnown bool
}

// cluster returns the cluster of that name, made if needed. The lock is held.
func (s *shard) cluster(name string) *cluster {
	c, ok := s.clusters[name]
	if !ok {
		c = &cluster{works: map[string]*record{}}
		s.clusters[name] = c
	}
	return c
}

// drop forgets a cluster that has become empty. The lock is held.
func (s *shard) drop(name string, c *cluster) {
	if len(c.works) == 0 && len(c.subscribers) == 0 {
		delete(s.clusters, name)
	}
}

// changed makes the caches forget what old → fresh changes; either may be nil.
func (c *cluster) changed(old, fresh *record) {
	c.version++
	if old == nil || fresh == nil || !old.delivers(fresh) {
		c.rootKnown = false
	}
	if old == nil || fresh == nil || old.uid != fresh.uid || old.status != fresh.status {
		c.statusKnown = false
	}
}

// How an object came to the index.
type origin int

const (
	watched  origin = iota // by the watch: newer than what is known, else ignored
	restored               // by a list of a restored hub: right, though older
	written                // as the answer to a write: never makes a new record
)

// put takes in one object. session is the serial of the Grant that wrote it.
func (x *Index) put(s *wire.Scanned, from origin, session uint64) {
	if from != restored && x.known(s, from, session) {
		return
	}
	held := (*spec)(nil)
	if len(s.Spec) > 0 {
		held = x.specs.take(s.Spec, x.codec)
	}
	fresh := newRecord(s, held)
	fresh.session = session
	if from != written {
		fresh.listed = x.listing // only Run may read that
	}
	old, marked, ok := x.replace(s, fresh, from)
	if ok {
		if len(marked) > 0 && !s.Deleting && s.Size() < packFrom && (old == nil || !old.delivers(fresh)) {
			x.recent.put(s.Digest, s.Delivered())
		}
		change := Change{
			Cluster: s.Namespace, Name: s.Name, UID: s.UID,
			StatusOnly: old != nil && old.delivers(fresh), Expires: s.Expires, ReplicaSet: fresh.of(),
		}
		if former := old.of(); former != change.ReplicaSet {
			change.FormerReplicaSet = former
		}
		x.tell(marked, change)
	} else {
		old = fresh
	}
	if old != nil && old.spec != nil {
		x.specs.release(old.spec)
	}
}

// known tells that the index has this state of the object or a newer one, and
// notes that it was seen.
func (x *Index) known(s *wire.Scanned, from origin, session uint64) bool {
	shard := x.shard(s.Namespace)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	c, ok := shard.clusters[s.Namespace]
	if !ok {
		return false
	}
	have, ok := c.works[s.Name]
	if !ok || have.resourceVersion < s.ResourceVersion {
		return false
	}
	if from != written {
		have.listed = x.listing
	} else if have.resourceVersion == s.ResourceVersion {
		have.session = session
	}
	return true
}

// replace puts fresh where s says, and returns what was there and whom to tell.
func (x *Index) replace(s *wire.Scanned, fresh *record, from origin) (old *record, marked []*subscriber[Mark], ok bool) {
	shard := x.shard(s.Namespace)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	c := shard.cluster(s.Namespace)
	old = c.works[s.Name]
	if old != nil && from != restored && old.resourceVersion >= s.ResourceVersion {
		return nil, nil, false
	}
	if from == written {
		if old == nil || old.uid != s.UID {
			shard.drop(s.Namespace, c)
			return nil, nil, false // deleted meanwhile: the watch has told us
		}
		fresh.listed = old.listed
	}
	if !fresh.wrap(s, old) {
		delete(c.works, s.Name) // or the map would keep the old key, and with it the old envelope
		c.works[within(fresh.envelope, s.Name)] = fresh
	} else {
		c.works[s.Name] = fresh
	}
	c.changed(old, fresh)
	x.members.move(s.Namespace, s.Name, old.of(), fresh.of())
	return old, c.subscribers, true
}

// remove takes out a deleted object, unless the index knows a newer one.
func (x *Index) remove(s *wire.Scanned) {
	shard := x.shard(s.Namespace)
	shard.mu.Lock()
	c, ok := shard.clusters[s.Namespace]
	if !ok {
		shard.mu.Unlock()
		return
	}
	old, ok := c.works[s.Name]
	if !ok || old.resourceVersion > s.ResourceVersion {
		shard.mu.Unlock()
		return
	}
	marked := shard.takeOut(s.Namespace, s.Name, old)
	shard.mu.Unlock()
	x.forgotten(s.Namespace, s.Name, old, marked)
}

// takeOut removes a record and returns whom to tell. The lock is held.
func (s *shard) takeOut(clusterName, name string, old *record) []*subscriber[Mark] {
	c := s.clusters[clusterName]
	delete(c.works, name)
	c.changed(old, nil)
	s.drop(clusterName, c)
	return c.subscribers
}

func (x *Index) forgotten(clusterName, name string, old *record, marked []*subscriber[Mark]) {
	if old.spec != nil {
		x.specs.release(old.spec)
	}
	x.members.move(clusterName, name, old.of(), "") // only Run adds works, and only Run takes them out
	x.tell(marked, Change{Cluster: clusterName, Name: name, UID: old.uid, Gone: true, ReplicaSet: old.of()})
}

// sweep takes out what the list that has just ended did not have. The index
// believes a list; nobody else may take it as a proof (B4).
func (x *Index) sweep() (gone int) {
	for i := range x.shards {
		victims := x.shards[i].unlisted(x.listing)
		for _, v := range victims {
			x.forgotten(v.cluster, v.name, v.old, v.marked)
		}
		gone += len(victims)
	}
	return gone
}

// victim is a record that was taken out, and whom to tell.
type victim struct {
	cluster, name string
	old           *record
	marked        []*subscriber[Mark]
}

// unlisted takes out what a list did not have.
func (s *shard) unlisted(listing uint32) (victims []victim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for clusterName, c := range s.clusters {
		for name, r := range c.works {
			if r.listed != listing {
				victims = append(victims, victim{clusterName, name, r, s.takeOut(clusterName, name, r)})
			}
		}
	}
	return victims
}

// lookup returns the record of a work.
func (x *Index) lookup(clusterName, name string) (record, bool) {
	s := x.shard(clusterName)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.clusters[clusterName]; ok {
		if r, ok := c.works[name]; ok {
			return *r, true
		}
	}
	return record{}, false
}

func formatRV(rv uint64) string { return strconv.FormatUint(rv, 10) }
