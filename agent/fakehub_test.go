// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"k8s.io/apimachinery/pkg/util/wait"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire"
)

const hubID = "hub-1"

// fakeHub lets everybody in and says what a test tells it to.
type fakeHub struct {
	agentv1.UnimplementedAgentServiceServer
	t        *testing.T
	serving  *pki.CA
	agents   *pki.CA
	address  string
	server   *grpc.Server
	sessions chan *peer
	done     chan struct{}

	mu     sync.Mutex
	tokens []string
	csr    *x509.CertificateRequest
}

// peer is the hub's end of one session.
type peer struct {
	t      *testing.T
	stream agentv1.AgentService_SessionServer
	hello  *agentv1.Hello
	in     chan *agentv1.SessionRequest

	mu     sync.Mutex
	seq    uint64
	report *agentv1.ClusterReport // the newest
}

func newFakeHub(t *testing.T) *fakeHub {
	t.Helper()
	now := time.Now()
	serving, err := pki.NewCA("root", now, time.Hour)
	require.NoError(t, err)
	agents, err := pki.NewCA("agents", now, time.Hour)
	require.NoError(t, err)
	h := &fakeHub{t: t, serving: serving, agents: agents, sessions: make(chan *peer, 100), address: "127.0.0.1:0"}
	h.start()
	t.Cleanup(h.stop)
	return h
}

// start serves, on the address of before if there was one.
func (h *fakeHub) start() {
	cert, err := h.serving.IssueServing([]string{"127.0.0.1"}, time.Now(), time.Hour)
	require.NoError(h.t, err)
	pool := x509.NewCertPool()
	pool.AddCert(h.agents.Cert)
	var config net.ListenConfig
	listener, err := config.Listen(context.WithoutCancel(h.t.Context()), "tcp", h.address)
	require.NoError(h.t, err)
	h.address = listener.Addr().String()
	h.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(pki.NewServer(pki.ServerState{Certificate: cert, ClientCAs: pool}).TLSConfig())))
	agentv1.RegisterAgentServiceServer(h.server, h)
	h.done = make(chan struct{})
	go func(server *grpc.Server, done chan struct{}) {
		defer close(done)
		_ = server.Serve(listener)
	}(h.server, h.done)
}

func (h *fakeHub) stop() {
	h.server.Stop()
	<-h.done
}

func (h *fakeHub) join(name string) string { return h.joinWith(name, "id.secret") }

// enrolled are the tokens that came, in order.
func (h *fakeHub) enrolled() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.tokens)
}

func (h *fakeHub) joinWith(name, token string) string {
	pin := pki.Fingerprint(h.serving.Cert)
	text, err := pki.JoinString{Endpoints: []string{h.address}, CASHA256: hex.EncodeToString(pin[:]), Token: token, Name: name}.Encode()
	require.NoError(h.t, err)
	return text
}

// Enroll implements the service.
func (h *fakeHub) Enroll(_ context.Context, r *agentv1.EnrollRequest) (*agentv1.EnrollResponse, error) {
	csr, agent, err := pki.ParseCSR(r.GetCsrDer())
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.csr = csr
	h.tokens = append(h.tokens, r.GetJoinToken())
	return &agentv1.EnrollResponse{
		EnrollmentId: "e", PairingCode: identity.PairingCode(csr.RawSubjectPublicKeyInfo, agent.Cluster, hubID), HubId: hubID, Challenge: []byte("c"),
	}, nil
}

// GetEnrollment implements the service.
func (h *fakeHub) GetEnrollment(context.Context, *agentv1.GetEnrollmentRequest) (*agentv1.GetEnrollmentResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	agent, err := identity.ParseSubject(h.csr.Subject)
	if err != nil {
		return nil, err
	}
	agent.HubID, agent.UID = hubID, "uid"
	template := &x509.Certificate{
		Subject: identity.Subject(agent.Cluster, agent.Name), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	template.URIs = append(template.URIs, agent.URI())
	cert, err := h.agents.Issue(template, h.csr.PublicKey)
	if err != nil {
		return nil, err
	}
	return &agentv1.GetEnrollmentResponse{
		State:       agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED,
		Certificate: &agentv1.IssuedCertificate{ChainDer: [][]byte{cert.Raw}, NotAfter: timestamppb.New(cert.NotAfter)},
	}, nil
}

// Session implements the service.
func (h *fakeHub) Session(stream agentv1.AgentService_SessionServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	p := &peer{t: h.t, stream: stream, hello: first.GetHello(), in: make(chan *agentv1.SessionRequest, 10000)}
	h.sessions <- p
	for {
		message, err := stream.Recv()
		if err != nil || message.GetGoodbye() != nil {
			close(p.in)
			return err
		}
		if report := message.GetClusterReport(); report != nil {
			p.mu.Lock()
			p.report = report
			p.mu.Unlock()
			continue
		}
		p.in <- message
	}
}

// reported waits for a ClusterReport that is accepted.
func (p *peer) reported(what string, is func(*agentv1.ClusterReport) bool) *agentv1.ClusterReport {
	p.t.Helper()
	var report *agentv1.ClusterReport
	err := wait.PollUntilContextTimeout(p.t.Context(), 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		report = p.report
		return report != nil && is(report), nil
	})
	require.NoError(p.t, err, "%s: %v", what, report)
	return report
}

