// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire"
)

const hubName = "hub.test"

// bench is a hub that does what a test says, an agent's store in memory, and
// the link between them; real gRPC and mTLS over memory, in virtual time.
type bench struct {
	t       *testing.T
	store   *memoryStore
	creds   *testCredentials
	cfg     Config
	link    *Link
	ca      *pki.CA
	hubs    map[string]*hub
	resends int
	dials   atomic.Int64
	now     func() time.Time      // of hubs; nil is time.Now
	health  healthv1.HealthServer // of hubs; nil is none
	cancel  context.CancelFunc
	done    chan error
}

// hub serves one endpoint.
type hub struct {
	agentv1.UnimplementedAgentServiceServer
	t        *testing.T
	listener *bufconn.Listener
	server   *grpc.Server
	sessions chan *peer // each new Session call
	renewals chan *agentv1.RenewCertificateRequest

	mu     sync.Mutex
	refuse error
	deaf   bool // reads nothing after Hello
}

// peer is the hub's end of one session.
type peer struct {
	t      *testing.T
	stream agentv1.AgentService_SessionServer
	hello  *agentv1.Hello
	in     chan *agentv1.SessionRequest
	end    chan error // what the handler returns

	mu  sync.Mutex
	seq uint64
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.stop()
		test(b)
	})
}

func newBench(t *testing.T) *bench {
	t.Helper()
	ca, err := pki.NewCA("test root", time.Now(), 24*time.Hour)
	require.NoError(t, err)
	b := &bench{t: t, ca: ca, store: newMemoryStore(), hubs: map[string]*hub{}}
	b.creds = &testCredentials{client: pki.NewClient(pki.Trust{Roots: []*x509.Certificate{ca.Cert}})}
	b.creds.client.SetCertificate(b.certificate())
	b.cfg = Config{
		Endpoints: []string{"hub-0:443"}, HubID: "hub-1",
		Identity:       Identity{AgentID: "agent", InstanceID: "instance", Fingerprint: "fp", Version: "test"},
		Credentials:    b.creds,
		Store:          b.store,
		Hub:            b.store,
		Log:            slog.New(slog.DiscardHandler),
		ResendStatuses: func() { b.resends++ },
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			b.dials.Add(1)
			h := b.hubs[address]
			if h == nil {
				return nil, fmt.Errorf("nobody listens on %s", address)
			}
			return h.listener.DialContext(ctx)
		},
		Random: func() float64 { return 0.5 },
	}
	return b
}

