// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"sync"
	"time"
)

const (
	paceStart = 8
	paceMin   = 2 // one that is refused lets another one through (T19)
	paceMax   = 64
	// slowWrite is a write that says the apiserver has more than it can take.
	slowWrite = time.Second
	// paceCut is how often the limit is cut at most.
	paceCut = time.Second
	// pressureLasts is how long a push-back counts for Pressure.
	pressureLasts = 10 * time.Second
)

// pace is how many writes may be under way: one more for every full round that
// went well, half as many when the apiserver pushes back.
type pace struct {
	mu     sync.Mutex
	limit  float64
	cutAt  time.Time
	pushed time.Time
}

func newPace() *pace { return &pace{limit: paceStart} }

func (p *pace) allowed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(p.limit)
}

// note takes in how one request went. cut is true when the limit went down.
func (p *pace) note(now time.Time, took time.Duration, pushedBack bool) (cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !pushedBack && took < slowWrite {
		p.limit = min(paceMax, p.limit+1/p.limit)
		return false
	}
	p.pushed = now
	if now.Sub(p.cutAt) < paceCut {
		return false
	}
	p.cutAt = now
	p.limit = max(paceMin, p.limit/2)
	return true
}

func (p *pace) pressure(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.pushed.IsZero() && now.Sub(p.pushed) < pressureLasts
}
