// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/interceptor"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/server/rpc/rpctest"
	"fairlead.dev/fairlead/server/session"
)

// kitchen is everything behind the face, in memory. It notes for which cluster
// each call was made.
type kitchen struct {
	mu       sync.Mutex
	clusters map[string]*clusterFake
	touched  map[string]int // clusters that were read or written
	hub      *session.Hub
	epochs   uint64

	ready     error
	check     func(cluster string) error
	take      func(claim Claim) error
	restored  func() (bool, error)
	enroll    func(EnrollRequest) (Enrollment, error)
	reportErr error
	summed    func() // once, right after what there is was summed up for a Hello
}

// clusterFake is one cluster's works, and what was written about them.
type clusterFake struct {
	clocks   []time.Duration
	objects  map[wire.Key]session.Content
	watchers map[int]func(session.Marked)
	next     int
	statuses []Status
	reports  []Report
	held     []Held
	marks    []string // reasons of Delivered
	givenUp  []time.Time
	released []time.Time
	answer   Answer
	read     func(wire.Key) (session.QuorumAnswer, error)
}

func newKitchen() *kitchen {
	return &kitchen{
		clusters: map[string]*clusterFake{}, touched: map[string]int{},
		hub: &session.Hub{Replica: "replica", ID: rpctest.HubID, Epoch: "epoch"},
	}
}

// of is the cluster's fake; callers hold mu.
func (k *kitchen) of(cluster string) *clusterFake {
	c := k.clusters[cluster]
	if c == nil {
		c = &clusterFake{
			objects: map[wire.Key]session.Content{}, watchers: map[int]func(session.Marked){},
			answer: Answer{Code: agentv1.StatusCode_STATUS_CODE_PERSISTED},
		}
		k.clusters[cluster] = c
	}
	return c
}

// put makes a work of size bytes exist, and marks it.
func (k *kitchen) put(cluster, name string, size int) {
	key := wire.Key{Kind: wire.KindWork, Name: name}
	content := make([]byte, size)
	copy(content, name)
	k.mu.Lock()
	c := k.of(cluster)
	generation := c.objects[key].Revision.Generation + 1
	c.objects[key] = session.Content{
		Revision: wire.Revision{UID: "uid-" + name, Generation: generation, Digest: sha256.Sum256(fmt.Append(content, generation)), Size: uint64(size)},
		Encoding: agentv1.Encoding_ENCODING_IDENTITY, Bytes: content, Finalizer: true,
	}
	var marks []func(session.Marked)
	for _, mark := range c.watchers {
		marks = append(marks, mark)
	}
	k.mu.Unlock()
	for _, mark := range marks {
		mark(session.Marked{Key: key, UID: "uid-" + name})
	}
}

// see runs f with a cluster's fake.
func (k *kitchen) see(cluster string, f func(*clusterFake)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(k.of(cluster))
}

func (k *kitchen) touch(cluster string) *clusterFake {
	k.touched[cluster]++
	return k.of(cluster)
}

// Gate.

func (k *kitchen) Ready() error { return k.ready }

func (k *kitchen) Check(_ context.Context, caller *authz.Caller) error {
	k.mu.Lock()
	check := k.check
	k.mu.Unlock()
	if check == nil {
		return nil
	}
	return check(caller.Scope.Cluster())
}

// refuse makes every later check fail with that reason.
func (k *kitchen) refuse(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.check = func(string) error { return rpcerr.New(codes.PermissionDenied, why, "refused") }
}

func (k *kitchen) Heartbeat(string) time.Duration { return 20 * time.Second }

func (k *kitchen) Hub() *session.Hub {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hub
}

func (k *kitchen) Restored(context.Context, wire.HighWater) (bool, error) { return k.restored() }

// Leases.