func (b *bench) certificate() *tls.Certificate {
	key, err := pki.NewKey()
	require.NoError(b.t, err)
	cert, err := b.ca.Issue(&x509.Certificate{
		Subject: identity.Subject("c1", "agent"), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key.Public())
	require.NoError(b.t, err)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// hub starts a hub on an endpoint.
func (b *bench) hub(endpoint string) *hub {
	serving, err := b.ca.IssueServing([]string{hubName}, time.Now(), 24*time.Hour)
	require.NoError(b.t, err)
	pool := x509.NewCertPool()
	pool.AddCert(b.ca.Cert)
	h := &hub{t: b.t, listener: bufconn.Listen(1 << 20), sessions: make(chan *peer, 10), renewals: make(chan *agentv1.RenewCertificateRequest, 10)}
	keys := pki.NewServer(pki.ServerState{Certificate: serving, ClientCAs: pool})
	if b.now != nil {
		keys.By(b.now)
	}
	h.server = grpc.NewServer(
		grpc.Creds(credentials.NewTLS(keys.TLSConfig())),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	agentv1.RegisterAgentServiceServer(h.server, h)
	if b.health != nil {
		healthv1.RegisterHealthServer(h.server, b.health)
	}
	b.hubs[endpoint] = h
	go func() { _ = h.server.Serve(h.listener) }()
	return h
}

// start runs the link.
func (b *bench) start() {
	var err error
	b.link, err = New(b.cfg)
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(b.t.Context())
	b.cancel, b.done = cancel, make(chan error, 1)
	go func() { b.done <- b.link.Run(ctx) }()
}

func (b *bench) stop() {
	if b.cancel != nil {
		b.cancel()
		require.NoError(b.t, <-b.done)
		b.cancel = nil
	}
	for _, h := range b.hubs {
		h.server.Stop()
	}
}

// connected starts one hub and the link, and takes the session to Welcome.
func (b *bench) connected(edit ...func(*agentv1.Welcome)) (*hub, *peer) {
	h := b.hub("hub-0:443")
	b.start()
	p := h.accept()
	p.welcome(edit...)
	return h, p
}

func (h *hub) setRefuse(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuse = err
}

// Session implements the service: it hands the stream to the test.
func (h *hub) Session(stream agentv1.AgentService_SessionServer) error {
	h.mu.Lock()
	refuse, deaf := h.refuse, h.deaf
	h.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	p := &peer{t: h.t, stream: stream, hello: first.GetHello(), in: make(chan *agentv1.SessionRequest, 10000), end: make(chan error, 1)}
	h.sessions <- p
	go func() {
		defer close(p.in)
		for !deaf {
			message, err := stream.Recv()
			if err != nil {
				return
			}
			p.in <- message
		}
	}()
	select {
	case err := <-p.end:
		return err
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

// RenewCertificate implements the service; the answer does not matter here.
func (h *hub) RenewCertificate(_ context.Context, request *agentv1.RenewCertificateRequest) (*agentv1.RenewCertificateResponse, error) {
	h.renewals <- request
	return &agentv1.RenewCertificateResponse{}, nil
}

// accept waits for the next session.
func (h *hub) accept() *peer {
	h.t.Helper()
	select {
	case p := <-h.sessions:
		return p
	case <-time.After(time.Hour):
		require.FailNow(h.t, "no session came")
		return nil
	}
}

// none requires that no session comes for a while.
func (h *hub) none(within time.Duration) {
	h.t.Helper()
	select {
	case <-h.sessions:
		require.FailNow(h.t, "a session came")
	case <-time.After(within):
	}
}

func (p *peer) send(frame *agentv1.SessionResponse) {
	p.t.Helper()
	require.NoError(p.t, p.trySend(frame))
}

func (p *peer) trySend(frame *agentv1.SessionResponse) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	frame.Seq = p.seq
	return p.stream.Send(frame)
}

// skip makes the next sequence number wrong.
func (p *peer) skip(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq = uint64(int(p.seq) + n)
}

// last is the newest sequence number.
func (p *peer) last() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

func (p *peer) welcome(edit ...func(*agentv1.Welcome)) {
	p.t.Helper()
	w := &agentv1.Welcome{
		SessionId: "s1", SessionEpoch: 1, HubReplica: "r1", HubId: "hub-1", HubEpoch: "e1", Protocol: 1,
		ServerTime: timestamppb.Now(), HeartbeatInterval: durationpb.New(20 * time.Second), LivenessTimeout: durationpb.New(time.Minute),
		SyncMode: agentv1.SyncMode_SYNC_MODE_FULL, HighWater: wire.HighWater{ResourceVersion: 100, Proof: []byte("p")}.Proto(),
		OrphanGrace: durationpb.New(time.Hour),
	}
	for _, f := range edit {
		f(w)
	}
	p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Welcome{Welcome: w}})
}

func (p *peer) delta(changes ...*agentv1.ObjectChange) {
	p.t.Helper()
	p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Delta{Delta: &agentv1.Delta{Changes: changes}}})
}

func (p *peer) directive(d *agentv1.Directive) {
	p.t.Helper()
	p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Directive{Directive: d}})
}

// heartbeat keeps the session alive for a while, until the returned function is
// called.
func (p *peer) heartbeats() (stop func()) {
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			select {
			case <-quit:
				return
			case <-p.stream.Context().Done():
				return
			case <-time.After(20 * time.Second):
				_ = p.trySend(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
			}
		}
	}()
	return func() { close(quit); <-gone }
}

// next waits for a message of one kind; others are passed over.
func next[T any](p *peer, pick func(*agentv1.SessionRequest) T, is func(T) bool) T {
	p.t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		select {
		case message, ok := <-p.in:
			require.True(p.t, ok, "the agent ended the stream")
			if got := pick(message); is(got) {
				return got
			}
		case <-limit:
			require.FailNow(p.t, "the message did not come")
		}
	}
}

func (p *peer) ack() *agentv1.Ack {
	p.t.Helper()
	return next(p, (*agentv1.SessionRequest).GetAck, func(a *agentv1.Ack) bool { return a != nil })
}

func (p *peer) status() *agentv1.StatusBatch {
	p.t.Helper()
	return next(p, (*agentv1.SessionRequest).GetStatus, func(s *agentv1.StatusBatch) bool { return s != nil })
}

func (p *peer) answer(item *agentv1.ObjectStatus, code agentv1.StatusCode, retry time.Duration) {
	p.t.Helper()
	p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_StatusAck{StatusAck: &agentv1.StatusAck{Results: []*agentv1.StatusResult{{
		Key: item.GetKey(), StatusSeq: item.GetStatusSeq(), Code: code, RetryAfter: durationpb.New(retry),
	}}}}})
}

// gone waits for the agent to end the stream.
func (p *peer) gone() {
	p.t.Helper()
	select {
	case <-p.stream.Context().Done():
	case <-time.After(time.Hour):
		require.FailNow(p.t, "the agent went on")
	}
}