// accept waits for the next session and welcomes it.
func (h *fakeHub) accept(mode agentv1.SyncMode, resend bool) *peer {
	h.t.Helper()
	select {
	case p := <-h.sessions:
		p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Welcome{Welcome: &agentv1.Welcome{
			SessionId: "s", SessionEpoch: 1, HubId: hubID, HubEpoch: "e1", Protocol: 1, SyncMode: mode, ResendStatuses: resend,
			HeartbeatInterval: durationpb.New(20 * time.Second), HighWater: wire.HighWater{ResourceVersion: 1}.Proto(),
			Reconnect: &agentv1.ReconnectPolicy{Base: durationpb.New(50 * time.Millisecond), Max: durationpb.New(200 * time.Millisecond), Spread: durationpb.New(50 * time.Millisecond)},
		}}})
		return p
	case <-time.After(time.Minute):
		require.FailNow(h.t, "no session came")
		return nil
	}
}

func (p *peer) send(frame *agentv1.SessionResponse) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	frame.Seq = p.seq
	require.NoError(p.t, p.stream.Send(frame))
}

func (p *peer) delta(changes ...*agentv1.ObjectChange) {
	p.t.Helper()
	p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Delta{Delta: &agentv1.Delta{Changes: changes, SyncComplete: true}}})
}

// part sends changes of which more are to come.
func (p *peer) part(changes ...*agentv1.ObjectChange) {
	p.t.Helper()
	p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Delta{Delta: &agentv1.Delta{Changes: changes}}})
}

// next waits for a message that pick accepts.
func (p *peer) next(what string, pick func(*agentv1.SessionRequest) bool) *agentv1.SessionRequest {
	p.t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case message, ok := <-p.in:
			require.True(p.t, ok, "the agent ended the stream before: %s", what)
			if pick(message) {
				return message
			}
		case <-limit:
			require.FailNow(p.t, "did not come", what)
		}
	}
}

// ack waits for what the agent says about one object.
func (p *peer) ack(name string) *agentv1.ObjectAck {
	p.t.Helper()
	var found *agentv1.ObjectAck
	p.next("ack of "+name, func(m *agentv1.SessionRequest) bool {
		for _, object := range m.GetAck().GetObjects() {
			if object.GetKey().GetName() == name {
				found = object
			}
		}
		return found != nil
	})
	return found
}

// status waits for a status that is accepted, and answers every one PERSISTED.
func (p *peer) status(what string, is func(*agentv1.ObjectStatus) bool) *agentv1.ObjectStatus {
	p.t.Helper()
	var found *agentv1.ObjectStatus
	p.next(what, func(m *agentv1.SessionRequest) bool {
		for _, item := range m.GetStatus().GetItems() {
			p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_StatusAck{StatusAck: &agentv1.StatusAck{Results: []*agentv1.StatusResult{{
				Key: item.GetKey(), StatusSeq: item.GetStatusSeq(), Code: agentv1.StatusCode_STATUS_CODE_PERSISTED,
			}}}}})
			if is(item) {
				found = item
			}
		}
		return found != nil
	})
	return found
}

// untilHeldObjects waits until the agent holds that many objects.
func (p *peer) untilHeldObjects(n int) {
	p.t.Helper()
	buckets := make([]uint32, 0, wire.Buckets)
	for i := range uint32(wire.Buckets) {
		buckets = append(buckets, i)
	}
	err := wait.PollUntilContextTimeout(p.t.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_InventoryRequest{InventoryRequest: &agentv1.InventoryRequest{Buckets: buckets}}})
		found := 0
		p.next("an inventory", func(m *agentv1.SessionRequest) bool {
			for _, bucket := range m.GetInventory().GetBuckets() {
				found += len(bucket.GetEntries())
			}
			return m.GetInventory().GetLast()
		})
		return found == n, nil
	})
	require.NoError(p.t, err, "objects held: want %d", n)
}

func upsert(name, uid string, generation int64, content string) *agentv1.ObjectChange {
	sum := sha256.Sum256([]byte(content))
	return &agentv1.ObjectChange{
		Key:      workKey(name).Proto(),
		Revision: wire.Revision{UID: uid, Generation: generation, Digest: sum, Size: uint64(len(content))}.Proto(),
		Action: &agentv1.ObjectChange_Upsert{Upsert: &agentv1.Upsert{
			ObjectJson: []byte(content), Encoding: agentv1.Encoding_ENCODING_IDENTITY, UncompressedSize: uint64(len(content)), LastPart: true,
		}},
	}
}

func remove(name, uid string, why agentv1.DeleteReason) *agentv1.ObjectChange {
	return &agentv1.ObjectChange{
		Key: workKey(name).Proto(), Revision: &agentv1.Revision{Uid: uid, Generation: 9},
		Action: &agentv1.ObjectChange_Delete{Delete: &agentv1.Delete{Reason: why, BatchId: "b", BatchSize: 1}},
	}
}