func (k *kitchen) Take(_ context.Context, scope identity.Scope, claim Claim) (Hold, error) {
	if k.take != nil {
		if err := k.take(claim); err != nil {
			return Hold{}, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.touched[scope.Cluster()]++
	k.epochs++
	h := &holdFake{k, scope.Cluster()}
	return Hold{Epoch: k.epochs, Source: h, Works: h, Reports: h, Lease: h}, nil
}

// holdFake is a Hold of one cluster: Source, Works, Reports and Lease.
type holdFake struct {
	k       *kitchen
	cluster string
}

func (h *holdFake) with(f func(*clusterFake)) {
	h.k.mu.Lock()
	defer h.k.mu.Unlock()
	f(h.k.touch(h.cluster))
}

func (h *holdFake) Get(key wire.Key) (object session.Object, ok bool) {
	h.with(func(c *clusterFake) {
		var content session.Content
		content, ok = c.objects[key]
		object = session.Object{Revision: content.Revision, Finalizer: content.Finalizer, PackedSize: len(content.Bytes)}
	})
	return object, ok
}

func (h *holdFake) Content(key wire.Key) (content session.Content, ok bool) {
	h.with(func(c *clusterFake) { content, ok = c.objects[key] })
	return content, ok
}

func (h *holdFake) Entries() (entries []wire.Entry) {
	h.with(func(c *clusterFake) {
		for key, content := range c.objects {
			entries = append(entries, wire.Entry{Key: key, Revision: content.Revision})
		}
	})
	return entries
}

func (h *holdFake) Summary() session.Summary {
	entries := h.Entries()
	var summed func()
	h.with(func(*clusterFake) { summed, h.k.summed = h.k.summed, nil })
	if summed != nil {
		summed()
	}
	return session.Summary{Root: wire.Summarize(entries).Root(), Count: len(entries)}
}

func (h *holdFake) HighWater() wire.HighWater { return wire.HighWater{ResourceVersion: 100} }

func (h *holdFake) Watch(mark func(session.Marked)) (cancel func()) {
	id := 0
	h.with(func(c *clusterFake) {
		id = c.next
		c.next++
		c.watchers[id] = mark
	})
	return func() { h.with(func(c *clusterFake) { delete(c.watchers, id) }) }
}

func (h *holdFake) Read(_ context.Context, key wire.Key) (answer session.QuorumAnswer, err error) {
	var read func(wire.Key) (session.QuorumAnswer, error)
	h.with(func(c *clusterFake) { read = c.read })
	if read == nil {
		return session.QuorumAnswer{Found: true}, nil
	}
	return read(key)
}

func (h *holdFake) PutStatus(status Status, done func(Answer)) {
	var answer Answer
	h.with(func(c *clusterFake) {
		c.statuses = append(c.statuses, status)
		answer = c.answer
	})
	done(answer)
}

func (h *holdFake) EnsureFinalizer(_ wire.Key, _ string, done func(Answer)) {
	done(Answer{Code: agentv1.StatusCode_STATUS_CODE_PERSISTED})
}

func (h *holdFake) Delivered(_ wire.Key, _, reason, _ string) {
	h.with(func(c *clusterFake) { c.marks = append(c.marks, reason) })
}

func (h *holdFake) Cluster(_ context.Context, report Report) (err error) {
	h.with(func(c *clusterFake) {
		c.reports = append(c.reports, report)
		err = h.k.reportErr
	})
	return err
}

func (h *holdFake) Clock(_ context.Context, offset time.Duration) error {
	h.with(func(c *clusterFake) { c.clocks = append(c.clocks, offset) })
	return nil
}

func (h *holdFake) DeletesHeld(_ context.Context, held Held) error {
	h.with(func(c *clusterFake) { c.held = append(c.held, held) })
	return nil
}

func (h *holdFake) Held() bool { return true }

func (h *holdFake) GiveUp(lastSeen time.Time) {
	h.with(func(c *clusterFake) { c.givenUp = append(c.givenUp, lastSeen) })
}

func (h *holdFake) Release(_ context.Context, lastSeen time.Time) error {
	h.with(func(c *clusterFake) { c.released = append(c.released, lastSeen) })
	return nil
}

// Enroller and Renewer.

func (k *kitchen) Enroll(_ context.Context, req EnrollRequest) (Enrollment, error) {
	if k.enroll == nil {
		return Enrollment{}, rpcerr.New(codes.PermissionDenied, reason.InvalidToken, "not in this test")
	}
	return k.enroll(req)
}

func (k *kitchen) Get(context.Context, string, []byte, []byte, time.Duration) (Enrollment, error) {
	return Enrollment{}, rpcerr.New(codes.NotFound, reason.EnrollmentNotFound, "not in this test")
}

func (k *kitchen) Renew(_ context.Context, cert *x509.Certificate, _ []byte) (Enrollment, error) {
	k.note(cert)
	return Enrollment{}, rpcerr.New(codes.InvalidArgument, reason.InvalidCSR, "not in this test")
}

func (k *kitchen) Detach(_ context.Context, cert *x509.Certificate, _ string) error {
	k.note(cert)
	return nil
}

func (k *kitchen) note(cert *x509.Certificate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	agent, err := identity.ParseCertificate(cert)
	if err == nil {
		k.touched[agent.Cluster]++
	}
}

// hubFake is a served Service and its kitchen.
type hubFake struct {
	t        testing.TB
	kitchen  *kitchen
	service  *Service
	registry *prometheus.Registry
	server   *rpctest.Server
	keys     *rpctest.PKI
}

// startHub serves a Service behind the real chain until the test ends.
func startHub(t testing.TB) *hubFake {
	t.Helper()
	return startHubOf(t, authz.Methods())
}

// startHubOf is startHub with a table of its own.
func startHubOf(t testing.TB, table authz.Table) *hubFake {
	t.Helper()
	h := &hubFake{t: t, kitchen: newKitchen(), registry: prometheus.NewRegistry(), keys: rpctest.NewPKI(t)}
	log := slog.New(slog.DiscardHandler)
	var err error
	h.service, err = New(Config{
		Enroller: h.kitchen, Renewer: h.kitchen, Trust: func() TrustBundle { return TrustBundle{} },
		Gate: h.kitchen, Leases: h.kitchen, Log: log, Registry: h.registry,
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
		Listener: authz.AgentListener, Table: table, Log: log, Registry: h.registry,
		Verify: func(_ context.Context, _ *x509.Certificate, agent identity.Agent) (interceptor.Verified, error) {
			return interceptor.Verified{UID: agent.UID}, nil
		},
	}, func(s *grpc.Server) { h.service.Register(s) })
	return h
}

func (h *hubFake) metric(name string, labels ...string) float64 {
	h.t.Helper()
	return rpctest.Metric(h.t, h.registry, "fairlead_hub_"+name, labels...)
}

// agentFake is the other end of one session.
type agentFake struct {
	t       testing.TB
	stream  agentv1.AgentService_SessionClient
	cancel  context.CancelFunc
	welcome *agentv1.Welcome
	seq     uint64
}

// connect opens a session and receives its Welcome.
func (h *hubFake) connect(cluster string, options ...grpc.DialOption) *agentFake {
	h.t.Helper()
	a, err := h.tryConnect(h.t.Context(), cluster, time.Hour*24, options...)
	require.NoError(h.t, err)
	return a
}

func (h *hubFake) tryConnect(ctx context.Context, cluster string, lifetime time.Duration, options ...grpc.DialOption) (*agentFake, error) {
	conn := h.server.Dial(h.t, h.keys.Agent(h.t, cluster, "uid", lifetime), options...)
	return h.open(ctx, conn, &agentv1.Hello{ProtocolMin: 1, ProtocolMax: 1, InstanceId: "instance", AgentId: "agent", ClusterFingerprint: "fp"})
}

func (h *hubFake) open(ctx context.Context, conn *grpc.ClientConn, hello *agentv1.Hello) (*agentFake, error) {
	ctx, cancel := context.WithCancel(ctx)
	h.t.Cleanup(cancel)
	stream, err := agentv1.NewAgentServiceClient(conn).Session(ctx)
	if err != nil {
		return nil, err
	}
	a := &agentFake{t: h.t, stream: stream, cancel: cancel}
	_ = stream.Send(helloFrame(hello)) // Recv has the error
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	a.welcome, a.seq = first.GetWelcome(), first.GetSeq()
	return a, nil
}

func helloFrame(hello *agentv1.Hello) *agentv1.SessionRequest {
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: hello}}
}

