// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

const (
	// clockStep is what two offsets may differ by and be the same.
	clockStep = time.Second
	// clockEvery is how often at most the offset of one session is noted.
	clockEvery = time.Minute
)

// agentClock is how far the agent's clock is behind ours, by its heartbeats. A
// heartbeat that was long on its way makes the clock look behind, so that one
// which is off has to be so in two heartbeats on end, and the smaller offset
// counts. It serves for telling people only (PROTOCOL decision 11).
type agentClock struct {
	measured bool
	last     time.Duration
	told     time.Time // when the offset was last handed on
	noted    time.Duration
}

// measure takes one heartbeat's offset, and returns the one to be noted.
func (c *agentClock) measure(now time.Time, offset time.Duration) (note time.Duration, due bool) {
	known, last := c.measured, c.last
	c.measured, c.last = true, offset
	switch {
	case offset.Abs() <= clockStep: // as good as it gets
	case !known:
		return 0, false
	case last.Abs() < offset.Abs():
		offset = last
	}
	again := !c.told.IsZero() // the first is always told
	if again && ((offset-c.noted).Abs() < clockStep || now.Sub(c.told) < clockEvery) {
		return 0, false
	}
	c.told, c.noted = now, offset
	return offset, true
}

// tellClock has the offset noted, in the background, if it changed.
func (r *runner) tellClock(beat *agentv1.Heartbeat) {
	if beat.GetSent() == nil || beat.GetSent().CheckValid() != nil {
		return
	}
	now := time.Now()
	offset, due := r.clock.measure(now, now.Sub(beat.GetSent().AsTime()))
	if !due {
		return
	}
	r.service.Background("agent's clock", func() {
		if err := r.hold.Reports.Clock(r.ctx, offset); err != nil && r.ctx.Err() == nil {
			r.log().Warn("the offset of the agent's clock was not noted", "offset", offset, "error", err)
		}
	})
}
