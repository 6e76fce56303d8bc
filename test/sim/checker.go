// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/store"
	"fairlead.dev/fairlead/agent/store/hold"
	"fairlead.dev/fairlead/agent/work"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

// checker knows everything that ever was, and fails the run as soon as something
// happens that must not.
type checker struct {
	w         *World
	revisions map[string]int  // published: in which past last
	statuses  map[string]bool // stored on the hub, in any past
	lives     map[string]*fate
	writers   map[string]uint64 // the session of the last write of a UID
}

// fate is what became of one UID.
type fate struct {
	name    string
	deleted bool // it had a deletionTimestamp
	// deletedIn is the past in which it had, plus one.
	deletedIn int
	absentAt  time.Time
	since     time.Time // it was first there
	restored  bool      // it was absent because of a restore
	// proven: the agent was told, and has stored, that it was gone before any
	// restore took it. It may act on that, whatever is restored meanwhile.
	proven   bool
	held     bool
	released bool
	at       time.Time // of the release
	ended    int       // the past whose delete the spoke carried out, plus one
	// newest is the highest generation applied, in timeline.
	newest   int64
	timeline int
	pruneOK  bool // its held prune was released
}

func newChecker(w *World) *checker {
	return &checker{w: w, revisions: map[string]int{}, statuses: map[string]bool{}, lives: map[string]*fate{}, writers: map[string]uint64{}}
}

func (c *checker) of(uid string) *fate {
	f := c.lives[uid]
	if f == nil {
		f = &fate{}
		c.lives[uid] = f
	}
	return f
}

func revisionID(uid string, generation int64, digest wire.Digest) string {
	return fmt.Sprintf("%s/%d/%x", uid, generation, digest[:8])
}

// published notes a state of the truth.
func (c *checker) published(o object) {
	rev := o.revision()
	c.revisions[revisionID(rev.UID, rev.Generation, rev.Digest)] = c.w.api.timeline + 1
	if !o.statusSum.IsZero() {
		c.statuses[fmt.Sprintf("%s %x", o.uid, o.statusSum)] = true
	}
	f := c.of(o.uid)
	f.name = o.name
	if f.since.IsZero() {
		f.since = time.Now()
	}
	if o.deleting {
		f.deleted, f.deletedIn = true, c.w.api.timeline+1
	}
	if f.held && !f.released { // the work is back: its hold may end by itself
		f.held = false
	}
}

// absent notes that the truth has an object no more.
func (c *checker) absent(o object, restored bool) {
	f := c.of(o.uid)
	if f.absentAt.IsZero() {
		f.absentAt = time.Now()
	}
	f.restored = restored
}

// wrote notes a write for an agent, which has to be of the newest session that
// wrote there. Epochs begin anew with a restore, numbers of sessions do not.
func (c *checker) wrote(name, uid string, session uint64) {
	if session < c.writers[uid] {
		c.w.failf("older epoch", name, "session %d wrote %s %s after session %d had", session, name, uid, c.writers[uid])
	}
	c.writers[uid] = session
}

// stored checks content that the store took: it is durable, and was published.
func (c *checker) stored(p *process, key wire.Key, rev wire.Revision) {
	if c.revisions[revisionID(rev.UID, rev.Generation, rev.Digest)] == 0 {
		c.w.failf("never published", key.Name, "the agent stored %s %s/%d, which the hub never had", key.Name, rev.UID, rev.Generation)
	}
	c.of(rev.UID).proven = false
	uid, generation, deleting := p.spoke.backend.durable(key)
	if uid != rev.UID || generation != rev.Generation || deleting {
		c.w.failf("not durable", key.Name, "the agent says that %s %s/%d is stored; durable is %s/%d", key.Name, rev.UID, rev.Generation, uid, generation)
	}
}

