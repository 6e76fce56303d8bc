// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

const (
	// smallObject is the size up to which objects share frames and go before
	// larger ones.
	smallObject = wire.MinPart
	// frameTarget is about how many bytes of changes share one frame.
	frameTarget = 32 << 10
	// frameObjects bounds the changes that share one frame.
	frameObjects = 128
	// largeTurn is after how many frames of small objects a waiting large one is
	// begun all the same, so that endless small ones do not starve it.
	largeTurn = 8
	// changeOverhead is about what a change takes beside its content.
	changeOverhead = 192
)

// transfer is the one object that is being sent in parts.
type transfer struct {
	e       *entry
	content Content
	offset  int
	part    uint32
}

// Next returns the next message, or nil when there is nothing to send now:
// nothing to say, or no credit. Only the goroutine that owns the stream calls
// it, once per send, so that nothing is queued that need not be.
func (c *Core) Next(now time.Time) *agentv1.SessionResponse {
	c.now = now
	m := c.next(now)
	if m != nil {
		c.seq++
		m.Seq = c.seq
	}
	return m
}

func (c *Core) next(now time.Time) *agentv1.SessionResponse {
	if len(c.control) > 0 {
		m := c.control[0]
		if c.control = c.control[1:]; len(c.control) == 0 {
			c.control = nil
		}
		return m
	}
	if c.phase != open {
		return nil
	}
	if m := c.statusAck(); m != nil {
		return m
	}
	if m := c.beat(now); m != nil {
		return m
	}
	if d := c.delta(now); d != nil {
		c.lastBeat = now
		d.HighWater = c.src.HighWater().Proto()
		return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Delta{Delta: d}}
	}
	return nil
}

// draft is a Delta in the making.
type draft struct {
	changes []*agentv1.ObjectChange
	members []*entry
	bytes   int
}

func (d *draft) full() bool { return d.bytes >= frameTarget || len(d.changes) >= frameObjects }

func (d *draft) add(e *entry, change *agentv1.ObjectChange, bytes int) {
	d.changes = append(d.changes, change)
	d.members = append(d.members, e)
	d.bytes += bytes
}

// delta packs deletes, then small objects, into one frame; or one part of a
// large object. Between the parts of one object go deletes and nothing else,
// since the agent assembles one object at a time.
func (c *Core) delta(now time.Time) *agentv1.Delta {
	var d draft
	if c.unacked.bytes == 0 {
		c.pace.begin(now)
	}
	c.addDeletes(now, &d)
	c.checkTransfer()
	if c.transfer == nil && (c.large.empty() || c.smallRun < largeTurn) {
		c.addSmall(now, &d)
	}
	if len(d.changes) == 0 {
		c.addPart(now, &d)
	}
	if len(d.changes) == 0 && c.transfer == nil {
		c.addSmall(now, &d) // what seemed large may be small by now
	}
	if len(d.changes) > 0 {
		c.unacked.bytes += d.bytes
		c.unacked.objects += len(d.changes)
		if len(c.frames) == 0 {
			c.progress = now
		}
		c.frames = append(c.frames, frame{
			seq: c.seq + 1, sent: now, unacked: c.unacked.bytes, members: d.members,
			cost: credit{bytes: d.bytes, objects: len(d.changes)},
		})
	}
	complete := c.announce && c.sync == nil && c.syncLeft == 0
	if complete {
		c.announce = false
	}
	if len(d.changes) == 0 && !complete {
		return nil
	}
	return &agentv1.Delta{Changes: d.changes, SyncComplete: complete}
}

// fits tells whether the agent has credit for that much more. A single object
// always fits when nothing is on its way.
func (c *Core) fits(d *draft, bytes int) bool {
	if c.unacked.objects+len(d.changes) >= c.window.objects {
		return false
	}
	used := c.unacked.bytes + d.bytes
	return used == 0 || used+bytes <= c.window.bytes
}

// fitsPace tells the same of content, which also waits until it is not sent too
// far ahead of what is acknowledged. Deletes do not.
func (c *Core) fitsPace(d *draft, bytes int) bool {
	used := c.unacked.bytes + d.bytes
	return c.fits(d, bytes) && (used == 0 || used+bytes <= c.pace.limit)
}

