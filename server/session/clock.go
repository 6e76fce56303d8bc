// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	retryBase = time.Second
	retryMax  = time.Minute
)

// tick does what time alone asks for.
func (c *Core) tick(now time.Time) {
	if c.phase != open {
		return
	}
	switch {
	case reached(now, c.cfg.Deadline):
		c.close(reason.CertificateExpired, "the session ends with the agent's certificate", 0)
		return
	case reached(now, c.drainAt):
		c.close(reason.Draining, "this replica is draining", 0)
		return
	case reached(now, c.lastRecv.Add(c.cfg.Liveness)):
		c.close(reason.LivenessLost, "nothing was received for "+c.cfg.Liveness.String(), 0)
		return
	case len(c.frames) > 0 && reached(now, c.progress.Add(ackPatience)):
		c.close(reason.SlowConsumer, "the agent acknowledged nothing of what it was sent for "+ackPatience.String(), 0)
		return
	case c.sync != nil && reached(now, c.sync.deadline):
		c.inventoryLate()
		return
	}
	c.retryDue(now)
	if reached(now, c.antiEntropyAt()) && c.idle() {
		c.antiEntropy(now)
	}
}

// Wakeup is when the next Tick is wanted; it may be in the past. The zero time
// means never.
func (c *Core) Wakeup() time.Time {
	if len(c.effects) > 0 {
		return c.now
	}
	if c.phase != open {
		return time.Time{}
	}
	at := c.lastRecv.Add(c.cfg.Liveness)
	for _, t := range []time.Time{c.beatAt(), c.cfg.Deadline, c.drainAt, c.nextRetry} {
		at = sooner(at, t)
	}
	if len(c.frames) > 0 {
		at = sooner(at, c.progress.Add(ackPatience))
	}
	if c.sync != nil {
		return sooner(at, c.sync.deadline)
	}
	// Not idle at that time: looked at again at the next tick, a heartbeat later
	// at most.
	if t := c.antiEntropyAt(); t.After(c.now) {
		at = sooner(at, t)
	}
	return at
}

func (c *Core) antiEntropyAt() time.Time { return c.lastSync.Add(c.cfg.AntiEntropy * 5 / 4) }

func reached(now, t time.Time) bool { return !t.IsZero() && !now.Before(t) }

func sooner(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

// beat is the hub's heartbeat, unless a Delta said the same not long ago.
func (c *Core) beat(now time.Time) *agentv1.SessionResponse {
	if !reached(now, c.beatAt()) {
		return nil
	}
	c.lastBeat = now
	c.beats++
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{
		Count: c.beats, Sent: timestamppb.New(now), HighWater: c.src.HighWater().Proto(),
	}}}
}

// beatSlots is into how many parts an interval of heartbeats is divided, at the
// beginning of which they are sent.
const beatSlots = 20

// beatAt is when the next heartbeat is due: an interval after the last, or up to
// a twentieth of it before, when those of many sessions are. A process that wakes
// for each one alone pays more for waking than for the heartbeat.
func (c *Core) beatAt() time.Time {
	at := c.lastBeat.Add(c.cfg.Heartbeat)
	slot := max(c.cfg.Heartbeat/beatSlots, 1)
	return at.Add(-(time.Duration(at.UnixNano()) % slot)) // and not Truncate, which would forget the monotonic clock
}

// Quiet tells that Next has nothing to say before Wakeup, unless something comes
// in. It may be false when it could be true.
func (c *Core) Quiet() bool {
	return c.phase == open && len(c.control) == 0 && (c.status == nil || len(c.status.results) == 0) &&
		c.deletes.empty() && c.small.empty() && c.large.empty() && c.transfer == nil && c.sync == nil && !c.announce
}

// retry makes an entry wait, longer each time.
func (c *Core) retry(now time.Time, e *entry, kind wait) {
	e.unlink()
	e.wait = kind
	e.due = now.Add(min(retryBase<<min(e.attempts, 6), retryMax))
	e.attempts++
	if c.nextRetry.IsZero() || e.due.Before(c.nextRetry) {
		c.nextRetry = e.due
	}
}

// retryDue takes up what has waited long enough.
func (c *Core) retryDue(now time.Time) {
	if !reached(now, c.nextRetry) {
		return
	}
	c.nextRetry = time.Time{}
	var due []*entry
	for _, e := range c.entries {
		switch {
		case e.wait != waitRetry && e.wait != waitReread:
		case reached(now, e.due):
			due = append(due, e)
		case c.nextRetry.IsZero() || e.due.Before(c.nextRetry):
			c.nextRetry = e.due
		}
	}
	slices.SortFunc(due, func(a, b *entry) int { return compareKeys(a.key, b.key) })
	for _, e := range due {
		if e.wait == waitReread || c.lagging() {
			c.askQuorum(e)
			continue
		}
		c.plan(e)
	}
}

// drain tells the agent to go elsewhere.
func (c *Core) drain(in Drain) {
	c.drainAt = in.CloseAt
	c.direct(&agentv1.Directive{Directive: &agentv1.Directive_Drain{Drain: &agentv1.Drain{
		CloseAt: timestamppb.New(in.CloseAt), Reconnect: in.Reconnect.proto(), Reason: in.Reason,
	}}})
}

// direct queues a directive, in the place of an older one of its kind.
func (c *Core) direct(d *agentv1.Directive) {
	if d == nil || c.phase != open {
		return
	}
	m := &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Directive{Directive: d}}
	for i, queued := range c.control {
		if old := queued.GetDirective(); old != nil && sameDirective(old, d) {
			c.control[i] = m
			return
		}
	}
	c.say(m)
}

func sameDirective(a, b *agentv1.Directive) bool {
	switch {
	case a.GetDrain() != nil:
		return b.GetDrain() != nil
	case a.GetThrottle() != nil:
		return b.GetThrottle() != nil
	case a.GetTrustBundle() != nil:
		return b.GetTrustBundle() != nil
	case a.GetRenewNow() != nil:
		return b.GetRenewNow() != nil
	case a.GetReleaseHold() != nil:
		return b.GetReleaseHold() != nil && a.GetReleaseHold().GetBatchId() == b.GetReleaseHold().GetBatchId()
	}
	return false
}
