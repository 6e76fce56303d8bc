// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"fairlead.dev/fairlead/agent/link"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

// pipeBytes is what one direction of a connection takes before a Send blocks.
const pipeBytes = 64 << 10

// conn is one connection with its one stream. Frames arrive in order, late, or
// not at all. Its life ends when it is cut: what is on the way then is lost.
type conn struct {
	*life
	w        *World
	id       uint64
	dice     dice
	replica  *replica
	hub      *hubSession // nil before its Hello was taken
	agent    *agentSession
	down, up pipe
	latency  time.Duration
	rate     float64 // bytes a second
	hole     bool    // half-open: nothing arrives any more
	stalled  time.Time
}

// pipe is one direction.
type pipe struct {
	bytes int
	last  time.Time // when the last frame arrives
}

func (p *pipe) room() bool { return p.bytes < pipeBytes }

// dial connects an agent session with a replica, and says Hello.
func (w *World) dial(s *agentSession, r *replica) *conn {
	w.conns++
	d := w.network
	c := &conn{
		life: &life{}, w: w, id: w.conns, dice: d, replica: r, agent: s,
		latency: d.between(time.Millisecond, 40*time.Millisecond), rate: 10e6,
	}
	if w.plan.slowLink(d) {
		c.latency, c.rate = d.between(100*time.Millisecond, 2*time.Second), 30e3
	}
	w.live = append(w.live, c)
	return c
}

// carry takes a frame to the other side; then is what happens there.
func (c *conn) carry(p *pipe, size int, then func(), freed func()) {
	p.bytes += size
	at := time.Now().Add(c.latency + c.dice.about(c.latency/5))
	if at.Before(p.last) {
		at = p.last
	}
	p.last = at.Add(time.Duration(float64(size) / c.rate * float64(time.Second)))
	var arrive func()
	arrive = func() {
		if wait := time.Until(c.stalled); wait > 0 {
			c.w.after(wait, c.life, arrive)
			return
		}
		if c.hole {
			return
		}
		p.bytes -= size
		then()
		freed()
	}
	c.w.after(time.Until(p.last), c.life, arrive)
}

// toAgent sends one frame; it travels as bytes, so that nothing is shared.
func (c *conn) toAgent(m *agentv1.SessionResponse) {
	raw, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	if len(raw) > 256<<10 {
		c.w.failf("frame size", "", "the hub sent a frame of %d bytes", len(raw))
	}
	c.carry(&c.down, len(raw), func() {
		frame := &agentv1.SessionResponse{}
		if err := proto.Unmarshal(raw, frame); err != nil {
			panic(err)
		}
		c.tamper(frame)
		c.agent.receive(frame)
	}, func() {
		if c.hub != nil {
			c.hub.pump()
		}
	})
}

// tamper breaks rules of the wire on purpose.
func (c *conn) tamper(m *agentv1.SessionResponse) {
	for _, change := range m.GetDelta().GetChanges() {
		rev := change.GetRevision()
		if c.w.breaks("a delete needs no request") && change.GetUpsert().GetLastPart() && c.dice.chance(0.1) {
			change.Action = &agentv1.ObjectChange_Delete{Delete: &agentv1.Delete{Reason: agentv1.DeleteReason_DELETE_REASON_REQUESTED}}
		}
		if c.w.breaks("content is changed on the way") && change.GetUpsert() != nil {
			rev.Generation++
		}
	}
}

// toHub sends one frame.
func (c *conn) toHub(m *agentv1.SessionRequest) {
	raw, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	if len(raw) > 256<<10 {
		c.w.failf("frame size", "", "the agent sent a frame of %d bytes", len(raw))
	}
	c.carry(&c.up, len(raw), func() {
		frame := &agentv1.SessionRequest{}
		if err := proto.Unmarshal(raw, frame); err != nil {
			panic(err)
		}
		if hello := frame.GetHello(); hello != nil {
			c.replica.accept(c, hello)
		} else if c.hub != nil {
			c.hub.receive(frame)
		}
	}, func() { c.agent.pump() })
}

// refuse ends the stream with a status of the hub, which arrives after what was
// sent before.
func (c *conn) refuse(why string, after time.Duration) {
	c.carry(&c.down, 100, func() {
		c.close()
		c.agent.ended(&link.Ended{Reason: orElse(why, "DISCONNECTED"), RetryAfter: after, Err: errHubSaid})
	}, func() {})
}

// cut breaks the connection. Each side learns of it by itself.
func (c *conn) cut(why string) {
	if c.over {
		return
	}
	c.w.notef("", "network", "connection %d is cut: %s", c.id, why)
	c.close()
	if c.hub != nil && !c.hub.over {
		c.w.after(c.dice.about(200*time.Millisecond), c.hub.life, c.hub.leave)
	}
	c.w.after(c.dice.about(50*time.Millisecond), c.agent.life, func() { c.agent.ended(errCut) })
}

// drop is the end of the agent's side: the hub learns of it, unless nothing
// arrives there any more.
func (c *conn) drop() {
	if c.over {
		return
	}
	c.close()
	if c.hub != nil && !c.hub.over && !c.hole {
		c.w.after(c.latency+c.dice.about(50*time.Millisecond), c.hub.life, c.hub.leave)
	}
}

func (c *conn) close() {
	c.over = true
	for i, o := range c.w.live {
		if o == c {
			c.w.live = append(c.w.live[:i:i], c.w.live[i+1:]...)
			return
		}
	}
}

var (
	errCut     = &link.Ended{Reason: "DISCONNECTED", Err: errors.New("the connection broke")}
	errHubSaid = errors.New("the hub ended the stream")
)

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
