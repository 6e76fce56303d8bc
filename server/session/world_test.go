// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

// world is one session with a model hub and a model agent around it.
type world struct {
	hub   *hub
	agent *agent
	core  *session.Core
	now   time.Time
	cfg   session.Config

	rounds     int // trips from hub to agent and back that were needed
	noQuorum   bool
	slowQuorum bool // answers wait in reads
	reads      []session.ReadQuorum
	restored   bool
	slowCheck  bool
	slowStore  bool // statuses wait in persists
	persists   []session.PersistStatus
	persisted  map[wire.Key]string
	closed     *session.Close
	effects    []session.Effect
	queued     []session.Input
	log        strings.Builder
	frames     int
	maxFrame   int
	beats      int // heartbeats not told yet
}

func newWorld() *world {
	return &world{
		hub: newHub(), agent: newAgent(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		persisted: map[wire.Key]string{},
		cfg: session.Config{
			SessionID: "s-1", Epoch: 7, Hub: &session.Hub{
				Replica: "replica-a", ID: hubID, Epoch: hubEpoch,
				Proven: func(m wire.HighWater) bool { return wire.Proven(secret(), hubID, m) },
			},
			Reconnect: session.Reconnect{Base: time.Second, Max: time.Minute, Spread: 2 * time.Second},
		},
	}
}

func (w *world) sayf(format string, args ...any) {
	if w.beats > 0 {
		n := w.beats
		w.beats = 0
		w.sayf("  <- %d × Heartbeat", n)
	}
	fmt.Fprintf(&w.log, format+"\n", args...)
}

// connect begins a session, as the rpc side does.
func (w *world) connect() {
	w.core = session.New(w.cfg, w.hub)
	w.closed, w.reads, w.persists, w.queued = nil, nil, nil, nil
	w.marks() // of before Hello
	w.step(session.Hello{Message: w.agent.hello()})
}

// step gives one input to the core, and carries out what it asks for.
func (w *world) step(in session.Input) {
	w.queued = append(w.queued, in)
	for len(w.queued) > 0 {
		in := w.queued[0]
		w.queued = w.queued[1:]
		for _, e := range w.core.Step(w.now, in) {
			w.effects = append(w.effects, e)
			w.do(e)
		}
	}
}

func (w *world) later(in session.Input) { w.queued = append(w.queued, in) }

func (w *world) do(e session.Effect) {
	w.sayf("     * %s", describeEffect(e))
	switch e := e.(type) {
	case session.ReadQuorum:
		switch {
		case w.slowQuorum:
			w.reads = append(w.reads, e)
		case w.noQuorum:
			w.later(session.QuorumAnswer{Read: e, Failed: true})
		default:
			w.later(w.hub.quorum(e))
		}
	case session.EnsureFinalizer:
		if o, ok := w.hub.truth[e.Key]; ok && o.uid == e.UID {
			o.finalizer = true
			w.hub.truth[e.Key], w.hub.index[e.Key] = o, o
		}
		w.later(session.FinalizerDone{Key: e.Key, UID: e.UID})
	case session.PersistStatus:
		w.supersede(e)
		w.persists = append(w.persists, e)
		if !w.slowStore {
			w.persistAll()
		}
	case session.CheckRestore:
		if !w.slowCheck {
			w.later(session.RestoreAnswer{Restored: w.restored})
		}
	case session.Close:
		w.closed = &e
	}
}

// supersede drops what e replaces, as server/store does: the oldest of a key is
// being written, of what comes after it only the newest waits.
func (w *world) supersede(e session.PersistStatus) {
	writing := false
	w.persists = slices.DeleteFunc(w.persists, func(old session.PersistStatus) bool {
		if old.Key != e.Key {
			return false
		}
		first := !writing
		writing = true
		if first || old.UID != e.UID || old.Finalized && !e.Finalized {
			return false
		}
		w.later(session.StatusDone{Key: old.Key, UID: old.UID, Seq: old.Seq, Code: agentv1.StatusCode_STATUS_CODE_SUPERSEDED})
		return true
	})
}

// persistAll stores the statuses that wait, as server/store does.
func (w *world) persistAll() {
	persists := w.persists
	w.persists = nil
	for _, p := range persists {
		done := session.StatusDone{Key: p.Key, UID: p.UID, Seq: p.Seq, Code: agentv1.StatusCode_STATUS_CODE_PERSISTED}
		o, ok := w.hub.truth[p.Key]
		switch {
		case !ok || o.uid != p.UID:
			done.Code = agentv1.StatusCode_STATUS_CODE_STALE_UID
		case p.Finalized && o.deleting:
			w.hub.purge(p.Key.Name)
		default:
			w.persisted[p.Key] = string(p.Encoded)
		}
		w.later(done)
	}
	w.marks()
}

// marks gives the index's marks to the core.
func (w *world) marks() {
	marks := w.hub.marks
	w.hub.marks = nil
	for _, m := range marks {
		w.later(m)
	}
}

// next is the core's next message. A core that was quiet must have none.
func (w *world) next() *agentv1.SessionResponse {
	quiet := w.core.Quiet() && w.now.Before(w.core.Wakeup())
	m := w.core.Next(w.now)
	if quiet && m != nil {
		w.agent.faultf("a sender that sleeps would have missed %s", describeResponse(m))
	}
	return m
}

// pull moves at most n messages from the core to the agent's inbox; it tells
// whether there was any.
func (w *world) pull(n int) bool {
	pulled := false
	for range n {
		m := w.next()
		if m == nil {
			break
		}
		pulled = true
		w.frames++
		w.maxFrame = max(w.maxFrame, proto.Size(m))
		if m.GetHeartbeat() != nil {
			w.beats++
		} else {
			w.sayf("  <- %s", describeResponse(m))
		}
		w.agent.inbox = append(w.agent.inbox, m)
	}
	if at := w.core.Wakeup(); !at.IsZero() && !at.After(w.now) {
		w.step(session.Tick{})
	}
	return pulled
}

// process lets the agent look at what arrived, and brings back what it says.
func (w *world) process() bool {
	if w.agent.paused || len(w.agent.inbox) == 0 {
		return false
	}
	inbox := w.agent.inbox
	w.agent.inbox = nil
	for _, m := range inbox {
		for _, req := range w.agent.take(m) {
			w.tell(req)
		}
	}
	return true
}

// tell brings one message of the agent to the core.
func (w *world) tell(req *agentv1.SessionRequest) {
	if text := describeRequest(req); text != "" {
		w.sayf("  -> %s", text)
	}
	w.step(session.Frame{Message: req})
}

// run lets both sides talk until nobody has anything to say.
func (w *world) run() {
	for range 10_000 {
		w.marks()
		w.step(session.Tick{})
		pulled := w.pull(1 << 20)
		processed := w.process()
		if processed {
			w.rounds++
		}
		if !pulled && !processed && len(w.hub.marks) == 0 {
			return
		}
	}
	w.agent.faultf("the session does not come to rest")
}

// wait lets time pass, with a heartbeat of the agent every 20 s.
func (w *world) wait(d time.Duration) {
	end := w.now.Add(d)
	for w.now.Before(end) && w.closed == nil {
		next := end
		if at := w.core.Wakeup(); !at.IsZero() && at.After(w.now) && at.Before(next) {
			next = at
		}
		if beat := w.now.Add(20 * time.Second); beat.Before(next) {
			next = beat
		}
		w.now = next
		if !w.agent.paused {
			w.step(session.Frame{Message: &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}})
		}
		w.run()
	}
}

// antiEntropy is the agent's own comparison.
func (w *world) antiEntropy() {
	w.tell(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{Resume: w.agent.resume()}}})
	w.run()
}

// finalize lets the agent finish every delete that was asked for.
func (w *world) finalize() {
	for i, e := range w.agent.entries() {
		if i%1000 == 999 {
			w.run()
		}
		if h := w.agent.holds[e.Key]; h != nil && h.deleting && !h.finalized {
			w.tell(w.agent.status(e.Key, "", true))
		}
	}
	for _, request := range w.agent.reportForeign() {
		w.tell(request)
	}
	w.run()
}
