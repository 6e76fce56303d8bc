// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	"fairlead.dev/fairlead/internal/wire"
)

const (
	// paceLead is how far content is sent ahead of acknowledgements, beside what
	// the way itself takes, of which it is half where that is more: a delete waits
	// for that much.
	paceLead = 500 * time.Millisecond
	// paceFloor is what is always allowed: two of the smallest parts, so that the
	// next one is on its way while one is being acknowledged.
	paceFloor = 2 * (wire.MinPart + changeOverhead)
	// paceIdle is after what time without anything on its way the pace is found
	// anew: the link may be another one by then.
	paceIdle = time.Minute
)

// pace bounds the content that is sent and not processed to what link and agent
// take in about half a second. What is on the wire cannot be overtaken, and the
// agent's window alone lets a minute's worth onto a slow link (T10). It begins with
// little and at most doubles each round trip, while frames are processed soon.
type pace struct {
	limit    int           // bytes
	shortest time.Duration // in which a frame was processed; 0: none was
	idle     time.Time     // since when nothing is on its way
}

// begin is called before a frame is made while nothing is on its way.
func (p *pace) begin(now time.Time) {
	if p.limit == 0 || now.Sub(p.idle) >= paceIdle {
		*p = pace{limit: paceFloor, idle: now}
	}
}

// processed takes one acknowledged frame of cost bytes. unacked is what was on its
// way when it was sent, with itself: all of that was processed in the time it
// took, which is the rate of link and agent together if they had no pause. busy
// tells that about as much was on its way as is allowed.
func (p *pace) processed(took time.Duration, cost, unacked int, busy bool) {
	took = max(took, time.Microsecond)
	if p.shortest == 0 || took < p.shortest {
		p.shortest = took
	}
	lead := max(paceLead, p.shortest/2)
	switch {
	case took > p.shortest+lead:
		fits := float64(unacked) * float64(p.shortest+lead) / float64(took)
		p.limit = min(p.limit, max(int(fits), paceFloor))
	case busy && took <= p.shortest+lead/2:
		p.limit = min(p.limit+cost, maxWindowBytes)
	}
}

// busy tells whether that many bytes are enough to try the limit.
func (p *pace) busy(unacked int) bool { return 2*unacked >= p.limit }

// part is the size of parts: half of what may be on its way, within bounds.
func (p *pace) part() int { return min(max(p.limit/2-changeOverhead, wire.MinPart), wire.MaxPart) }
