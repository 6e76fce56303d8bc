// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Link keeps a session with the hub. Make it with New, then call Run once. All
// other methods may be called at any time, from any goroutine, and do not block.
type Link struct {
	cfg       Config
	statuses  *statuses
	events    *events
	wake      chan struct{} // the sender has work
	report    flag          // a ClusterReport is due
	backoff   *backoff
	endpoints *dialer.Endpoints

	mu    sync.Mutex
	state State
	hubID string
}

// State is how the link is doing, for health checks and logs.
type State struct {
	Connected bool
	Since     time.Time // of Connected
	Endpoint  string
	SessionID string
	Epoch     uint64
	HubID     string // of the last Welcome
	// LastError is why the last attempt or session ended; nil when there was none.
	LastError error
	// Superseded: another instance of this agent took the session, and this one
	// has not been in sync with the hub since: what it holds may be older than
	// what that one applied.
	Superseded bool
	// InSync: in this session, the hub has sent all that it has, and all of it is stored.
	InSync bool
}

// New checks the configuration. It does not connect.
func New(cfg Config) (*Link, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return &Link{
		cfg: cfg, statuses: newStatuses(), events: &events{}, wake: make(chan struct{}, 1),
		backoff: newBackoff(cfg.Random), endpoints: dialer.NewEndpoints(cfg.Endpoints), hubID: cfg.HubID,
	}, nil
}

// Run keeps a session with the hub until ctx ends; then it says goodbye and
// returns nil. A hub that refuses the agent is asked again later.
func (l *Link) Run(ctx context.Context) error {
	var s *session
	for !over(ctx) {
		var why *Ended
		if s == nil {
			if s, why = l.connect(ctx, l.endpoints.Current()); why != nil {
				l.lost(why)
			}
		}
		if s != nil {
			began, endpoint := time.Now(), s.endpoint
			s, why = l.serve(ctx, s)
			l.after(endpoint, time.Since(began))
		}
		if s != nil || over(ctx) || l.nextEndpoint(why) {
			continue
		}
		wait := l.backoff.next(why)
		l.cfg.Log.Warn("no session with the hub", "reason", why.Reason, "error", why, "retryIn", wait.Round(time.Millisecond))
		pause(ctx, wait)
	}
	if s != nil {
		s.close()
	}
	return nil
}

// after notes how long a session lasted.
func (l *Link) after(endpoint string, lasted time.Duration) {
	l.backoff.after(lasted)
	if l.backoff.lost && l.endpoints.Current() == endpoint {
		l.endpoints.Worked()
	}
}

// nextEndpoint moves on after a failure, and stays after the loss of a session
// that was good. It tells whether the next endpoint may be tried at once: it is
// another one, and the hub itself did not refuse.
func (l *Link) nextEndpoint(why *Ended) bool {
	if l.backoff.lost {
		return false
	}
	return l.elsewhere(why)
}

// elsewhere moves on from an endpoint that failed.
func (l *Link) elsewhere(why *Ended) bool {
	another := l.endpoints.Failed(time.Now())
	return another && why.RetryAfter == 0 && (why.Reason == reasonDisconnected || dialer.OnTheWay(why.Reason))
}

// Report takes what became of an object. The newest status of a key counts; it
// is sent unless the hub has persisted the same one.
func (l *Link) Report(status Status) {
	digest, err := wire.StatusDigest(status.JSON)
	if err != nil || len(status.JSON) > wire.MaxStatus {
		l.cfg.Log.Error("a status cannot be sent", "object", status.Key, "bytes", len(status.JSON), "limit", wire.MaxStatus, "error", err)
		return
	}
	if l.statuses.report(status, digest) {
		nudge(l.wake)
	}
	l.cfg.Metrics.pending(l.statuses.unanswered())
}

// Forget drops what is kept about an object that is not held any more.
func (l *Link) Forget(key wire.Key, uid string) { l.statuses.forget(key, uid) }

// ReportCluster says that Config.ClusterReport has something new.
func (l *Link) ReportCluster() {
	l.report.set()
	nudge(l.wake)
}

// Event sends an event of the cluster, if it can: events are dropped first.
func (l *Link) Event(regarding wire.Key, reason, note string, at time.Time) {
	l.events.add(&agentv1.ClusterEvent{Regarding: regarding.Proto(), Reason: reason, Note: wire.Truncate(note), Time: timestamppb.New(at)})
	nudge(l.wake)
}

// State tells how the link is doing.
func (l *Link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *Link) began(s *session) {
	w := s.welcome
	l.mu.Lock()
	l.hubID = w.GetHubId()
	l.state = State{
		Connected: true, Since: time.Now(), Endpoint: s.endpoint, SessionID: w.GetSessionId(), Epoch: w.GetSessionEpoch(), HubID: w.GetHubId(),
		Superseded: l.state.Superseded,
	}
	l.mu.Unlock()
	skew := time.Duration(0)
	if w.GetServerTime() != nil {
		skew = time.Until(w.GetServerTime().AsTime())
	}
	l.cfg.Metrics.began(w.GetSessionEpoch(), skew.Seconds())
	if skew.Abs() > pki.Backdate {
		l.cfg.Log.Warn("the clocks of hub and spoke differ by more than certificates allow for; have NTP set both",
			"reason", reason.ClockSkew, "hubAheadBy", skew.Round(time.Second))
	}
	l.cfg.Log.Info("session with the hub", "endpoint", s.endpoint, "session", w.GetSessionId(), "epoch", w.GetSessionEpoch(),
		"replica", w.GetHubReplica(), "sync", w.GetSyncMode(), "skew", skew.Round(time.Millisecond))
}

// synced notes that the hub has sent all that it had.
func (l *Link) synced(ctx context.Context, failed []wire.Key) error {
	l.mu.Lock()
	l.state.Superseded, l.state.InSync = false, len(failed) == 0
	l.mu.Unlock()
	return l.cfg.Hub.Synced(ctx, failed)
}

func (l *Link) lost(why *Ended) {
	l.mu.Lock()
	if why.Reason != reasonReplaced {
		l.state.Connected, l.state.InSync, l.state.Since, l.state.LastError = false, false, time.Now(), why
		l.state.Superseded = l.state.Superseded || why.Reason == reason.Superseded
	}
	l.mu.Unlock()
	l.cfg.Metrics.ended(why.Reason)
	l.cfg.Ended(why.Reason)
}

func (l *Link) knownHub() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hubID
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// flag is a bit that is set by many and taken by one.
type flag struct {
	mu sync.Mutex
	on bool
}

func (f *flag) set() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = true
}

func (f *flag) take() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.on
	f.on = false
	return was
}

// errHub marks that the hub, and not the way to it, is why there is no session.
var errHub = errors.New("the hub ended the session")

func hubEnded(why string) *Ended {
	if why == "" {
		why = reasonDisconnected
	}
	return &Ended{Reason: why, Err: fmt.Errorf("%w", errHub)}
}
