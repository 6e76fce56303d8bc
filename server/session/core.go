// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

type phase uint8

const (
	before phase = iota // no Hello yet
	open
	closed
)

// Core is one session. It is not safe for concurrent use: the caller holds one
// lock around its methods, and never while it sends.
type Core struct {
	cfg   Config
	src   Source
	phase phase
	mode  agentv1.SyncMode

	// What goes out, in this order: control, results of statuses, heartbeats,
	// changes.
	control []*agentv1.SessionResponse
	seq     uint64 // of the last message handed out
	beats   uint64
	effects []Effect

	// Keys on their way; nil when there are none.
	entries  map[wire.Key]*entry
	deletes  list
	small    list
	large    list
	smallRun int // frames of small objects sent while a large one waited
	transfer *transfer

	// Credit, and how much of it is used.
	window    credit
	pace      pace
	unacked   credit
	frames    []frame   // not processed by the agent yet
	progress  time.Time // when the agent acknowledged anything, or the first of these was sent
	processed uint64

	// Comparison with what the agent holds; nil when none is running.
	sync        *exchange
	syncLeft    int  // keys that Welcome's difference still has to send
	announce    bool // sync_complete is owed
	lastSync    time.Time
	batches     []*batch // of orphans, not complete yet
	reads       []wire.Key
	reading     int
	readID      uint64
	restoreWait bool
	// behind is the agent's proven mark while the index is below it: the index
	// lags, so nothing it shows is sent without asking the quorum.
	behind uint64

	status *statuses // nil when there is nothing to do

	lastRecv  time.Time
	lastBeat  time.Time
	nextRetry time.Time
	drainAt   time.Time
	now       time.Time
}

// New makes the core of a session whose Lease is taken. cfg.Hub must not be nil.
func New(cfg Config, src Source) *Core {
	return &Core{cfg: cfg.withDefaults(), src: src}
}

// Step takes one input and returns what the caller has to do. The caller owns
// the result.
func (c *Core) Step(now time.Time, in Input) []Effect {
	c.now = now
	if c.phase != closed {
		c.step(now, in)
	}
	effects := c.effects
	c.effects = nil
	return effects
}

func (c *Core) step(now time.Time, in Input) {
	switch in := in.(type) {
	case Hello:
		c.hello(now, in.Message)
	case Frame:
		c.frame(now, in.Message)
	case Marked:
		c.mark(now, in)
	case QuorumAnswer:
		c.answered(now, in)
	case FinalizerDone:
		c.finalized(now, in)
	case StatusDone:
		c.statusDone(in)
	case RestoreAnswer:
		c.restoreAnswered(in)
	case Direct:
		c.direct(in.Directive)
	case Drain:
		c.drain(in)
	case End:
		c.close(in.Reason, in.Message, in.RetryAfter)
	case Tick:
		c.tick(now)
	}
}

// frame takes any message after Hello; each is a sign of life.
func (c *Core) frame(now time.Time, req *agentv1.SessionRequest) {
	if c.phase == before {
		c.violationf("the first message is not Hello")
		return
	}
	c.lastRecv = now
	switch m := req.GetMessage().(type) {
	case *agentv1.SessionRequest_Hello:
		c.violationf("a second Hello")
	case *agentv1.SessionRequest_Ack:
		c.ack(now, m.Ack)
	case *agentv1.SessionRequest_Status:
		c.statusBatch(m.Status)
	case *agentv1.SessionRequest_Inventory:
		c.inventory(now, m.Inventory)
	case *agentv1.SessionRequest_Heartbeat:
		c.heartbeat(now, m.Heartbeat)
	case *agentv1.SessionRequest_ClusterReport:
		if m.ClusterReport != nil {
			c.effect(ReportCluster{Report: m.ClusterReport})
		}
	case *agentv1.SessionRequest_Events:
		c.events(m.Events)
	case *agentv1.SessionRequest_Goodbye:
		c.close("", "the agent left: "+wire.Truncate(m.Goodbye.GetReason()), 0)
	default:
		c.unsupported()
	}
}

// maxEvents is how many events of one batch are passed on.
const maxEvents = 100

func (c *Core) events(batch *agentv1.EventBatch) {
	events := batch.GetEvents()
	if len(events) > maxEvents {
		events = events[:maxEvents]
	}
	if len(events) > 0 {
		c.effect(ReportEvents{Events: events})
	}
}

// unsupported answers a message that this hub does not know, so that newer
// agents can tell (PROTOCOL c15). One answer at a time is enough.
func (c *Core) unsupported() {
	c.effect(Unsupported{})
	results := &c.statuses().results
	for _, r := range *results {
		if r.GetKey() == nil {
			return
		}
	}
	*results = append(*results, &agentv1.StatusResult{
		Code:  agentv1.StatusCode_STATUS_CODE_RETRY,
		Error: &agentv1.ErrorInfo{Reason: reason.Unsupported, Message: "this hub does not know that message"},
	})
}

func (c *Core) effect(e Effect) { c.effects = append(c.effects, e) }

func (c *Core) say(m *agentv1.SessionResponse) { c.control = append(c.control, m) }

// violationf closes because the agent broke the protocol.
func (c *Core) violationf(format string, args ...any) {
	c.close(reason.ProtocolError, fmt.Sprintf(format, args...), 0)
}

// close ends the session: a Goodbye is the last that Next returns. All state is
// dropped. An empty reason is an end without a fault.
func (c *Core) close(why, message string, retryAfter time.Duration) {
	if c.phase == closed {
		return
	}
	welcomed := c.phase == open
	c.effect(Close{Reason: why, Message: message, RetryAfter: retryAfter})
	*c = Core{
		cfg: c.cfg, src: c.src, phase: closed, mode: c.mode, seq: c.seq, effects: c.effects,
		lastRecv: c.lastRecv, now: c.now,
	}
	if welcomed && why != "" {
		c.say(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Goodbye{Goodbye: &agentv1.Goodbye{Reason: why}}})
	}
}
