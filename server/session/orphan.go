// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"strconv"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

const (
	// maxReads is how many quorum reads one session has under way at a time.
	maxReads = 8
	// maxLooks is how often a key is looked at again while the index is behind.
	maxLooks = 8
)

// orphan is an object that the agent has and the index has not. Its delete is
// sent after a quorum read has shown it gone, with the rest of its batch
// (PROTOCOL decision 8).
type orphan struct {
	entry  wire.Entry // as the agent has it
	batch  *batch
	proven bool
	sealed bool
	proof  string // resourceVersion of the proof
	id     string
	size   uint32
}

// batch is the orphans of one sync, or one that appeared alone.
type batch struct {
	listed  bool // in Core.batches
	open    bool // more may come
	waiting int  // members without an answer
	members []*entry
}

func (o *orphan) change(key wire.Key) *agentv1.ObjectChange {
	return &agentv1.ObjectChange{
		Key: key.Proto(), Revision: o.entry.Proto(),
		Action: &agentv1.ObjectChange_Delete{Delete: &agentv1.Delete{
			Reason: agentv1.DeleteReason_DELETE_REASON_ORPHAN, ProofResourceVersion: o.proof,
			BatchId: o.id, BatchSize: o.size,
		}},
	}
}

// suspect takes an object that seems to be gone into a batch, and asks the
// quorum.
func (c *Core) suspect(now time.Time, e *entry, rev wire.Revision, b *batch) {
	e.orphan = &orphan{entry: wire.Entry{Key: e.key, Revision: rev}, batch: b}
	if !e.dirty {
		e.dirty, e.since = true, now
	}
	b.members = append(b.members, e)
	b.waiting++
	if !b.listed {
		b.listed = true
		c.batches = append(c.batches, b)
	}
	c.askQuorum(e)
}

// cancelOrphan forgets that a key was an orphan: the work is back.
func (c *Core) cancelOrphan(e *entry) {
	o := e.orphan
	if o == nil {
		return
	}
	e.orphan, e.wait, e.gone = nil, waitNone, o.entry.UID
	e.unlink()
	if o.sealed {
		return
	}
	if !o.proven {
		o.batch.waiting--
	}
	c.sealBatches()
}

// sealBatches sends the batches that are complete. None is while a restore of
// the hub is being looked into.
func (c *Core) sealBatches() {
	if c.restoreWait {
		return
	}
	var left []*batch
	for _, b := range c.batches {
		if b.open || b.waiting > 0 {
			left = append(left, b)
			continue
		}
		c.seal(b)
	}
	c.batches = left
}

func (c *Core) seal(b *batch) {
	var members []wire.Entry
	for _, e := range b.members {
		if e.orphan != nil && e.orphan.batch == b {
			members = append(members, e.orphan.entry)
		}
	}
	id, size := wire.BatchID(members), uint32(len(members)) //nolint:gosec // at most maxOrphans
	for _, e := range b.members {
		if o := e.orphan; o != nil && o.batch == b {
			o.id, o.size, o.sealed = id, size, true
			e.wait = waitNone
			c.deletes.push(e)
		}
	}
}

// lagging tells whether the index is known to be behind what the agent has
// seen of this hub.
func (c *Core) lagging() bool {
	if c.behind != 0 && c.behind <= c.src.HighWater().ResourceVersion {
		c.behind = 0
	}
	return c.behind != 0
}

// doubt asks the quorum before sending a key of which the agent holds something
// newer than the index shows (the downgrade rule, PROTOCOL c3).
func (c *Core) doubt(now time.Time, e *entry) {
	if !e.dirty {
		e.dirty, e.since = true, now
	}
	e.doubtful = true
	c.askQuorum(e)
}

func (c *Core) askQuorum(e *entry) {
	e.unlink()
	e.wait = waitRead
	c.reads = append(c.reads, e.key)
	c.pumpReads()
}

func (c *Core) pumpReads() {
	for c.reading < maxReads && len(c.reads) > 0 {
		e := c.entries[c.reads[0]]
		if c.reads = c.reads[1:]; len(c.reads) == 0 {
			c.reads = nil
		}
		if e == nil || e.wait != waitRead {
			continue
		}
		if e.orphan == nil && !e.doubtful && !c.lagging() {
			c.plan(e) // it was asked for a lag that is over
			continue
		}
		c.readID++
		c.reading++
		e.wait, e.read = waitAnswer, c.readID
		c.effect(ReadQuorum{Key: e.key, ID: c.readID})
	}
}

// answered takes a quorum read's answer.
func (c *Core) answered(now time.Time, in QuorumAnswer) {
	if c.reading > 0 {
		c.reading--
	}
	e := c.entries[in.Read.Key]
	switch {
	case e == nil || e.wait != waitAnswer || e.read != in.Read.ID:
	case in.Failed:
		c.retry(now, e, waitReread)
	case e.orphan == nil:
		c.doubtAnswered(now, e, in)
	case in.Found && !c.displaced(e, in):
		// The index lags. It is no orphan now; what the index shows when it has
		// caught up decides, and not what it shows of an older object meanwhile.
		c.cancelOrphan(e)
		e.doubtful = true
		c.awaitIndex(now, e, waitReread)
	default:
		e.wait = waitBatch
		e.orphan.proven, e.orphan.proof = true, in.ResourceVersion
		e.orphan.batch.waiting--
		c.sealBatches()
	}
	c.pumpReads()
}

// displaced tells whether an orphan's place is taken by an object that is being
// deleted itself: then nothing else will remove the orphan from the agent, and
// the other UID is the proof that it is gone. The other object's own delete is
// sent after it, and again when the agent has room for it (anti-entropy).
func (c *Core) displaced(e *entry, in QuorumAnswer) bool {
	obj, ok := c.src.Get(e.key)
	return ok && obj.Deleting && in.UID == obj.UID && in.UID != e.orphan.entry.UID
}

// doubtAnswered sends what the index has, unless the index is the one that is
// behind: then nothing is sent before it has caught up.
func (c *Core) doubtAnswered(now time.Time, e *entry, in QuorumAnswer) {
	obj, ok := c.src.Get(e.key)
	if !ok || !lags(obj, in) {
		c.plan(e)
		return
	}
	c.awaitIndex(now, e, waitReread)
}

// awaitIndex looks at a key again when the index may have caught up. After some
// minutes that is left to anti-entropy.
func (c *Core) awaitIndex(now time.Time, e *entry, kind wait) {
	switch {
	case e.attempts < maxLooks:
		if e.gone == "" { // else what the agent holds is still open: the sync is not complete without it
			c.uncount(e)
		}
		c.retry(now, e, kind)
	case e.gone != "":
		e.attempts = 0
		c.suspect(now, e, wire.Revision{UID: e.gone}, &batch{})
	default:
		c.quiet(e)
	}
}

// lags tells whether the index is behind what the quorum has.
func lags(obj Object, in QuorumAnswer) bool {
	switch {
	case !in.Found:
		return true
	case in.UID == obj.UID:
		return in.Generation > obj.Generation || in.Deleting && !obj.Deleting
	}
	return version(in.ResourceVersion) > version(obj.ResourceVersion)
}

func version(rv string) uint64 {
	n, err := strconv.ParseUint(rv, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