func beat() *agentv1.SessionRequest {
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
}

// live answers heartbeats until the session ends, and returns why it did.
func (a *agentFake) live() error {
	for {
		m, err := a.stream.Recv()
		if err != nil {
			return err
		}
		a.seq = m.GetSeq()
		if m.GetHeartbeat() != nil {
			_ = a.stream.Send(beat())
		}
	}
}

// next is the next message that is no heartbeat; every delta is acknowledged.
func (a *agentFake) next() *agentv1.SessionResponse {
	a.t.Helper()
	for {
		m, err := a.stream.Recv()
		require.NoError(a.t, err)
		a.seq = m.GetSeq()
		ack := &agentv1.Ack{ProcessedSeq: a.seq}
		for _, change := range m.GetDelta().GetChanges() {
			ack.Objects = append(ack.Objects, &agentv1.ObjectAck{Key: change.GetKey(), Revision: change.GetRevision(), Code: agentv1.AckCode_ACK_CODE_STORED})
		}
		_ = a.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: ack}})
		if m.GetHeartbeat() == nil {
			return m
		}
	}
}

// change waits for a change of that object.
func (a *agentFake) change(name string) *agentv1.ObjectChange {
	a.t.Helper()
	for {
		for _, change := range a.next().GetDelta().GetChanges() {
			if change.GetKey().GetName() == name {
				return change
			}
		}
	}
}