// deleteStored checks a delete that the store took.
func (c *checker) deleteStored(p *process, d link.Delete, verdict link.Verdict) {
	f := c.of(d.Revision.UID)
	c.w.notef(d.Key.Name, "agent", "takes the delete of %s %s, orphan %v: verdict %d", d.Key.Name, d.Revision.UID, d.Orphan, verdict)
	switch {
	case d.Orphan && f.absentAt.IsZero():
		c.w.failf("orphan without proof", d.Key.Name, "an ORPHAN delete of %s %s, which was never gone", d.Key.Name, d.Revision.UID)
	case !d.Orphan && !f.deleted:
		c.w.failf("delete without request", d.Key.Name, "a REQUESTED delete of %s %s, which nobody asked for", d.Key.Name, d.Revision.UID)
	case d.Orphan || verdict != link.DeleteStored:
		f.proven = f.proven || d.Orphan && verdict == link.DeleteStored && !f.restored
		return
	}
	if uid, _, deleting := p.spoke.backend.durable(d.Key); uid != d.Revision.UID || !deleting {
		c.w.failf("not durable", d.Key.Name, "the agent says that the delete of %s %s is stored; it is not", d.Key.Name, d.Revision.UID)
	}
}

// held notes what waits for a person now.
func (c *checker) held(batches []hold.Batch) {
	for _, b := range batches {
		for _, e := range b.Entries {
			f := c.of(e.UID)
			if !b.Prunes && !f.held {
				c.w.notef(e.Key.Name, "agent", "holds the delete of %s %s: %s", e.Key.Name, e.UID, b.Reason)
				f.held, f.released = true, f.released && time.Since(f.at) < time.Minute
			}
		}
	}
}

// released notes what a person releases.
func (c *checker) released(entries []*agentv1.InventoryEntry) {
	for _, e := range entries {
		f := c.of(e.GetRevision().GetUid())
		f.released, f.pruneOK, f.at = true, true, time.Now()
	}
}

// applied checks what is applied. A replica that has not noticed a restore may
// still send what was there before it.
func (c *checker) applied(name, uid string, generation int64, digest []byte) {
	f, now := c.of(uid), c.w.api.timeline+1
	d, _ := wire.DigestOf(digest)
	if c.revisions[revisionID(uid, generation, d)] != now {
		return
	}
	if f.ended == now {
		c.w.failf("resurrected", name, "%s of %s/%d is applied again after the spoke had removed it", name, uid, generation)
	}
	if f.timeline == now && generation < f.newest {
		c.w.failf("back in time", name, "%s %s went from generation %d to %d", name, uid, f.newest, generation)
	}
	f.newest, f.timeline = generation, now
}

// pruned checks the removal of an object that its work does not name any more.
func (c *checker) pruned(name, object string, was applied, uid string, generation int64) {
	f := c.of(uid)
	if was.uid != uid {
		old := c.of(was.uid)
		switch {
		case old.deleted || was.uid == "" || f.pruneOK:
		case old.absentAt.IsZero():
			c.w.failf("delete without proof", name, "%s/%s of %s is pruned for %s, and %s was never gone", name, object, was.uid, uid, was.uid)
		case old.restored && f.since.Before(old.absentAt): // not one that a person made since
			c.w.failf("prune not held", name, "%s/%s of %s is pruned for %s: %s is gone by a restore only", name, object, was.uid, uid, was.uid)
		}
		return
	}
	if was.generation > generation && !f.pruneOK {
		c.w.failf("prune not held", name, "%s/%s is pruned because %s went from generation %d to %d, and nobody released that", name, object, uid, was.generation, generation)
	}
}

// removed checks the removal of an object of a work that is to be deleted.
func (c *checker) removed(name string, was applied, desired work.Desired) {
	uid := string(desired.Work.UID)
	for _, of := range []string{uid, was.uid} {
		f := c.of(of)
		switch {
		case of == "" || f.deleted:
		case f.absentAt.IsZero():
			c.w.failf("delete without proof", name, "%s of %s is removed, which was never gone nor to be deleted", name, of)
		case f.released || of != uid:
		case f.restored && !f.proven:
			c.w.failf("restore not held", name, "%s of %s is removed: it is gone by a restore only, and nobody released it", name, of)
		case f.held:
			c.w.failf("hold ignored", name, "%s of %s is removed while its delete is held", name, of)
		case time.Since(f.absentAt) < c.w.plan.Grace:
			c.w.failf("no grace", name, "%s of %s is removed %s after it was gone", name, of, time.Since(f.absentAt))
		}
	}
}

