// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"cmp"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// entry is one key on its way: to be sent, sent and not acknowledged, or with a
// verdict that explains why agent and index differ. There is none for a key
// that is in sync.
type entry struct {
	key   wire.Key
	dirty bool // something is to be sent
	wait  wait // what a dirty entry waits for, when it is in no list
	since time.Time
	size  int // about what it takes on the wire

	in         *list
	prev, next *entry

	due      time.Time // of a retry
	attempts uint8
	refused  *agentv1.ErrorInfo // why the agent could not take it the last time
	read     uint64             // the ReadQuorum that is waited for
	// finalizer is the UID for which EnsureFinalizer is done; the index may be a
	// moment behind that write.
	finalizer string

	// counted in Core.syncLeft: part of Welcome's difference.
	counted bool
	// gone is the UID that the agent may hold though the index has it no more.
	// New content takes its place; the delete of another object would not.
	gone string
	// doubtful: the agent may hold something newer than the index.
	doubtful bool
	orphan   *orphan
	flight   flight
	verdict  *verdict
	left     *leftover
}

// leftover is an object that the agent still has and knows to be an orphan. One
// that is being deleted may have taken its place in the index.
type leftover struct {
	rev  wire.Revision
	held bool // until a person there releases it
}

// flight is what was sent and is not acknowledged; seq 0 is none.
type flight struct {
	seq    uint64
	rev    wire.Revision
	delete bool
	marked time.Time
	sent   time.Time
}

type wait uint8

const (
	waitNone      wait = iota
	waitFlight         // the last revision is not acknowledged yet: one at a time
	waitFinalizer      // EnsureFinalizer
	waitRetry          // until due
	waitReread         // until due, then the quorum is asked again
	waitRead           // for a slot to ask the quorum
	waitAnswer         // for the quorum's answer
	waitBatch          // for the other orphans of its batch, and for CheckRestore
)

// verdict says why a key is quiet though agent and index differ in it.
type verdict struct {
	kind verdictKind
	rev  wire.Revision
	err  *agentv1.ErrorInfo
}

type verdictKind uint8

const (
	rejected      verdictKind = iota // by the agent, for rev
	undeliverable                    // by us, for rev
	finished                         // finalized and persisted; the index has yet to see it go
)

// entryOf returns the key's entry, made if need be.
func (c *Core) entryOf(key wire.Key) *entry {
	if e := c.entries[key]; e != nil {
		return e
	}
	if c.entries == nil {
		c.entries = make(map[wire.Key]*entry)
	}
	e := &entry{key: key}
	c.entries[key] = e
	return e
}

// settle drops an entry about which there is nothing left to say.
func (c *Core) settle(e *entry) {
	if e.dirty || e.flight.seq != 0 || e.verdict != nil || e.left != nil || e.orphan != nil {
		return
	}
	e.unlink()
	delete(c.entries, e.key)
	if len(c.entries) == 0 {
		c.entries = nil
	}
}

// quiet says that nothing is to be sent for the key now.
func (c *Core) quiet(e *entry) {
	e.dirty, e.doubtful, e.wait, e.since = false, false, waitNone, time.Time{}
	e.unlink()
	c.uncount(e)
	c.settle(e)
}

// forget drops everything about the key.
func (c *Core) forget(e *entry) {
	c.abandon(e)
	c.cancelOrphan(e)
	e.flight, e.verdict, e.left, e.gone = flight{}, nil, nil, ""
	c.quiet(e)
}

// conclude drops everything about one object of the key's. An orphan of another
// UID stays what it is.
func (c *Core) conclude(e *entry, uid string) {
	if e.orphan != nil && e.orphan.entry.UID != uid {
		e.verdict = nil
		return
	}
	left := e.left
	if left != nil && left.rev.UID == uid {
		left = nil
	}
	c.abandon(e)
	c.cancelOrphan(e)
	e.flight, e.verdict, e.left, e.gone = flight{}, nil, left, ""
	c.quiet(e)
}

// count takes a key into the difference that Welcome announced.
func (c *Core) count(e *entry) {
	if c.sync.welcome && !e.counted {
		e.counted = true
		c.syncLeft++
	}
}

func (c *Core) uncount(e *entry) {
	if e.counted {
		e.counted = false
		c.syncLeft--
	}
}

// mark takes a change of the index. What it is about is read now, and again
// when it is sent.
func (c *Core) mark(now time.Time, m Marked) {
	if c.phase != open {
		return // Hello compares everything
	}
	if c.sync != nil && c.sync.postpone(m) {
		return
	}
	if obj, ok := c.src.Get(m.Key); ok {
		e := c.entryOf(m.Key)
		if m.UID != obj.UID && e.gone == "" {
			e.gone = m.UID
		}
		c.touch(now, e, obj)
		return
	}
	c.vanish(now, m.Key, m.UID)
}

// touch makes a key dirty that the index has.
func (c *Core) touch(now time.Time, e *entry, obj Object) {
	c.cancelOrphan(e)
	if t := c.transfer; t != nil && t.e == e {
		if t.content.Revision.Same(obj.Revision) {
			return
		}
		c.abandon(e)
	}
	if !e.dirty {
		e.dirty, e.since = true, now
	}
	switch {
	case obj.Deleting:
		c.plan(e)
	case e.wait == waitReread || c.lagging() && e.wait != waitRead && e.wait != waitAnswer:
		c.askQuorum(e)
	case e.wait == waitNone || e.wait == waitFlight:
		c.plan(e)
	} // else it is looked at again when the wait is over
}

