// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
)

// rawAgent speaks the agent's side of the protocol, one message at a time.
type rawAgent struct {
	t       *testing.T
	hub     *running
	cluster string
	key     crypto.Signer
	trust   pki.Trust
	tls     *pki.Client
	conn    *grpc.ClientConn
	api     agentv1.AgentServiceClient
	options []grpc.DialOption // more of them
}

func newAgent(t *testing.T, hub *running, cluster string) *rawAgent {
	t.Helper()
	secret := &corev1.Secret{}
	require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKey{Namespace: identity.HubNamespace, Name: "fairlead-ca-hub-serving"}, secret))
	roots, err := pki.ParseCertificates(secret.Data["tls.crt"])
	require.NoError(t, err)
	key, err := pki.NewKey()
	require.NoError(t, err)
	trust := pki.Trust{Roots: roots}
	a := &rawAgent{t: t, hub: hub, cluster: cluster, key: key, trust: trust, tls: pki.NewClient(trust)}
	a.dial()
	return a
}

// dial opens a new connection, with the certificate of now.
func (a *rawAgent) dial() {
	a.t.Helper()
	options := append(slices.Clone(a.options), grpc.WithTransportCredentials(credentials.NewTLS(a.tls.TLSConfig("127.0.0.1"))))
	conn, err := grpc.NewClient(a.hub.addresses.Agent, options...)
	require.NoError(a.t, err)
	a.t.Cleanup(func() { _ = conn.Close() })
	a.conn, a.api = conn, agentv1.NewAgentServiceClient(conn)
}

// join enrolls with a token, has itself accepted, and takes its certificate
// into use.
func (a *rawAgent) join(token string, accept bool) {
	a.t.Helper()
	ctx := a.t.Context()
	csr, err := pki.NewCSR(a.key, identity.Subject(a.cluster, "agent"))
	require.NoError(a.t, err)
	enrolled, err := a.api.Enroll(ctx, &agentv1.EnrollRequest{
		ClusterName: a.cluster, JoinToken: token, CsrDer: csr, ClusterFingerprint: "fp-" + a.cluster, AgentId: "raw", AgentVersion: "test",
	})
	require.NoError(a.t, err)
	spki, err := pki.SPKI(a.key.Public())
	require.NoError(a.t, err)
	require.Equal(a.t, identity.PairingCode(spki, a.cluster, enrolled.GetHubId()), enrolled.GetPairingCode())
	if accept {
		a.hub.accept(a.cluster, enrolled.GetEnrollmentId())
	}
	challenge := enrolled.GetChallenge()
	for deadline := time.Now().Add(patience); ; {
		require.True(a.t, time.Now().Before(deadline), "no certificate came")
		proof, err := pki.Prove(a.key, enrolled.GetEnrollmentId(), challenge)
		require.NoError(a.t, err)
		got, err := a.api.GetEnrollment(ctx, &agentv1.GetEnrollmentRequest{
			EnrollmentId: enrolled.GetEnrollmentId(), Challenge: challenge, Proof: proof, Wait: durationpb.New(10 * time.Second),
		})
		require.NoError(a.t, err)
		if issued := got.GetCertificate(); issued != nil {
			a.use(issued.GetChainDer())
			return
		}
		challenge = got.GetChallenge()
	}
}

func (a *rawAgent) use(chain [][]byte) {
	a.t.Helper()
	leaf, err := x509.ParseCertificate(chain[0])
	require.NoError(a.t, err)
	a.tls.SetCertificate(&tls.Certificate{Certificate: chain, PrivateKey: a.key, Leaf: leaf})
	a.dial()
}

// rawSession is one session whose frames a test sends and receives.
type rawSession struct {
	t       *testing.T
	stream  agentv1.AgentService_SessionClient
	cancel  context.CancelFunc
	welcome *agentv1.Welcome
	seq     uint64
}

// session opens a session and waits for its Welcome.
func (a *rawAgent) session(hello *agentv1.Hello) *rawSession {
	a.t.Helper()
	var s *rawSession
	until(a.t, "a session", func() (err error) {
		s, err = a.trySession(hello)
		return err
	})
	return s
}

func (a *rawAgent) trySession(hello *agentv1.Hello) (*rawSession, error) {
	ctx, cancel := context.WithCancel(a.t.Context())
	stream, err := a.api.Session(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	if hello.GetInstanceId() == "" {
		hello.InstanceId = "instance"
	}
	hello.ProtocolMin, hello.ProtocolMax, hello.AgentId = 1, 1, "raw"
	hello.ClusterFingerprint = "fp-" + a.cluster
	s := &rawSession{t: a.t, stream: stream, cancel: cancel}
	if err := stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
		cancel()
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		cancel()
		return nil, err
	}
	a.t.Cleanup(cancel)
	s.welcome, s.seq = first.GetWelcome(), first.GetSeq()
	require.NotNil(a.t, s.welcome)
	return s, nil
}

// next is the next message that is no heartbeat.
func (s *rawSession) next() *agentv1.SessionResponse {
	s.t.Helper()
	for {
		m, err := s.stream.Recv()
		require.NoError(s.t, err)
		s.seq = m.GetSeq()
		if m.GetHeartbeat() == nil {
			return m
		}
		s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
	}
}

// change waits for a change of an object, answering what the hub asks for
// meanwhile as an agent that holds nothing.
func (s *rawSession) change(name string) *agentv1.ObjectChange {
	s.t.Helper()
	for {
		m := s.next()
		if request := m.GetInventoryRequest(); request != nil {
			s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Inventory{Inventory: &agentv1.InventoryReply{Statuses: request.GetStatuses(), Last: true}}})
		}
		for _, change := range m.GetDelta().GetChanges() {
			if change.GetKey().GetName() == name {
				return change
			}
		}
	}
}

// stored acknowledges a change as durable.
func (s *rawSession) stored(change *agentv1.ObjectChange) {
	s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: &agentv1.Ack{
		ProcessedSeq: s.seq,
		Objects:      []*agentv1.ObjectAck{{Key: change.GetKey(), Revision: change.GetRevision(), Code: agentv1.AckCode_ACK_CODE_STORED}},
	}}})
}

// status sends one status and waits for what became of it.
func (s *rawSession) status(item *agentv1.ObjectStatus) *agentv1.StatusResult {
	s.t.Helper()
	item.UncompressedSize, item.LastPart, item.Encoding = uint64(len(item.GetStatusJson())), true, agentv1.Encoding_ENCODING_IDENTITY
	s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Status{Status: &agentv1.StatusBatch{
		SessionEpoch: s.welcome.GetSessionEpoch(), Items: []*agentv1.ObjectStatus{item},
	}}})
	for {
		for _, result := range s.next().GetStatusAck().GetResults() {
			if result.GetKey().GetName() == item.GetKey().GetName() {
				return result
			}
		}
	}
}

func (s *rawSession) send(m *agentv1.SessionRequest) {
	s.t.Helper()
	require.NoError(s.t, s.stream.Send(m))
}

// end waits for the session's end and returns its error.
func (s *rawSession) end() error {
	for {
		if _, err := s.stream.Recv(); err != nil {
			return err
		}
	}
}