func work1(name string) wire.Key { return wire.Key{Kind: wire.KindWork, Name: name} }

func revision(uid string, generation int64, content []byte) wire.Revision {
	return wire.Revision{UID: uid, Generation: generation, Digest: sha256.Sum256(content), Size: uint64(len(content))}
}

func upsert(name string, generation int64, content []byte) *agentv1.ObjectChange {
	return &agentv1.ObjectChange{
		Key: work1(name).Proto(), Revision: revision("uid-"+name, generation, content).Proto(),
		Action: &agentv1.ObjectChange_Upsert{Upsert: &agentv1.Upsert{
			ObjectJson: content, Encoding: agentv1.Encoding_ENCODING_IDENTITY, UncompressedSize: uint64(len(content)), LastPart: true,
		}},
	}
}

func remove(name, uid string, why agentv1.DeleteReason) *agentv1.ObjectChange {
	return &agentv1.ObjectChange{
		Key: work1(name).Proto(), Revision: &agentv1.Revision{Uid: uid, Generation: 9},
		Action: &agentv1.ObjectChange_Delete{Delete: &agentv1.Delete{Reason: why, BatchId: "batch", BatchSize: 1}},
	}
}

// testCredentials hands out certificates of the bench's authority.
type testCredentials struct {
	client *pki.Client
	mu     sync.Mutex
	err    error
	renew  time.Time
	make   func() *tls.Certificate
	bundle *agentv1.TrustBundle
}

func (c *testCredentials) TLS(string) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client.TLSConfig(hubName), c.err
}

func (c *testCredentials) RenewAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renew
}

func (c *testCredentials) Renew(ctx context.Context, conn grpc.ClientConnInterface) error {
	if _, err := agentv1.NewAgentServiceClient(conn).RenewCertificate(ctx, &agentv1.RenewCertificateRequest{}); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renew = time.Time{}
	if c.make != nil {
		c.client.SetCertificate(c.make())
	}
	return nil
}

func (c *testCredentials) Trust(_ context.Context, bundle *agentv1.TrustBundle) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bundle = bundle
	return nil
}

func (c *testCredentials) TrustVersion() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bundle.GetVersion()
}

// memoryStore is a Store and a Hub.
type memoryStore struct {
	mu       sync.Mutex
	contents map[wire.Key][]byte
	held     map[wire.Key]wire.Revision
	deletes  []Delete
	verdict  Verdict
	forgot   []string
	welcomes []Welcome
	marks    []uint64
	syncs    [][]wire.Key
	released []string
	putErr   error
	forgets  int // how many Forgets fail first
	slow     time.Duration
}

func newMemoryStore() *memoryStore {
	return &memoryStore{contents: map[wire.Key][]byte{}, held: map[wire.Key]wire.Revision{}}
}

func (s *memoryStore) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	snapshot := Snapshot{StoreEpoch: "store-1", HubEpoch: "e1"}
	for key, rev := range s.held {
		snapshot.Entries = append(snapshot.Entries, wire.Entry{Key: key, Revision: rev})
	}
	return snapshot
}

func (s *memoryStore) Put(ctx context.Context, key wire.Key, rev wire.Revision, content []byte) error {
	s.mu.Lock()
	slow := s.slow
	s.mu.Unlock()
	pause(ctx, slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.putErr != nil {
		return s.putErr
	}
	s.contents[key], s.held[key] = content, rev
	return nil
}

func (s *memoryStore) Delete(_ context.Context, d Delete) (Verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rev, ok := s.held[d.Key]; ok && rev.UID != d.Revision.UID {
		return DeleteOtherUID, nil
	}
	s.deletes = append(s.deletes, d)
	return s.verdict, nil
}

func (s *memoryStore) Forget(_ context.Context, key wire.Key, uid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forgets > 0 {
		s.forgets--
		return errors.New("disk full")
	}
	s.forgot = append(s.forgot, key.Name+"/"+uid)
	return nil
}

func (s *memoryStore) Welcomed(_ context.Context, w Welcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.welcomes = append(s.welcomes, w)
	return nil
}

func (s *memoryStore) Marked(mark wire.HighWater) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks = append(s.marks, mark.ResourceVersion)
}

func (s *memoryStore) Synced(_ context.Context, failed []wire.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncs = append(s.syncs, failed)
	return nil
}

func (s *memoryStore) Release(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = append(s.released, id)
	return nil
}

func (s *memoryStore) content(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.contents[work1(name)])
}

func (s *memoryStore) hold(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[work1(name)] = revision("uid-"+name, 1, nil)
}

func (s *memoryStore) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putErr = err
}
