// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/session"
)

// ErrNoSession says that this replica has no such session.
var ErrNoSession = errors.New("this replica has no session of that cluster")

// State is one live session as people see it.
type State struct {
	Cluster, SessionID, AgentID, Instance, Fingerprint, Remote string
	Epoch                                                      uint64
	Started, LastReceived, CertificateExpires                  time.Time
	// SendStalled is how long the Send in progress has taken; 0 when there is none.
	SendStalled time.Duration
	session.Stats
}

// Registry is the live sessions of this replica. Safe for concurrent use; its
// methods do not block on any session's stream.
type Registry struct {
	mu    sync.Mutex
	live  map[string][]*runner // by cluster, the newest last; almost always one
	count int
}

func newRegistry() *Registry {
	return &Registry{live: map[string][]*runner{}}
}

// Len is how many sessions there are.
func (g *Registry) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

// List is every live session, by cluster.
func (g *Registry) List() []State {
	runners := g.runners()
	states := make([]State, 0, len(runners))
	for _, r := range runners {
		states = append(states, r.state())
	}
	slices.SortFunc(states, func(a, b State) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), a.Started.Compare(b.Started))
	})
	return states
}

// Get is the newest session of a cluster.
func (g *Registry) Get(cluster string) (State, bool) {
	r := g.of(cluster)
	if r == nil {
		return State{}, false
	}
	return r.state(), true
}

// Delivery is where one work stands in the cluster's session.
func (g *Registry) Delivery(cluster string, key wire.Key) (session.State, bool) {
	r := g.of(cluster)
	if r == nil {
		var none session.State
		return none, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.core.State(key), true
}

// Held is what the cluster's agent last reported as held; false when it has no
// session here, or has not reported yet. The result must not be changed.
func (g *Registry) Held(cluster string) ([]*agentv1.HeldBatch, bool) {
	r := g.of(cluster)
	if r == nil {
		return nil, false
	}
	r.reports.mu.Lock()
	defer r.reports.mu.Unlock()
	return r.reports.held, r.reports.known
}

// ReleaseHold tells the cluster's agent to act on a batch that it holds.
func (g *Registry) ReleaseHold(cluster, batch string) error {
	return g.Direct(cluster, &agentv1.Directive{Directive: &agentv1.Directive_ReleaseHold{ReleaseHold: &agentv1.ReleaseHold{BatchId: batch}}})
}

// Throttle asks the cluster's agent to report statuses no faster than every d;
// 0 lifts that.
func (g *Registry) Throttle(cluster string, d time.Duration) error {
	return g.Direct(cluster, throttle(d))
}

// Direct queues a directive for the cluster's agent.
func (g *Registry) Direct(cluster string, directive *agentv1.Directive) error {
	r := g.of(cluster)
	if r == nil {
		return fmt.Errorf("cluster %q: %w", cluster, ErrNoSession)
	}
	r.step(session.Direct{Directive: directive})
	return nil
}

// DirectAll queues a directive for every agent, such as a new trust bundle.
func (g *Registry) DirectAll(directive *agentv1.Directive) {
	for _, r := range g.runners() {
		r.step(session.Direct{Directive: directive})
	}
}

// Kick ends a session of this replica; an empty sessionID means whichever the
// cluster has. It says whether there was one.
func (g *Registry) Kick(cluster, sessionID string) bool {
	return g.End(cluster, sessionID, reason.Kicked, "an admin ended the session; connect again")
}

// End ends a session of this replica for a reason, such as the loss of its
// Lease. It says whether there was one.
func (g *Registry) End(cluster, sessionID, why, message string) bool {
	found := false
	for _, r := range g.runnersOf(cluster) {
		if sessionID == "" || sessionID == r.id {
			r.end(why, message, 0)
			found = true
		}
	}
	return found
}

// EndAll ends every session, such as after a restore of the hub.
func (g *Registry) EndAll(why, message string, retryAfter time.Duration) {
	for _, r := range g.runners() {
		r.end(why, message, retryAfter)
	}
}

// Recheck looks at once whether a cluster's sessions may still exist. It does
// not block.
func (g *Registry) Recheck(cluster string) {
	for _, r := range g.runnersOf(cluster) {
		r.recheckSoon()
	}
}

// drainRate is how many agents a second are asked to leave, at most, and
// drainLinger how long each may take to move.
const (
	drainRate   = 250
	drainLinger = 2 * time.Second
)

// Drain asks every agent to go elsewhere, spread over at most the given time,
// and returns when all sessions have ended or ctx ends.
func (g *Registry) Drain(ctx context.Context, over time.Duration) {
	runners := g.runners()
	if len(runners) == 0 {
		return
	}
	over = min(over, time.Duration(len(runners))*time.Second/drainRate)
	pause := time.NewTicker(max(over/time.Duration(len(runners)), time.Microsecond))
	defer pause.Stop()
	for _, r := range runners {
		r.step(session.Drain{
			CloseAt: time.Now().Add(drainLinger), Reason: reason.Draining,
			Reconnect: session.Reconnect{Base: time.Second, Max: time.Minute, Spread: drainLinger / 2},
		})
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
	g.waitEmpty(ctx)
}

// waitEmpty polls: it happens once in a process's life.
func (g *Registry) waitEmpty(ctx context.Context) {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for g.Len() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
	}
}

// add enters a session and returns the cluster's older one, if any.
func (g *Registry) add(r *runner) (older *runner) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if others := g.live[r.cluster]; len(others) > 0 {
		older = others[len(others)-1]
	}
	g.live[r.cluster] = append(g.live[r.cluster], r)
	g.count++
	return older
}

func (g *Registry) remove(r *runner) {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := slices.DeleteFunc(g.live[r.cluster], func(o *runner) bool { return o == r })
	g.live[r.cluster] = left
	if len(left) == 0 {
		delete(g.live, r.cluster)
	}
	g.count--
}

// of is the newest session of a cluster, or nil.
func (g *Registry) of(cluster string) *runner {
	g.mu.Lock()
	defer g.mu.Unlock()
	if runners := g.live[cluster]; len(runners) > 0 {
		return runners[len(runners)-1]
	}
	return nil
}

func (g *Registry) runnersOf(cluster string) []*runner {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.live[cluster])
}

func (g *Registry) runners() []*runner {
	g.mu.Lock()
	defer g.mu.Unlock()
	runners := make([]*runner, 0, g.count)
	for _, of := range g.live {
		runners = append(runners, of...)
	}
	return runners
}

func (r *runner) state() State {
	state := State{
		Cluster: r.cluster, SessionID: r.id, AgentID: r.agentID, Instance: r.instance, Fingerprint: r.fingerprint,
		Remote: r.caller.Remote, Epoch: r.hold.Epoch, Started: r.started,
		LastReceived: time.Unix(0, r.received.Load()), CertificateExpires: r.caller.NotAfter,
	}
	if since := r.sending.Load(); since != 0 {
		state.SendStalled = time.Since(time.Unix(0, since))
	}
	r.mu.Lock()
	state.Stats = r.core.Stats()
	r.mu.Unlock()
	return state
}
