// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

// heartbeat compares roots when the agent sent its own (anti-entropy). While
// something is on its way they cannot be equal, and a session in doubt is not
// asked twice in short order.
func (c *Core) heartbeat(now time.Time, h *agentv1.Heartbeat) {
	resume := h.GetResume()
	if resume == nil || !c.idle() {
		return
	}
	if modeOf(resume, c.src.Summary()) == agentv1.SyncMode_SYNC_MODE_IN_SYNC {
		c.lastSync = now
		c.forgetVerdicts()
		return
	}
	if now.Sub(c.lastSync) >= c.cfg.AntiEntropy/4 {
		c.antiEntropy(now)
	}
}

// forgetVerdicts drops what explained differences: there are none.
func (c *Core) forgetVerdicts() {
	for _, e := range c.entries {
		e.verdict, e.left = nil, nil
		c.settle(e)
	}
}

func (c *Core) antiEntropy(now time.Time) {
	c.lastSync = now
	c.sync = c.newExchange(now, false)
	c.askDigests()
}

// idle tells whether nothing is on its way to the agent.
func (c *Core) idle() bool {
	if c.sync != nil || c.announce {
		return false
	}
	for _, e := range c.entries {
		if e.dirty || e.flight.seq != 0 {
			return false
		}
	}
	return true
}
