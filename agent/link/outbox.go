// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"slices"
	"sync"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

const (
	// maxAcks bounds the object acks of one message; each is some 200 bytes, or
	// 1 KiB with an error.
	maxAcks = 200
	// maxEvents is how many events wait; the oldest is dropped first.
	maxEvents = 256
)

// outbox is what one session has to send besides statuses. Whoever produces
// never waits: acks are merged, replies are bounded by what the hub asked for,
// and of reports only "one is due" is kept. Safe for concurrent use.
type outbox struct {
	mu        sync.Mutex
	processed uint64 // cumulative, for Ack
	told      uint64 // the processed that the hub was told
	acks      []*agentv1.ObjectAck
	replies   map[bool][]*agentv1.SessionRequest // by whether they are about statuses
	wake      chan struct{}                      // shared with everything that may give the sender work
}

func newOutbox(wake chan struct{}) *outbox {
	return &outbox{wake: wake, replies: map[bool][]*agentv1.SessionRequest{}}
}

// ack notes that all frames up to seq are worked off, and what became of the
// objects in them.
func (o *outbox) ack(seq uint64, objects ...*agentv1.ObjectAck) {
	o.mu.Lock()
	o.processed = max(o.processed, seq)
	o.acks = append(o.acks, objects...)
	o.mu.Unlock()
	nudge(o.wake)
}

// reply queues answers to an inventory request, in place of unsent older ones:
// the newest describes what is held now.
func (o *outbox) reply(statuses bool, messages []*agentv1.SessionRequest) {
	o.mu.Lock()
	o.replies[statuses] = messages
	o.mu.Unlock()
	nudge(o.wake)
}

// takeAck returns the ack that is due, or nil.
func (o *outbox) takeAck() *agentv1.SessionRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.acks) == 0 && o.processed == o.told {
		return nil
	}
	n := min(len(o.acks), maxAcks)
	message := &agentv1.Ack{ProcessedSeq: o.told, Objects: slices.Clone(o.acks[:n])}
	o.acks = o.acks[n:]
	if len(o.acks) == 0 { // frames count as processed once all that was in them is answered
		o.acks, o.told = nil, o.processed
		message.ProcessedSeq = o.processed
	}
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: message}}
}

// takeReply returns the next reply, or nil.
func (o *outbox) takeReply() *agentv1.SessionRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	for about, list := range o.replies {
		if len(list) > 0 {
			o.replies[about] = list[1:]
			return list[0]
		}
	}
	return nil
}

// events keeps the newest events until they are sent.
type events struct {
	mu   sync.Mutex
	list []*agentv1.ClusterEvent
}

func (e *events) add(event *agentv1.ClusterEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.list) == maxEvents {
		e.list = slices.Delete(e.list, 0, 1)
	}
	e.list = append(e.list, event)
}

// take returns up to n events.
func (e *events) take(n int) []*agentv1.ClusterEvent {
	e.mu.Lock()
	defer e.mu.Unlock()
	n = min(n, len(e.list))
	taken := slices.Clone(e.list[:n])
	e.list = slices.Delete(e.list, 0, n)
	return taken
}

// nudge wakes whoever waits on wake; one pending nudge is enough.
func nudge(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
