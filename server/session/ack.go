// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"regexp"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	// ackPatience is how long an agent may acknowledge nothing of what it was sent,
	// not one object, though its heartbeats come (T2). What is on its way is so little (pace) that it
	// is neither gRPC nor TCP that says that an agent does not read. A link that takes
	// longer for the smallest part, below 1.1 KiB/s, is of no use.
	ackPatience = 30 * time.Second

	maxFieldPaths = 16
	maxFieldPath  = 256
	maxReason     = 64
)

// credit is what may be unacknowledged.
type credit struct{ bytes, objects int }

// frame is a Delta that the agent has not processed yet.
type frame struct {
	seq     uint64
	sent    time.Time
	cost    credit
	unacked int // bytes, when it was sent, with its own
	members []*entry
}

// ack takes acknowledgements of objects, and returns the credit of frames.
func (c *Core) ack(now time.Time, a *agentv1.Ack) {
	seq := a.GetProcessedSeq()
	if seq > c.seq || seq < c.processed {
		c.violationf("processed_seq %d: %d was processed before, %d is the last sent", seq, c.processed, c.seq)
		return
	}
	if seq > c.processed || len(a.GetObjects()) > 0 {
		c.progress = now
	}
	c.processed = seq
	var stored []StoredObject
	for _, o := range a.GetObjects() {
		e := c.entries[wire.KeyOf(o.GetKey())]
		rev, ok := wire.RevisionOf(o.GetRevision())
		if e == nil || !ok || e.flight.seq == 0 || !rev.Same(e.flight.rev) {
			continue // about a revision that is history
		}
		if done := c.objectAck(now, e, o); done != nil {
			stored = append(stored, *done)
		}
	}
	if len(stored) > 0 {
		c.effect(Stored{Objects: stored})
	}
	c.release(now, seq)
}

// objectAck ends a flight; it returns what became durable, if anything.
func (c *Core) objectAck(now time.Time, e *entry, o *agentv1.ObjectAck) *StoredObject {
	f := e.flight
	if c.transfer != nil && c.transfer.e == e {
		if o.GetCode() == agentv1.AckCode_ACK_CODE_STORED || o.GetCode() == agentv1.AckCode_ACK_CODE_HELD {
			return nil // not all of it is sent
		}
		c.abandon(e)
	}
	switch o.GetCode() {
	case agentv1.AckCode_ACK_CODE_STORED:
		c.announced(e, f, false)
		c.replaced(e, f)
		c.noteStored(e.key, f)
		c.landed(e)
		return &StoredObject{Key: e.key, Revision: f.rev, Delete: f.delete, Marked: f.marked, Sent: f.sent}
	case agentv1.AckCode_ACK_CODE_HELD:
		c.announced(e, f, true)
		c.landed(e)
	case agentv1.AckCode_ACK_CODE_REJECTED:
		c.rejected(e, f, bounded(o.GetError()))
		c.landed(e)
	default: // RETRY, and what a newer agent may say
		e.refused = bounded(o.GetError())
		c.effect(Retried{Key: e.key, Error: e.refused})
		e.flight = flight{}
		if !e.dirty {
			e.dirty, e.since = true, f.marked
		}
		c.retry(now, e, waitRetry)
	}
	return nil
}

// rejected takes the agent's refusal. It is final for that revision, and says
// nothing of others of that name: whoever has not the orphan that was to go
// gets what the index shows now.
func (c *Core) rejected(e *entry, f flight, why *agentv1.ErrorInfo) {
	orphan := c.dropOrphan(e, f)
	if !f.delete || why.GetReason() != reason.UIDMismatch {
		e.verdict = &verdict{kind: rejected, rev: f.rev, err: why}
		c.effect(Undelivered{Key: e.key, Revision: f.rev, Rejected: true, Error: why})
		return
	}
	if e.gone == f.rev.UID {
		e.gone = ""
	}
	obj, ok := c.src.Get(e.key)
	switch {
	case ok && obj.UID == f.rev.UID:
		// The agent has another object, of which nothing is known yet. It
		// reports by itself that nothing of this one is there.
		e.verdict = &verdict{kind: rejected, rev: f.rev, err: why}
	case ok && orphan && !e.dirty:
		e.dirty, e.since = true, f.marked
	}
}

// announced notes that the agent knows of an orphan delete.
func (c *Core) announced(e *entry, f flight, held bool) {
	e.attempts = 0
	if !f.delete {
		return
	}
	if c.dropOrphan(e, f) || held {
		e.verdict, e.left = nil, &leftover{rev: f.rev, held: held}
		if obj, ok := c.src.Get(e.key); ok && e.displacedBy(obj) {
			e.gone, e.dirty, e.since = "", true, f.marked // the other's delete follows
		}
	}
}

// replaced notes that the agent holds what was sent and nothing older of that
// name.
func (c *Core) replaced(e *entry, f flight) {
	if f.delete {
		return
	}
	e.gone, e.left = "", nil
	if obj, ok := c.src.Get(e.key); !ok || obj.UID != f.rev.UID {
		e.gone = f.rev.UID // its mark follows, or came
	}
	if e.orphan != nil && e.orphan.entry.UID != f.rev.UID {
		c.cancelOrphan(e)
		e.gone = f.rev.UID // gone as well
	}
}

// dropOrphan ends an orphan's announcement; false when the work came back
// meanwhile, or it was none.
func (c *Core) dropOrphan(e *entry, f flight) bool {
	if e.orphan == nil || !f.delete || !e.orphan.entry.Same(f.rev) {
		return false
	}
	e.orphan = nil
	return true
}

// landed ends a flight, and lets what waited behind it go on.
func (c *Core) landed(e *entry) {
	e.flight, e.refused = flight{}, nil
	if e.dirty && e.in == nil && (e.wait == waitFlight || e.wait == waitNone) {
		c.plan(e)
		return
	}
	c.settle(e)
}

// release returns the credit of all frames up to seq. Objects in them that were
// not acknowledged are let go: anti-entropy finds what that hides.
func (c *Core) release(now time.Time, seq uint64) {
	n, busy := 0, c.pace.busy(c.unacked.bytes)
	for ; n < len(c.frames) && c.frames[n].seq <= seq; n++ {
		f := &c.frames[n]
		c.unacked.bytes -= f.cost.bytes
		c.unacked.objects -= f.cost.objects
		c.pace.processed(now.Sub(f.sent), f.cost.bytes, f.unacked, busy)
		for _, e := range f.members {
			if e.flight.seq == f.seq && (c.transfer == nil || c.transfer.e != e) {
				e.orphan = nil
				c.landed(e)
			}
		}
	}
	if n == len(c.frames) {
		if n > 0 {
			c.pace.idle = now
		}
		c.frames = nil
		return
	}
	clear(c.frames[:n])
	c.frames = c.frames[n:]
}

// aReason is what a condition takes as one, whole.
var aReason = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

// bounded is an agent's error, cut to what a condition or a log line can take; a
// reason that is none is left out.
func bounded(e *agentv1.ErrorInfo) *agentv1.ErrorInfo {
	out := &agentv1.ErrorInfo{Message: wire.Truncate(e.GetMessage())}
	if why := wire.Prefix(e.GetReason(), maxReason); aReason.MatchString(why) {
		out.Reason = why
	}
	for _, path := range e.GetFieldPaths()[:min(len(e.GetFieldPaths()), maxFieldPaths)] {
		out.FieldPaths = append(out.FieldPaths, wire.Prefix(path, maxFieldPath))
	}
	return out
}