// plan finds where a dirty entry belongs now.
func (c *Core) plan(e *entry) {
	e.wait = waitNone
	if e.orphan != nil {
		c.deletes.keep(e)
		return
	}
	obj, ok := c.src.Get(e.key)
	if !ok {
		c.vanish(c.now, e.key, "") // its mark follows, or came
		return
	}
	if c.explained(e, obj) {
		c.quiet(e)
		return
	}
	switch {
	case e.flight.seq != 0 && e.flight.rev.Same(obj.Revision):
		c.quiet(e)
	case obj.Deleting:
		c.planDelete(e, obj)
	case e.flight.seq != 0:
		e.unlink()
		e.wait = waitFlight
	case !obj.Finalizer && e.finalizer != obj.UID:
		c.ensureFinalizer(e, obj.UID)
	default:
		c.queue(e, obj)
	}
}

// planDelete finds where an entry belongs whose object is being deleted. An
// object of another UID that the agent may hold is an orphan and goes first.
func (c *Core) planDelete(e *entry, obj Object) {
	switch {
	case e.replacing():
		e.unlink()
		e.wait = waitFlight
	case e.gone != "" && e.gone != obj.UID && !e.displacedBy(obj):
		c.suspect(c.now, e, wire.Revision{UID: e.gone}, &batch{})
	default:
		c.deletes.keep(e)
	}
}

// replacing tells whether content is on its way that takes the place of what the
// agent may hold of another object.
func (e *entry) replacing() bool { return e.gone != "" && e.flight.seq != 0 && !e.flight.delete }

// queue puts an entry with content to send into the list of its size.
func (c *Core) queue(e *entry, obj Object) {
	e.size = obj.PackedSize
	if e.size == 0 {
		e.size = int(min(obj.Size, wire.MaxObject))
	}
	if e.size <= smallObject {
		c.small.keep(e)
		return
	}
	c.large.keep(e)
}

// explained tells whether a verdict still holds, or makes one for an object
// that cannot be sent. Verdicts that hold no more are dropped.
func (c *Core) explained(e *entry, obj Object) bool {
	if obj.Deleting && c.finalizing(e.key, obj.UID) != nil {
		return true // the agent is done with it already
	}
	if !e.displacedBy(obj) {
		e.dropLeft()
	}
	if v := e.verdict; v != nil {
		switch {
		case v.kind == finished && v.rev.UID == obj.UID && obj.Deleting,
			(v.kind == rejected || v.kind == undeliverable) && v.rev.Same(obj.Revision):
			return true
		}
		e.verdict = nil
	}
	why := obj.Undeliverable
	limit := c.cfg.Hub.Limits.maxObject()
	if why == "" && obj.Size > limit {
		why = reason.ObjectTooLarge
	}
	if why == "" || obj.Deleting {
		return false
	}
	info := &agentv1.ErrorInfo{Reason: why, Message: cmp.Or(obj.Why, undeliverableText(why, obj.Size, limit))}
	e.verdict = &verdict{kind: undeliverable, rev: obj.Revision, err: info}
	c.effect(Undelivered{Key: e.key, Revision: obj.Revision, Error: info})
	return true
}

// displacedBy tells whether the agent knows of an orphan whose place is taken by
// an object that is being deleted itself.
func (e *entry) displacedBy(obj Object) bool {
	return obj.Deleting && e.left != nil && e.left.rev.UID != obj.UID
}

// dropLeft forgets that the agent knows of its orphan, but not that it has it.
func (e *entry) dropLeft() {
	if e.left != nil && e.gone == "" {
		e.gone = e.left.rev.UID
	}
	e.left = nil
}

func (c *Core) ensureFinalizer(e *entry, uid string) {
	e.unlink()
	e.wait = waitFinalizer
	c.effect(EnsureFinalizer{Key: e.key, UID: uid})
}

// finalized goes on after EnsureFinalizer.
func (c *Core) finalized(now time.Time, in FinalizerDone) {
	e := c.entries[in.Key]
	if e == nil || e.wait != waitFinalizer {
		return
	}
	if in.Failed {
		c.retry(now, e, waitRetry)
		return
	}
	e.finalizer = in.UID
	c.plan(e)
}

// vanish takes the absence of a key from the index. Nothing is deleted for
// that before a quorum read has shown it. uid is that of the object which is
// gone, empty when only its mark, which follows, knows.
func (c *Core) vanish(now time.Time, key wire.Key, uid string) {
	e := c.entries[key]
	w := c.finalizing(key, uid)
	if w != nil {
		w.gone = true
	}
	if w != nil || e != nil && e.finishedFor(uid) {
		if e != nil {
			c.conclude(e, uid)
		}
		return // the agent has removed it already
	}
	if e == nil && uid == "" || e != nil && e.orphan != nil {
		return
	}
	e = c.entryOf(key)
	if e.left != nil { // nothing was sent since that the agent would hold
		e.verdict = nil
		c.quiet(e)
		return
	}
	c.abandon(e)
	e.verdict = nil
	if e.replacing() { // its answer says which of the two the agent has
		e.unlink()
		e.wait = waitFlight
		if !e.dirty {
			e.dirty, e.since = true, now
		}
		return
	}
	if e.gone == "" {
		e.gone = uid // the oldest: nothing was sent since
	}
	if e.gone == "" {
		c.quiet(e)
		return
	}
	c.suspect(now, e, wire.Revision{UID: e.gone}, &batch{})
}

func (e *entry) finishedFor(uid string) bool {
	return e.verdict != nil && e.verdict.kind == finished && (uid == "" || e.verdict.rev.UID == uid)
}

func (e *entry) knownOrphan(uid string) bool { return e.left != nil && e.left.rev.UID == uid }
