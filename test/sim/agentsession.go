// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"slices"
	"time"

	"fairlead.dev/fairlead/agent/link"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

// agentSession drives one session of the real link.
type agentSession struct {
	*life
	p       *process
	conn    *conn
	steps   *link.Steps
	began   time.Time
	working bool
	pumpAt  time.Time
	sent    map[uint64]*agentv1.ObjectStatus // by status_seq, for checks
}

// receive takes a frame. The first one begins the session; if another one is
// served, that one ends first.
func (s *agentSession) receive(m *agentv1.SessionResponse) {
	if s.over {
		return
	}
	s.p.guard(func() {
		if s.steps == nil {
			s.begin(m)
			return
		}
		s.p.w.check.answered(s, m.GetStatusAck())
		if err := s.steps.Receive(m); err != nil {
			s.ended(err)
			return
		}
		s.look()
	})
}

func (s *agentSession) begin(m *agentv1.SessionResponse) {
	p := s.p
	if p.next == s {
		if old := p.cur; old != nil && !old.over {
			old.over = true
			old.steps.Replaced()
			old.conn.drop()
		}
		p.cur, p.next = s, nil
	}
	var err error
	if s.steps, err = p.link.Begin(p.ctx, m); err != nil {
		s.steps = nil
		s.ended(err)
		return
	}
	s.sent = map[uint64]*agentv1.ObjectStatus{}
	p.w.notef("", "agent", "is welcomed by %s in %s, %v", m.GetWelcome().GetHubReplica(), m.GetWelcome().GetHubEpoch(), m.GetWelcome().GetSyncMode())
	s.watch()
	s.look()
}

// look sees what there is to do after something came in.
func (s *agentSession) look() {
	if s.over {
		return
	}
	if spread, wished := s.steps.Wish(); wished && s.p.next == nil {
		s.p.w.after(time.Duration(s.p.dice.Float64()*float64(spread)), s.life, s.openNext)
	}
	s.workSoon()
	s.pump()
}

// openNext dials the other endpoint while this session goes on.
func (s *agentSession) openNext() {
	if s.p.next == nil && s.p.cur == s {
		s.p.spoke.endpoint++
		s.p.next = s.p.dial()
	}
}

// watch looks now and then whether the hub is still heard.
func (s *agentSession) watch() {
	s.p.w.after(max(s.steps.Silence(), time.Millisecond), s.life, func() {
		if err := s.steps.Alive(); err != nil {
			s.ended(err)
			return
		}
		s.watch()
	})
}

// workSoon works off what was received, which takes time.
func (s *agentSession) workSoon() {
	if s.working || s.over {
		return
	}
	s.working = true
	s.p.w.after(s.p.dice.between(100*time.Microsecond, s.p.spoke.slow), s.life, func() {
		s.working = false
		s.p.guard(func() {
			did, err := s.steps.Work(s.p.ctx)
			if err != nil {
				s.ended(err)
				return
			}
			if did {
				s.p.tend()
				s.workSoon()
				s.pump()
			}
		})
	})
}

// pump sends while the connection takes something.
func (s *agentSession) pump() {
	if s.over || s.steps == nil {
		return
	}
	for s.conn.up.room() && !s.conn.over {
		m, wait := s.steps.Next()
		if m == nil {
			s.pumpIn(wait)
			return
		}
		s.order(m.GetStatus())
		s.conn.toHub(m)
	}
}

// pumpIn plans another look, unless one is planned sooner.
func (s *agentSession) pumpIn(wait time.Duration) {
	wait = max(wait, time.Millisecond)
	at := time.Now().Add(wait)
	if s.pumpAt.After(time.Now()) && !at.Before(s.pumpAt) {
		return
	}
	s.pumpAt = at
	s.p.w.after(wait, s.life, func() {
		s.pumpAt = time.Time{}
		s.pump()
	})
}

// order sorts the statuses of a batch, which come out of maps, and notes them.
func (s *agentSession) order(batch *agentv1.StatusBatch) {
	if batch == nil {
		return
	}
	slices.SortStableFunc(batch.GetItems(), func(a, b *agentv1.ObjectStatus) int {
		if a.GetFinalized() != b.GetFinalized() {
			if a.GetFinalized() {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.GetKey().GetName(), b.GetKey().GetName())
	})
	for _, item := range batch.GetItems() {
		s.sent[item.GetStatusSeq()] = item
	}
}

// ended is the end of the session, or of the attempt at one.
func (s *agentSession) ended(err error) {
	if s.over {
		return
	}
	s.over = true
	s.conn.drop()
	p := s.p
	if p.next == s {
		p.next = nil
		return
	}
	p.w.notef("", "agent", "has lost connection %d: %v", s.conn.id, err)
	if next := p.next; next != nil { // it may still come up, and is the one then
		p.cur, p.next = next, nil
		return
	}
	p.spoke.endpoint++
	lasted := time.Duration(0)
	if s.steps != nil {
		lasted = time.Since(s.began)
	}
	p.w.after(p.link.Pause(err, lasted), p.life, p.connect)
}
