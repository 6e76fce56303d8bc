// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/aside"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/server/session"
)

const (
	// helloTimeout: an agent that opens a session says hello at once.
	helloTimeout = 10 * time.Second
	// openWait is how long a session waits for its turn to be opened. Refusing it
	// sooner would cost a handshake each time that it comes back, and so make the
	// wait longer for all; an agent waits 45 s for its Welcome.
	openWait = 20 * time.Second
	// maxFact bounds what an agent says about itself, which goes into a Lease.
	maxFact = 253

	antiEntropy = 10 * time.Minute
	// startsPerSecond is what the spread of reconnects is sized by (c5).
	startsPerSecond = 500
)

// Session implements AgentService: the one stream that an agent has. Its
// goroutine sends; see runner.
func (s *Service) Session(stream agentv1.AgentService_SessionServer) error {
	s.wait.Add(1) // what the session starts, it starts before Wait returns
	defer s.wait.Done()
	r, err := s.open(stream)
	if err != nil {
		s.metrics.refusals.WithLabelValues(rpcerr.From(err).Reason).Inc()
		return err
	}
	return r.run()
}

// open takes a session as far as its Welcome being ready to be sent.
func (s *Service) open(stream agentv1.AgentService_SessionServer) (*runner, error) {
	if err := s.cfg.Gate.Ready(); err != nil {
		return nil, err
	}
	r := newRunner(s, stream, authz.CallerOf(stream.Context()))
	hello, err := r.hello()
	if err != nil {
		return nil, err
	}
	leave, err := s.enter(stream.Context())
	if err != nil {
		return nil, err
	}
	defer leave()
	return aside.Call(func() (*runner, error) { return r, r.take(hello) })
}

// enter waits for a place among the sessions being opened, at most openWait.
func (s *Service) enter(ctx context.Context) (leave func(), err error) {
	if !s.opening.TryAcquire(1) {
		s.queued.Add(1)
		defer s.queued.Add(-1)
		waiting, cancel := context.WithTimeout(ctx, openWait)
		defer cancel()
		if err := s.opening.Acquire(waiting, 1); err != nil {
			return nil, rpcerr.New(codes.ResourceExhausted, reason.HubOverloaded, "too many agents connect at once; try again later").RetryIn(s.spread())
		}
	}
	return func() { s.opening.Release(1) }, nil
}

// spread is over how long agents should come back when all of them have to.
func (s *Service) spread() time.Duration {
	agents := s.sessions.Len() + int(s.queued.Load())
	return max(2*time.Second, time.Duration(agents)*time.Second/startsPerSecond)
}

// hello waits for the first frame, which has to be a Hello.
func (r *runner) hello() (*agentv1.Hello, error) {
	r.service.Background("receiver", r.receive)
	timeout := time.NewTimer(helloTimeout)
	defer timeout.Stop()
	select {
	case first := <-r.first:
		if errors.Is(first.err, io.EOF) {
			return nil, rpcerr.New(codes.InvalidArgument, reason.ProtocolError, "a session begins with Hello, and this one ended without")
		}
		if first.err != nil {
			return nil, first.err
		}
		hello := first.frame.GetHello()
		if hello == nil {
			return nil, rpcerr.New(codes.InvalidArgument, reason.ProtocolError, "a session begins with Hello, and this one did not")
		}
		return hello, checkHello(hello)
	case <-timeout.C:
		return nil, rpcerr.New(codes.DeadlineExceeded, reason.ProtocolError, "no Hello came within %v", helloTimeout)
	case <-r.ctx.Done():
		return nil, r.ctx.Err()
	}
}

func checkHello(hello *agentv1.Hello) error {
	for _, fact := range []string{hello.GetAgentId(), hello.GetInstanceId(), hello.GetClusterFingerprint(), hello.GetAgentVersion()} {
		if len(fact) > maxFact {
			return rpcerr.New(codes.InvalidArgument, reason.ProtocolError, "a field of Hello has %d characters; at most %d are accepted", len(fact), maxFact)
		}
	}
	if hello.GetInstanceId() == "" {
		return rpcerr.New(codes.InvalidArgument, reason.ProtocolError, "Hello names no instance_id")
	}
	return nil
}

// take gets the cluster's Lease, and then in this order: registers for marks,
// compares what the agent holds, lets the receiver go on. What changes in the
// index from here on is either compared or marked (B1).
func (r *runner) take(hello *agentv1.Hello) error {
	gate := r.service.cfg.Gate
	hub := gate.Hub()
	if err := gate.Ready(); err != nil {
		return err // the hub epoch may have changed while Hello was waited for
	}
	hold, err := r.service.cfg.Leases.Take(r.ctx, r.caller.Scope, Claim{
		SessionID: r.id, InstanceID: hello.GetInstanceId(), Fingerprint: hello.GetClusterFingerprint(),
		AgentID: hello.GetAgentId(), Remote: r.caller.Remote,
	})
	if err != nil {
		r.service.metrics.conflicts.WithLabelValues(rpcerr.From(err).Reason).Inc()
		return err
	}
	r.hold, r.works = hold, hold.Works
	r.agentID, r.instance, r.fingerprint = hello.GetAgentId(), hello.GetInstanceId(), hello.GetClusterFingerprint()
	r.core = session.New(session.Config{
		Hub: hub, SessionID: r.id, Epoch: hold.Epoch,
		Heartbeat: gate.Heartbeat(r.cluster), Deadline: r.caller.NotAfter,
		Reconnect:   session.Reconnect{Base: time.Second, Max: time.Minute, Spread: r.service.spread()},
		AntiEntropy: jittered(r.service.faults.antiEntropy(antiEntropy)),
		Trust:       r.service.cfg.Trust().proto(),
	}, hold.Source)
	r.unwatch = r.works.Watch(func(m session.Marked) {
		if r.inbox.Put(m) {
			r.notify()
		}
	})
	older := r.service.sessions.add(r)
	r.compare(hello)
	if older != nil {
		older.end(reason.Superseded, "a newer session of the same agent took over", 0)
	}
	// What changed after the caller was admitted and before the session could be
	// found is caught here.
	r.recheckSoon()
	if !hold.Lease.Held() {
		r.end(reason.Superseded, "another session of the cluster took over at once", 0)
	}
	if gate.Hub() != hub {
		r.end(reason.HubRestored, "the hub was restored meanwhile; connect again", 0)
	}
	return nil
}

// compare answers Hello; that takes CPU, and no more than a few do it at once.
// Whoever waits here waits for milliseconds, or until the agent has gone.
func (r *runner) compare(hello *agentv1.Hello) {
	if r.service.snapshots.Acquire(r.ctx, 1) == nil {
		defer r.service.snapshots.Release(1)
		r.step(session.Hello{Message: hello})
	}
	close(r.opened)
}

// jittered is d ± 20 %.
func jittered(d time.Duration) time.Duration {
	return d*4/5 + mathrand.N(d*2/5+1) //nolint:gosec // spreading load is no secret
}

func newSessionID() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// newRunner is a session before anything is known of it.
func newRunner(s *Service, stream grpc.BidiStreamingServer[agentv1.SessionRequest, agentv1.SessionResponse], caller *authz.Caller) *runner {
	r := &runner{
		service: s, stream: stream, ctx: stream.Context(), caller: caller, cluster: caller.Scope.Cluster(),
		id: newSessionID(), started: time.Now(),
		first: make(chan firstFrame, 1), opened: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	r.received.Store(r.started.UnixNano())
	return r
}
