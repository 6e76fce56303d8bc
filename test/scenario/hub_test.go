// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scenario runs the hub's half of the protocol and the agent's in one
// bubble of virtual time: the real face and session engine, real mTLS over
// memory, the real link and the real durable store. Hours pass in milliseconds,
// and nothing sleeps. What stands in for the hub's apiserver is a map.
package scenario

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/rpc/agent"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/interceptor"
	"fairlead.dev/fairlead/server/rpc/rpctest"
	"fairlead.dev/fairlead/server/session"
)

// state is the one cluster's truth on the hub: what its apiserver would hold.
type state struct {
	mu       sync.Mutex
	hub      *session.Hub
	objects  map[wire.Key]session.Content
	watchers map[int]func(session.Marked)
	next     int
	epochs   uint64
	statuses []agent.Status
	held     []agent.Held
	answers  []agent.Answer // to the next statuses; then PERSISTED
}

func newState() *state {
	return &state{
		objects: map[wire.Key]session.Content{}, watchers: map[int]func(session.Marked){},
		hub: &session.Hub{Replica: "replica", ID: rpctest.HubID, Epoch: "epoch-1", OrphanGrace: time.Hour},
	}
}

func work(name string) wire.Key { return wire.Key{Kind: wire.KindWork, Name: name} }

// change edits the truth and marks the key, as the works index does.
func (s *state) change(name string, edit func(objects map[wire.Key]session.Content, key wire.Key)) {
	key := work(name)
	s.mu.Lock()
	uid := s.objects[key].Revision.UID
	edit(s.objects, key)
	marks := make([]func(session.Marked), 0, len(s.watchers))
	for _, mark := range s.watchers {
		marks = append(marks, mark)
	}
	s.mu.Unlock()
	for _, mark := range marks {
		mark(session.Marked{Key: key, UID: uid})
	}
}

// put makes an object or raises its generation.
func (s *state) put(name, content string) {
	s.change(name, func(objects map[wire.Key]session.Content, key wire.Key) {
		bytes := []byte(content)
		objects[key] = session.Content{
			Revision: wire.Revision{
				UID: "uid-" + name, Generation: objects[key].Revision.Generation + 1,
				Digest: sha256.Sum256(bytes), Size: uint64(len(bytes)),
			},
			Encoding: agentv1.Encoding_ENCODING_IDENTITY, Bytes: bytes, Finalizer: true,
		}
	})
}

// lose takes an object away without a trace, as a restore from a backup does.
func (s *state) lose(name string) {
	s.change(name, func(objects map[wire.Key]session.Content, key wire.Key) { delete(objects, key) })
}

func (s *state) see(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Ready, Check, Heartbeat, Hub and Restored implement agent.Gate.
func (s *state) Ready() error                                           { return nil }
func (s *state) Check(context.Context, *authz.Caller) error             { return nil }
func (s *state) Heartbeat(string) time.Duration                         { return 20 * time.Second }
func (s *state) Restored(context.Context, wire.HighWater) (bool, error) { return false, nil }
func (s *state) Hub() *session.Hub {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hub
}

// Take implements agent.Leases.
func (s *state) Take(context.Context, identity.Scope, agent.Claim) (agent.Hold, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epochs++
	return agent.Hold{Epoch: s.epochs, Source: s, Works: s, Reports: s, Lease: lease{}}, nil
}

type lease struct{}

func (lease) Held() bool                               { return true }
func (lease) GiveUp(time.Time)                         {}
func (lease) Release(context.Context, time.Time) error { return nil }

// Get, Content, Entries, Summary and HighWater implement session.Source.
func (s *state) Get(key wire.Key) (session.Object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.objects[key]
	return session.Object{Revision: c.Revision, Deleting: c.Deleting, Finalizer: c.Finalizer, PackedSize: len(c.Bytes)}, ok
}

func (s *state) Content(key wire.Key) (session.Content, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.objects[key]
	return c, ok
}

func (s *state) Entries() []wire.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]wire.Entry, 0, len(s.objects))
	for key, c := range s.objects {
		out = append(out, wire.Entry{Key: key, Revision: c.Revision})
	}
	return out
}