// finalized notes that the spoke has nothing left of an object.
func (c *checker) finalized(uid string) { c.of(uid).ended = c.of(uid).deletedIn }

// answered checks what the hub says to statuses.
func (c *checker) answered(s *agentSession, ack *agentv1.StatusAck) {
	for _, r := range ack.GetResults() {
		item := s.sent[r.GetStatusSeq()]
		if r.GetCode() != persisted || item == nil {
			continue
		}
		name, uid := item.GetKey().GetName(), item.GetUid()
		if name != r.GetKey().GetName() {
			c.w.failf("answer mixed up", name, "the answer to %s came as one to %s", name, r.GetKey().GetName())
		}
		if item.GetFinalized() {
			if o, ok := c.w.api.objects[name]; ok && o.uid == uid && o.deleting && o.finalizer && c.of(uid).absentAt.IsZero() {
				c.w.failf("persisted without a write", name, "finalized of %s %s counts as persisted, and the finalizer is still there", name, uid)
			}
			continue
		}
		sum, err := wire.StatusDigest(item.GetStatusJson())
		if err == nil && !c.statuses[fmt.Sprintf("%s %x", uid, sum)] {
			c.w.failf("persisted without a write", name, "a status of %s %s counts as persisted and was never stored", name, uid)
		}
	}
}

// differences is what is not yet as it has to be in the end. With held, what
// waits for a person is as it should be.
func (w *World) differences(held bool) []string {
	var out []string
	sayf := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	p, entries, waiting := w.spoke.proc, w.entries(), w.waiting(held)
	for _, o := range w.api.list() {
		if o.bad || waiting[o.name] && !o.deleting {
			continue
		}
		if o.deleting {
			sayf("%s is still Terminating", o)
			continue
		}
		if !entries[o.name].Same(o.revision()) {
			sayf("%s is stored as %s/%d", o, entries[o.name].UID, entries[o.name].Generation)
			continue
		}
		w.compare(p, o, sayf)
	}
	for _, key := range p.store.Keys(wire.KindWork) {
		if _, ok := w.api.objects[key.Name]; !ok && !waiting[key.Name] {
			sayf("the agent still holds %s, and the hub has no such work", key.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.spoke.cluster.works)) {
		if _, ok := w.api.objects[name]; !ok && !waiting[name] {
			sayf("%s is left over on the spoke", name)
		}
	}
	return out
}

// waiting names what waits for a person, if that counts.
func (w *World) waiting(held bool) map[string]bool {
	waiting := map[string]bool{}
	if !held {
		return waiting
	}
	for _, b := range w.spoke.proc.store.Held() {
		for _, e := range b.Entries {
			waiting[e.Key.Name] = true
		}
	}
	return waiting
}

// compare says what differs in one work that is on the hub to stay.
func (w *World) compare(p *process, o object, sayf func(string, ...any)) {
	if !w.statusShows(o) {
		sayf("%s: its status on the hub is %s", o, o.status)
		return
	}
	got, ok, err := p.store.Get(workKey(o.name))
	if err != nil || !ok || got.Delete != store.DeleteNone {
		sayf("%s is to be deleted on the agent: %d, %v", o, got.Delete, err)
		return
	}
	have := w.spoke.cluster.works[o.name]
	if have == nil {
		sayf("%s is not applied", o)
		return
	}
	for _, name := range o.content.manifests {
		if a := have.objects[name]; a.uid != o.uid || a.value != strconv.Itoa(o.content.value) {
			sayf("%s: %s on the spoke is %+v", o, name, a)
		}
	}
	if len(have.objects) != len(o.content.manifests) && !got.HoldPrune {
		sayf("%s: %d objects are on the spoke, not %d", o, len(have.objects), len(o.content.manifests))
	}
}
