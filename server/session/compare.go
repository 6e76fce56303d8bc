// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	"fairlead.dev/fairlead/internal/wire"
)

// compare takes one object that the agent holds.
func (c *Core) compare(now time.Time, theirs wire.Entry) {
	x := c.sync
	delete(x.want, theirs.Key)
	delete(x.marked, theirs.Key) // what is compared now is newer
	obj, ok := c.src.Get(theirs.Key)
	if !ok {
		c.compareOrphan(now, theirs)
		return
	}
	if obj.Same(theirs.Revision) {
		if e := c.entries[theirs.Key]; e != nil && e.dirty && e.flight.seq == 0 {
			c.cancelOrphan(e)
			c.quiet(e) // dirty for what the agent has already
		}
		return
	}
	if obj.Deleting && obj.UID != theirs.UID {
		c.compareDisplaced(now, theirs, obj)
		return
	}
	if c.settled(theirs.Key, obj) {
		return
	}
	if !newer(theirs.Revision, obj) {
		c.differs(now, theirs.Key)
		return
	}
	c.mismatch(theirs.Key)
	e := c.entryOf(theirs.Key)
	if theirs.UID != obj.UID {
		e.gone = theirs.UID
	}
	c.count(e)
	c.doubt(now, e)
}

// compareDisplaced takes an object that the agent holds and whose place on the
// hub is taken by one that is being deleted: that one's delete does not remove
// it, so it is an orphan, if the quorum agrees.
func (c *Core) compareDisplaced(now time.Time, theirs wire.Entry, obj Object) {
	e := c.entries[theirs.Key]
	if e != nil && (e.knownOrphan(theirs.UID) || e.finishedFor(obj.UID) || e.orphan != nil) {
		return
	}
	finalizing := c.finalizing(theirs.Key, obj.UID) != nil
	if !c.settled(theirs.Key, obj) {
		c.mismatch(theirs.Key)
	}
	e = c.entryOf(theirs.Key)
	e.gone = theirs.UID
	c.count(e)
	if finalizing { // the other's delete is as good as done; this one goes by itself
		c.suspect(now, e, theirs.Revision, c.sync.orphans)
		return
	}
	if e.flight.seq == 0 {
		c.doubt(now, e)
		return
	}
	// The other's delete was sent; it changes nothing there.
	c.abandon(e)
	e.unlink()
	e.dirty, e.wait = true, waitFlight
}

// newer tells whether the agent may hold something newer than the index: then
// the index may lag.
func newer(theirs wire.Revision, obj Object) bool {
	if theirs.UID != obj.UID {
		return true
	}
	return theirs.Generation > obj.Generation || !obj.Deleting && theirs.Digest == wire.DeletingDigest(theirs.UID)
}

// settled tells whether a difference is known: something is on its way, or was
// acknowledged since the inventory was taken, or a verdict explains it.
func (c *Core) settled(key wire.Key, obj Object) bool {
	if digest, ok := c.sync.stored[key]; ok && digest == obj.Digest {
		return true
	}
	if obj.Deleting && c.finalizing(key, obj.UID) != nil {
		return true
	}
	e := c.entries[key]
	if e == nil {
		return false
	}
	if e.dirty || e.flight.seq != 0 {
		return true
	}
	known := c.explained(e, obj)
	c.settle(e)
	return known
}

// differs makes a key dirty that the agent has not as the index has it.
func (c *Core) differs(now time.Time, key wire.Key) {
	obj, ok := c.src.Get(key)
	if !ok {
		return // gone meanwhile: its mark says so
	}
	known := c.entries[key] != nil && c.entries[key].displacedBy(obj)
	if known {
		c.forget(c.entries[key]) // the agent has removed the orphan: now it has room
	}
	if c.settled(key, obj) {
		return
	}
	if !known {
		c.mismatch(key)
	}
	e := c.entryOf(key)
	e.gone = ""
	c.count(e)
	c.touch(now, e, obj)
}

// compareOrphan takes an object that the agent holds and the index has not.
func (c *Core) compareOrphan(now time.Time, theirs wire.Entry) {
	full := len(c.sync.orphans.members) >= maxOrphans || len(c.entries) >= maxSuspects
	if full || theirs.UID == "" || c.finalizing(theirs.Key, theirs.UID) != nil {
		return
	}
	e := c.entries[theirs.Key]
	if e != nil {
		v := e.verdict
		known := e.knownOrphan(theirs.UID) || v != nil && v.kind != undeliverable && v.rev.UID == theirs.UID
		if known || e.dirty || e.flight.seq != 0 {
			return
		}
	} else {
		c.mismatch(theirs.Key)
	}
	e = c.entryOf(theirs.Key)
	e.verdict, e.left = nil, nil
	c.count(e)
	c.suspect(now, e, theirs.Revision, c.sync.orphans)
}

func (c *Core) mismatch(key wire.Key) {
	if x := c.sync; !x.welcome && len(x.mismatches) < maxMismatches {
		x.mismatches = append(x.mismatches, key)
	}
}