func (s *state) Summary() session.Summary {
	entries := s.Entries()
	return session.Summary{Root: wire.Summarize(entries).Root(), Count: len(entries)}
}

func (s *state) HighWater() wire.HighWater { return wire.HighWater{ResourceVersion: 100} }

// Watch, Read, PutStatus, EnsureFinalizer and Delivered implement agent.Works.
func (s *state) Watch(mark func(session.Marked)) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.next
	s.next++
	s.watchers[id] = mark
	return func() { s.see(func() { delete(s.watchers, id) }) }
}

func (s *state) Read(_ context.Context, key wire.Key) (session.QuorumAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.objects[key]
	return session.QuorumAnswer{Found: ok, UID: c.Revision.UID, Generation: c.Revision.Generation}, nil
}

func (s *state) PutStatus(status agent.Status, done func(agent.Answer)) {
	answer := agent.Answer{Code: agentv1.StatusCode_STATUS_CODE_PERSISTED}
	s.see(func() {
		s.statuses = append(s.statuses, status)
		if len(s.answers) > 0 {
			answer, s.answers = s.answers[0], s.answers[1:]
		}
	})
	done(answer)
}

func (s *state) EnsureFinalizer(_ wire.Key, _ string, done func(agent.Answer)) {
	done(agent.Answer{Code: agentv1.StatusCode_STATUS_CODE_PERSISTED})
}

func (s *state) Delivered(wire.Key, string, string, string) {}

// Cluster and DeletesHeld implement agent.Reports.
func (s *state) Cluster(context.Context, agent.Report) error { return nil }

func (s *state) Clock(context.Context, time.Duration) error { return nil }

func (s *state) DeletesHeld(_ context.Context, held agent.Held) error {
	s.see(func() { s.held = append(s.held, held) })
	return nil
}

// noEnrollment is for a hub whose agents have their certificates.
type noEnrollment struct{}

var errNotHere = errors.New("nobody enrolls in this test")

func (noEnrollment) Enroll(context.Context, agent.EnrollRequest) (agent.Enrollment, error) {
	return agent.Enrollment{}, errNotHere
}

func (noEnrollment) Get(context.Context, string, []byte, []byte, time.Duration) (agent.Enrollment, error) {
	return agent.Enrollment{}, errNotHere
}

func (noEnrollment) Renew(context.Context, *x509.Certificate, []byte) (agent.Enrollment, error) {
	return agent.Enrollment{}, errNotHere
}
func (noEnrollment) Detach(context.Context, *x509.Certificate, string) error { return errNotHere }

// hub is a served agent.Service over a state.
type hub struct {
	*state
	service *agent.Service
	server  *rpctest.Server
	keys    *rpctest.PKI
	frames  *frames
}

func startHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{state: newState(), keys: rpctest.NewPKI(t), frames: &frames{}}
	log := slog.New(slog.DiscardHandler)
	registry := prometheus.NewRegistry()
	var err error
	h.service, err = agent.New(agent.Config{
		Enroller: noEnrollment{}, Renewer: noEnrollment{}, Trust: func() agent.TrustBundle { return agent.TrustBundle{} },
		Gate: h.state, Leases: h.state, Log: log, Registry: registry,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var watchdog sync.WaitGroup
	watchdog.Go(func() { _ = h.service.Run(ctx) })
	t.Cleanup(func() { // runs after the server has stopped
		h.service.Wait()
		cancel()
		watchdog.Wait()
	})
	h.server = rpctest.Serve(t, h.keys, interceptor.Config{
		Listener: authz.AgentListener, Table: authz.Methods(), Log: log, Registry: registry,
		Verify: func(_ context.Context, _ *x509.Certificate, a identity.Agent) (interceptor.Verified, error) {
			return interceptor.Verified{UID: a.UID}, nil
		},
	}, func(s *grpc.Server) { h.service.Register(s) }, grpc.StatsHandler(h.frames))
	return h
}

// names are base-0 to base-(n-1).
func names(base string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%d", base, i)
	}
	return out
}
