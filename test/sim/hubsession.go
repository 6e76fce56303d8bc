// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/session"
)

// grant is the right to act for the cluster.
type grant struct {
	leaseUID, holder string
	epoch, serial    uint64
	complete         uint64 // up to where the index was complete when it was taken
}

// hubSession is the model of server/rpc/agent's runner around a real core.
type hubSession struct {
	*life
	r       *replica
	conn    *conn
	id      string
	core    *session.Core
	inbox   session.Inbox
	grant   grant
	closing *session.Close
	tickAt  time.Time
	blocked time.Time // since when a Send waits; zero: none does
	held    []*agentv1.HeldBatch
}

// accept takes an agent's Hello, or refuses it.
func (r *replica) accept(c *conn, hello *agentv1.Hello) {
	if !r.ready() {
		c.refuse(reason.HubStarting, time.Second)
		return
	}
	r.w.after(r.w.api.takes(r.dice), r.proc, func() { r.take(c, hello) })
}

// take gets the Lease, registers for marks, and answers Hello, in that order.
func (r *replica) take(c *conn, hello *agentv1.Hello) {
	if c.over {
		return
	}
	a := r.w.api
	if a.fails() || !r.ready() {
		c.refuse(reason.HubOverloaded, time.Second)
		return
	}
	hub, complete := r.hub, r.index.high
	r.w.sessions++
	s := &hubSession{life: &life{}, r: r, conn: c, id: fmt.Sprintf("s%d", r.w.sessions)}
	a.rv++
	a.lease.epoch, a.lease.holder, a.lease.rv = a.lease.epoch+1, r.name+"/"+s.id, a.rv
	r.grants++
	s.grant = grant{leaseUID: a.lease.uid, holder: a.lease.holder, epoch: a.lease.epoch, serial: r.w.sessions, complete: complete}
	older := r.local
	r.local, c.hub = s, s
	s.core = session.New(session.Config{
		Hub: hub, SessionID: s.id, Epoch: s.grant.epoch, Heartbeat: heartbeat,
		Reconnect:   session.Reconnect{Base: time.Second, Max: time.Minute, Spread: 2 * time.Second},
		AntiEntropy: r.dice.between(8*time.Minute, 12*time.Minute),
	}, view{r.index, s.grant.serial})
	r.sessions = append(r.sessions, s)
	r.w.disturb()
	r.w.notef("", r.name, "session %s begins, epoch %d, index at %d", s.id, s.grant.epoch, r.index.high)
	s.step(session.Hello{Message: hello})
	if older != nil && !older.over {
		older.end(reason.Superseded, "", 0)
	}
	r.w.leaseChanged(r)
}

// leaseSeen is the watch of the Lease: a session that lost it ends.
func (r *replica) leaseSeen() {
	if !r.up() || r.local == nil || r.owns(r.local.grant) {
		return
	}
	s := r.local
	r.local = nil
	s.end(reason.Superseded, "", 0)
}

func (r *replica) owns(g grant) bool {
	l := r.w.api.lease
	return l.uid == g.leaseUID && l.holder == g.holder && l.epoch == g.epoch
}

// isHeld is what the replica thinks without asking.
func (r *replica) isHeld(g grant) bool { return r.local != nil && r.local.grant == g }

// step gives the core one input and carries out what it asks for.
func (s *hubSession) step(in session.Input) {
	if s.over {
		return
	}
	s.carry(s.core.Step(time.Now(), in))
	s.pump()
}

func (s *hubSession) end(why, message string, after time.Duration) {
	s.step(session.End{Reason: why, Message: message, RetryAfter: after})
}

// pump is the send loop: it pulls while the connection takes something.
func (s *hubSession) pump() {
	if s.over {
		return
	}
	now := time.Now()
	for _, m := range s.inbox.Take() {
		s.carry(s.core.Step(now, m))
	}
	for s.conn.down.room() {
		s.blocked = time.Time{}
		m := s.core.Next(now)
		if m == nil {
			if s.closing != nil {
				s.finish()
				return
			}
			s.wake(s.core.Wakeup())
			return
		}
		s.r.w.noteDown(s, m)
		s.conn.toAgent(m)
	}
	if s.blocked.IsZero() {
		s.blocked = now
		s.r.w.after(31*time.Second, s.life, s.stalled)
	}
}

