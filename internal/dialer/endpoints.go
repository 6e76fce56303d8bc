// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package dialer

import "time"

// badFor is how long an endpoint that failed is not preferred to one that works.
const badFor = 10 * time.Minute

// Endpoints decides which of a hub's endpoints is tried next: the one that
// worked last, and when it fails the others in turn, each once before anything
// is tried again. Not safe for concurrent use.
type Endpoints struct {
	all     []endpoint
	current int
	seq     int // counts failures
	round   int // seq when the round began
}

type endpoint struct {
	address string
	failed  int // seq of its last failure; 0 if it has worked since
	at      time.Time
}

// NewEndpoints takes at least one host:port, in order of preference.
func NewEndpoints(addresses []string) *Endpoints {
	e := &Endpoints{}
	for _, address := range addresses {
		e.all = append(e.all, endpoint{address: address})
	}
	return e
}

// Current is the one to try.
func (e *Endpoints) Current() string { return e.all[e.current].address }

// Worked says that the current one does. It stays the one to try.
func (e *Endpoints) Worked() {
	e.all[e.current].failed = 0
	e.round = e.seq
}

// Failed says that the current one did, and moves on. It tells whether there is
// another one that was not tried since one worked or the last round ended, so
// that there is no need to wait.
func (e *Endpoints) Failed(now time.Time) (another bool) {
	e.seq++
	e.all[e.current].failed, e.all[e.current].at = e.seq, now
	for i := range e.all {
		if e.all[i].failed < e.all[e.current].failed {
			e.current = i
		}
	}
	if e.all[e.current].failed <= e.round {
		return true
	}
	e.round = e.seq
	return false
}

// Other moves to the next endpoint that is not known to be bad, if there is one,
// while the current one still works.
func (e *Endpoints) Other(now time.Time) {
	for i := range e.all {
		next := (e.current + 1 + i) % len(e.all)
		if e.all[next].failed == 0 || now.Sub(e.all[next].at) >= badFor {
			e.current = next
			return
		}
	}
}