func (c *Core) addDeletes(now time.Time, d *draft) {
	for !c.deletes.empty() && !d.full() {
		e := c.deletes.head
		bytes := changeOverhead + len(e.key.Name)
		if !c.fits(d, bytes) {
			return
		}
		if e.orphan != nil {
			d.add(e, e.orphan.change(e.key), bytes)
			c.sent(now, e, e.orphan.entry.Revision, true)
			continue
		}
		obj, ok := c.src.Get(e.key)
		if !ok || !obj.Deleting {
			c.plan(e)
			continue
		}
		d.add(e, &agentv1.ObjectChange{
			Key: e.key.Proto(), Revision: obj.Proto(),
			Action: &agentv1.ObjectChange_Delete{Delete: &agentv1.Delete{
				Reason: agentv1.DeleteReason_DELETE_REASON_REQUESTED, ProofResourceVersion: obj.ResourceVersion,
			}},
		}, bytes)
		c.sent(now, e, obj.Revision, true)
	}
}

func (c *Core) addSmall(now time.Time, d *draft) {
	for !c.small.empty() && !d.full() {
		e := c.small.head
		if !c.fitsPace(d, e.size+changeOverhead) {
			break
		}
		content, ok := c.ready(now, e)
		if !ok {
			continue
		}
		e.size = len(content.Bytes)
		if e.size > smallObject {
			c.large.keep(e)
			continue
		}
		if !c.fitsPace(d, e.size+changeOverhead) {
			break
		}
		d.add(e, upsert(e.key, content, content.Bytes, 0, true), e.size+changeOverhead)
		c.sent(now, e, content.Revision, false)
	}
	if len(d.changes) > 0 && !c.large.empty() {
		c.smallRun++
	}
}

// ready reads the newest content of an entry at the head of its list. When it
// is not to be sent after all, the entry has moved elsewhere.
func (c *Core) ready(now time.Time, e *entry) (Content, bool) {
	obj, ok := c.src.Get(e.key)
	if !ok || obj.Deleting || c.explained(e, obj) {
		c.plan(e)
		return Content{}, false
	}
	content, ok := c.src.Content(e.key)
	switch {
	case !ok:
		c.retry(now, e, waitRetry)
	case !content.Finalizer && e.finalizer != content.Revision.UID:
		c.ensureFinalizer(e, content.Revision.UID)
	case content.Deleting:
		c.deletes.keep(e)
	default:
		return content, true
	}
	return Content{}, false
}

// checkTransfer abandons the rest of an object that has changed meanwhile.
func (c *Core) checkTransfer() {
	if c.transfer == nil {
		return
	}
	e := c.transfer.e
	if obj, ok := c.src.Get(e.key); !ok || !obj.Same(c.transfer.content.Revision) {
		c.abandon(e)
		c.plan(e)
	}
}

// addPart sends the next part of the object in transfer, or begins the next
// large one.
func (c *Core) addPart(now time.Time, d *draft) {
	for c.transfer == nil {
		e := c.large.head
		if e == nil || !c.fitsPace(d, min(c.pace.part(), e.size)+changeOverhead) {
			return
		}
		if content, ok := c.ready(now, e); ok {
			e.unlink()
			e.wait = waitFlight
			c.transfer, c.smallRun = &transfer{e: e, content: content}, 0
		}
	}
	t := c.transfer
	n := min(c.pace.part(), len(t.content.Bytes)-t.offset)
	if !c.fitsPace(d, n+changeOverhead) {
		return
	}
	piece := t.content.Bytes[t.offset : t.offset+n]
	t.offset += n
	last := t.offset == len(t.content.Bytes)
	d.add(t.e, upsert(t.e.key, t.content, piece, t.part, last), n+changeOverhead)
	t.part++
	if last {
		c.transfer = nil
		c.sent(now, t.e, t.content.Revision, false)
		return
	}
	t.e.flight = flight{seq: c.seq + 1, rev: t.content.Revision, marked: t.e.since, sent: now}
}

// abandon gives up the transfer of an entry; what was sent of it keeps its
// credit until it is processed.
func (c *Core) abandon(e *entry) {
	if c.transfer == nil || c.transfer.e != e {
		return
	}
	c.transfer = nil
	e.flight, e.wait = flight{}, waitNone
}

// sent moves an entry from dirty to in flight.
func (c *Core) sent(now time.Time, e *entry, rev wire.Revision, remove bool) {
	e.flight = flight{seq: c.seq + 1, rev: rev, delete: remove, marked: e.since, sent: now}
	e.dirty, e.doubtful, e.wait, e.since, e.finalizer = false, false, waitNone, time.Time{}, ""
	e.unlink()
	c.uncount(e)
}

func upsert(key wire.Key, content Content, piece []byte, part uint32, last bool) *agentv1.ObjectChange {
	return &agentv1.ObjectChange{
		Key: key.Proto(), Revision: content.Revision.Proto(),
		Action: &agentv1.ObjectChange_Upsert{Upsert: &agentv1.Upsert{
			ObjectJson: piece, Encoding: content.Encoding, UncompressedSize: content.Revision.Size,
			Part: part, LastPart: last,
		}},
	}
}