// stalled cuts a connection whose agent does not read.
func (s *hubSession) stalled() {
	if !s.blocked.IsZero() && time.Since(s.blocked) >= 30*time.Second {
		s.r.w.notef("", s.r.name, "session %s does not read", s.id)
		s.conn.cut("slow consumer")
	}
}

// wake plans the next Tick.
func (s *hubSession) wake(at time.Time) {
	if at.IsZero() || !s.tickAt.IsZero() && !at.Before(s.tickAt) && s.tickAt.After(time.Now()) {
		return
	}
	s.tickAt = at
	s.r.w.after(max(time.Until(at), time.Microsecond), s.life, func() {
		s.tickAt = time.Time{}
		s.step(session.Tick{})
	})
}

// receive takes a frame of the agent.
func (s *hubSession) receive(m *agentv1.SessionRequest) {
	s.r.w.noteUp(s, m)
	s.step(session.Frame{Message: m})
}

// finish ends the stream with the reason that the core gave.
func (s *hubSession) finish() {
	s.leave()
	s.conn.refuse(s.closing.Reason, s.closing.RetryAfter)
}

// leave takes the session out of everything it was in.
func (s *hubSession) leave() {
	if s.over {
		return
	}
	s.over = true
	r := s.r
	r.w.disturb()
	r.w.notef("", r.name, "session %s ends", s.id)
	r.sessions = slices.DeleteFunc(r.sessions, func(o *hubSession) bool { return o == s })
	if r.local != s {
		return
	}
	r.local = nil
	r.w.after(r.dice.between(time.Millisecond, 50*time.Millisecond), r.proc, func() {
		if a := r.w.api; !a.fails() && r.owns(s.grant) {
			a.rv++
			a.lease.holder, a.lease.rv = "", a.rv
		}
	})
}

// carry does what the core wants done.
func (s *hubSession) carry(effects []session.Effect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case session.ReadQuorum:
			s.readQuorum(e)
		case session.EnsureFinalizer:
			s.r.writer.ensureFinalizer(s, e)
		case session.PersistStatus:
			s.r.writer.put(s, e)
		case session.CheckRestore:
			s.checkRestore(e.Mark)
		case session.ReportCluster:
			s.held = e.Report.GetHeld()
		case session.CountMismatch:
			s.r.w.mismatch(e.Keys)
		case session.Undelivered:
			s.r.w.notef(e.Key.Name, s.r.name, "%s/%d is not delivered: %s", e.Revision.UID, e.Revision.Generation, e.Error.GetReason())
		case session.Close:
			if s.closing == nil {
				s.closing = &e
				s.r.w.notef("", s.r.name, "session %s closes: %s %s", s.id, e.Reason, e.Message)
				s.r.w.after(time.Second, s.life, func() { s.conn.cut("the goodbye was not taken") })
			}
		}
	}
}

func (s *hubSession) readQuorum(e session.ReadQuorum) {
	r := s.r
	r.w.after(r.w.api.takes(r.dice), s.life, func() {
		complete := r.index.high
		have := r.index.works[e.Key.Name].rv
		o, found, err := r.w.api.get(e.Key.Name)
		answer := session.QuorumAnswer{
			Read: e, Failed: err != nil, Found: found, UID: o.uid, Generation: o.generation, Deleting: o.deleting, ResourceVersion: strconv.FormatUint(o.rv, 10),
		}
		if !found {
			answer.ResourceVersion = strconv.FormatUint(r.index.high, 10)
		}
		if _, have := r.index.works[e.Key.Name]; !have && r.w.breaks("absence from the index is proof") {
			answer.Found, answer.UID = false, ""
		}
		if found && o.rv <= complete && have < o.rv {
			r.doubt()
		}
		r.w.after(r.dice.between(time.Millisecond, 30*time.Millisecond), s.life, func() { s.step(answer) })
	})
}

func (s *hubSession) checkRestore(m wire.HighWater) {
	r, epoch := s.r, s.r.hub.Epoch
	r.w.after(r.dice.between(time.Millisecond, 100*time.Millisecond), s.life, func() {
		back, err := r.restored(m, epoch)
		if err != nil {
			r.w.after(5*time.Second, s.life, func() { s.checkRestore(m) })
			return
		}
		s.step(session.RestoreAnswer{Restored: back})
	})
}
