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

// State is where one key stands between hub and agent. The zero State means in
// sync, as far as this session knows.
type State struct {
	Dirty    bool
	Waiting  string    // what it waits for before it is sent; empty: for its turn
	RetryAt  time.Time // of a retry
	Since    time.Time // of the change that is to be sent
	Sent     time.Time // sent and not acknowledged since; zero when not in flight
	Revision wire.Revision
	// Rejected is why the agent refused the newest revision; Undelivered why it
	// cannot be sent.
	Rejected, Undelivered *agentv1.ErrorInfo
	// Refused is why the agent could not take it the last time; it is sent again.
	Refused  *agentv1.ErrorInfo
	Orphaned bool // the agent knows that the hub has it no more
	Held     bool // likewise, and it waits there for a person
}

var waitNames = map[wait]string{
	waitFlight:    "the last revision is not acknowledged yet",
	waitFinalizer: "the hub's finalizer is being added",
	waitRetry:     "the agent could not take it, or the hub could not read it; trying again",
	waitReread:    "the apiserver could not be asked; trying again",
	waitRead:      "the apiserver is to be asked whether the index is behind",
	waitAnswer:    "the apiserver is asked whether the index is behind",
	waitBatch:     "the other deletes of its batch are being proven",
}

// State explains one key.
func (c *Core) State(key wire.Key) State {
	e := c.entries[key]
	if e == nil {
		return State{}
	}
	s := State{Dirty: e.dirty, Waiting: waitNames[e.wait], Since: e.since, Sent: e.flight.sent, Revision: e.flight.rev, Refused: e.refused}
	if e.wait == waitRetry || e.wait == waitReread {
		s.RetryAt = e.due
	}
	if e.left != nil {
		s.Revision, s.Orphaned, s.Held = e.left.rev, true, e.left.held
	}
	if v := e.verdict; v != nil {
		s.Revision = v.rev
		switch v.kind {
		case rejected:
			s.Rejected = v.err
		case undeliverable:
			s.Undelivered = v.err
		case finished: // nothing to say
		}
	}
	return s
}

// Stats is a session at a glance.
type Stats struct {
	Mode           agentv1.SyncMode
	Syncing        bool // Welcome's difference is not sent yet
	Dirty          int
	UnackedObjects int
	UnackedBytes   uint64
	Statuses       int // keys whose status is being stored
	LastReceived   time.Time
	Sent           uint64 // messages
	Closed         bool
}

// Stats costs one look at each key that is on its way.
func (c *Core) Stats() Stats {
	s := Stats{
		Mode: c.mode, Syncing: c.announce, UnackedObjects: c.unacked.objects, UnackedBytes: uint64(max(0, c.unacked.bytes)),
		LastReceived: c.lastRecv, Sent: c.seq, Closed: c.phase == closed,
	}
	for _, e := range c.entries {
		if e.dirty {
			s.Dirty++
		}
	}
	if c.status != nil {
		s.Statuses = len(c.status.pending)
	}
	return s
}

func undeliverableText(why string, size, limit uint64) string {
	if why == reason.ObjectTooLarge {
		return fmt.Sprintf("it has %d bytes as delivered, the limit is %d: split it into several works", size, limit)
	}
	return "the hub cannot send it"
}
