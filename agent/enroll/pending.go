// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"crypto"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	callTimeout = 30 * time.Second
	pollWait    = 50 * time.Second // the hub answers earlier when there is something to say
	pollSpare   = 20 * time.Second // beyond that the connection is taken for dead
	pollPause   = time.Second      // at least, between two polls
	pollMaxWait = 5 * time.Minute
)

// pending is a request to join that is under way.
type pending struct {
	*Enroller
	key  crypto.Signer
	next Record // what the vault will have: names, key, and what is learned on the way
	old  Record // a certificate that stays in force until the new one is there

	answered bool // the hub took the request in the last attempt
}

// save stores how far the request is, beside a certificate that is still in
// force.
func (p *pending) save(ctx context.Context) error {
	record := p.next
	if len(p.old.Certificate) > 0 {
		record = p.old
		record.PendingKey, record.PendingToken = p.next.PendingKey, p.next.PendingToken
		record.EnrollmentID, record.PairingCode = p.next.EnrollmentID, p.next.PairingCode
	}
	return p.cfg.Vault.Save(ctx, record)
}

// attempt enrolls at one endpoint and waits there for the certificate. The TLS
// handshake, in which the hub's root is held against the pin, comes before the
// first byte of the request.
func (p *pending) attempt(ctx context.Context, endpoint string) (Record, error) {
	way := dialer.NewWay(endpoint, pki.NewClient(pki.Trust{Pin: p.pin}).TLSConfig(host(endpoint)), p.cfg.Dial)
	conn, err := p.connect(way)
	if err != nil {
		return Record{}, problem(reason.InvalidJoinString, err, "endpoint %q: %v", endpoint, err)
	}
	defer func() { _ = conn.Close() }()
	client := agentv1.NewAgentServiceClient(conn)
	asked, err := p.ask(ctx, client, way)
	if err != nil {
		return Record{}, err
	}
	p.answered = true
	issued, err := p.await(ctx, client, way, asked)
	if err != nil {
		return Record{}, err
	}
	record, err := takeCertificate(p.next, p.key, issued)
	if err != nil {
		return Record{}, problem(reason.CertificateError, err, "%v", err)
	}
	record.TokenID, record.PendingToken = record.PendingToken, ""
	if err := p.cfg.Vault.Save(ctx, record); err != nil {
		return Record{}, err
	}
	p.cfg.Log.Info("the hub has accepted this spoke", "cluster", record.ClusterName, "agent", record.AgentName, "hub", record.HubID)
	return record, nil
}

func (p *pending) connect(way *dialer.Way) (*grpc.ClientConn, error) {
	return way.Client(
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxFrame)),
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("fairlead-agent/"+p.cfg.Version),
	)
}

// ask sends the request. The same key may send it as often as it likes: the
// token is used once.
func (p *pending) ask(ctx context.Context, client agentv1.AgentServiceClient, way *dialer.Way) (*agentv1.EnrollResponse, error) {
	csr, err := pki.NewCSR(p.key, identity.Subject(p.next.ClusterName, p.next.AgentName))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var from peer.Peer
	response, err := client.Enroll(ctx, &agentv1.EnrollRequest{
		ClusterName: p.next.ClusterName, JoinToken: p.join.Token, CsrDer: csr,
		ClusterFingerprint: p.cfg.Fingerprint, AgentId: p.cfg.AgentID, AgentVersion: p.cfg.Version,
	}, grpc.Peer(&from))
	if err != nil {
		return nil, refusal(way, err)
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, errors.New("the connection to the hub is not TLS")
	}
	root, err := rootOf(info.State.PeerCertificates, p.pin)
	if err != nil {
		return nil, err
	}
	code, err := pairingCode(p.key, p.next.ClusterName, response.GetHubId(), response.GetPairingCode())
	if err != nil {
		return nil, err
	}
	known := p.next.EnrollmentID == response.GetEnrollmentId()
	p.next.HubID, p.next.EnrollmentID, p.next.PairingCode = response.GetHubId(), response.GetEnrollmentId(), code
	p.next.CAs = pki.EncodeCertificates(root)
	if known {
		return response, nil
	}
	p.announce()
	return response, p.save(ctx)
}

// announce shows the pairing code to whoever looks after the spoke.
func (p *pending) announce() {
	r := p.next
	p.cfg.Log.Info("asked the hub to let this spoke in; a person on the hub has to compare the pairing code and accept",
		"pairingCode", r.PairingCode, "cluster", r.ClusterName, "hub", r.HubID, "enrollment", r.EnrollmentID,
		"command", "fairlead accept "+r.ClusterName+" --pairing-code "+r.PairingCode)
	p.cfg.Waiting(Request{Cluster: r.ClusterName, EnrollmentID: r.EnrollmentID, PairingCode: r.PairingCode, HubID: r.HubID})
}

// await polls until there is a certificate or the enrollment has ended. Each
// poll proves, over a new challenge, that this agent has the key.
func (p *pending) await(ctx context.Context, client agentv1.AgentServiceClient, way *dialer.Way, asked *agentv1.EnrollResponse) (*agentv1.IssuedCertificate, error) {
	challenge, id := asked.GetChallenge(), asked.GetEnrollmentId()
	for {
		response, err := p.poll(ctx, client, id, challenge)
		if err != nil {
			return nil, refusal(way, err)
		}
		if response.GetCertificate() != nil {
			return response.GetCertificate(), nil
		}
		if err := ended(response); err != nil {
			return nil, err
		}
		if next := response.GetChallenge(); len(next) > 0 {
			challenge = next
		}
		pause(ctx, min(max(response.GetPollAfter().AsDuration(), pollPause), pollMaxWait))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

func (p *pending) poll(ctx context.Context, client agentv1.AgentServiceClient, id string, challenge []byte) (*agentv1.GetEnrollmentResponse, error) {
	proof, err := pki.Prove(p.key, id, challenge)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pollWait+pollSpare)
	defer cancel()
	return client.GetEnrollment(ctx, &agentv1.GetEnrollmentRequest{EnrollmentId: id, Proof: proof, Challenge: challenge, Wait: durationpb.New(pollWait)})
}

// ended says why an enrollment will not lead to a certificate, or nil.
func ended(response *agentv1.GetEnrollmentResponse) error {
	states := map[agentv1.EnrollmentState]string{
		agentv1.EnrollmentState_ENROLLMENT_STATE_DENIED:   "denied",
		agentv1.EnrollmentState_ENROLLMENT_STATE_EXPIRED:  "not accepted in time",
		agentv1.EnrollmentState_ENROLLMENT_STATE_REVOKED:  "revoked",
		agentv1.EnrollmentState_ENROLLMENT_STATE_DETACHED: "withdrawn by the spoke",
	}
	what, over := states[response.GetState()]
	if !over {
		return nil
	}
	why := response.GetReason()
	if why == "" {
		why = "no reason was given"
	}
	return problem(reason.EnrollmentEnded, nil, "the enrollment was %s on the hub (%s)", what, why)
}
