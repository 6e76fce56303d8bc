// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// EnrollRequest is a request to join, as plain values.
type EnrollRequest struct {
	Cluster, Token, Fingerprint, AgentID, AgentVersion string
	CSR                                                []byte
	Source                                             netip.Addr
}

// Enrollment is what an agent is told about its enrollment.
type Enrollment struct {
	ID, PairingCode, HubID, Reason, Message string
	State                                   v1alpha1.EnrollmentState
	Challenge                               []byte
	PollAfter                               time.Duration
	Chain                                   []byte // PEM, when there is a certificate
	NotAfter, RenewAfter                    time.Time
}

// Enroller takes requests to join and answers questions about them.
type Enroller interface {
	Enroll(ctx context.Context, req EnrollRequest) (Enrollment, error)
	Get(ctx context.Context, id string, challenge, proof []byte, wait time.Duration) (Enrollment, error)
}

// Renewer changes the enrollment of the agent that calls.
type Renewer interface {
	Renew(ctx context.Context, cert *x509.Certificate, csr []byte) (Enrollment, error)
	Detach(ctx context.Context, cert *x509.Certificate, why string) error
}

// TrustBundle is what agents verify the hub with.
type TrustBundle struct {
	Version uint64
	Roots   [][]byte // DER
}

// maxWait bounds a long poll, below what proxies cut at.
const maxWait = 55 * time.Second

// Enroll implements AgentService.
func (s *Service) Enroll(ctx context.Context, r *agentv1.EnrollRequest) (*agentv1.EnrollResponse, error) {
	enrollment, err := s.cfg.Enroller.Enroll(ctx, EnrollRequest{
		Cluster: r.GetClusterName(), Token: r.GetJoinToken(), CSR: r.GetCsrDer(), Fingerprint: r.GetClusterFingerprint(),
		AgentID: r.GetAgentId(), AgentVersion: r.GetAgentVersion(), Source: sourceOf(authz.CallerOf(ctx)),
	})
	if err != nil {
		return nil, err
	}
	return &agentv1.EnrollResponse{
		EnrollmentId: enrollment.ID, State: stateOf(enrollment.State), PairingCode: enrollment.PairingCode,
		PollAfter: durationpb.New(enrollment.PollAfter), Challenge: enrollment.Challenge, HubId: enrollment.HubID,
	}, nil
}

// GetEnrollment implements AgentService.
func (s *Service) GetEnrollment(ctx context.Context, r *agentv1.GetEnrollmentRequest) (*agentv1.GetEnrollmentResponse, error) {
	wait := min(max(r.GetWait().AsDuration(), 0), maxWait)
	enrollment, err := s.cfg.Enroller.Get(ctx, r.GetEnrollmentId(), r.GetChallenge(), r.GetProof(), wait)
	if err != nil {
		return nil, err
	}
	certificate, err := s.certificateOf(enrollment)
	if err != nil {
		return nil, err
	}
	return &agentv1.GetEnrollmentResponse{
		State: stateOf(enrollment.State), Certificate: certificate, Reason: enrollment.Reason,
		PollAfter: durationpb.New(enrollment.PollAfter), Challenge: enrollment.Challenge,
	}, nil
}

// RenewCertificate implements AgentService. It answers when the certificate is
// there.
func (s *Service) RenewCertificate(ctx context.Context, r *agentv1.RenewCertificateRequest) (*agentv1.RenewCertificateResponse, error) {
	cert, err := callerCertificate(ctx)
	if err != nil {
		return nil, err
	}
	enrollment, err := s.cfg.Renewer.Renew(ctx, cert, r.GetCsrDer())
	if err != nil {
		return nil, err
	}
	certificate, err := s.certificateOf(enrollment)
	if err != nil {
		return nil, err
	}
	if certificate == nil {
		return nil, rpcerr.New(codes.Unavailable, reason.HubOverloaded, "the new certificate is not signed yet; ask again with the same request").RetryIn(5 * time.Second)
	}
	return &agentv1.RenewCertificateResponse{Certificate: certificate}, nil
}

// Detach implements AgentService: the spoke withdraws its consent.
func (s *Service) Detach(ctx context.Context, r *agentv1.DetachRequest) (*agentv1.DetachResponse, error) {
	cert, err := callerCertificate(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Renewer.Detach(ctx, cert, wire.Truncate(r.GetReason())); err != nil {
		return nil, err
	}
	return &agentv1.DetachResponse{}, nil
}

// certificateOf is nil while there is no certificate.
func (s *Service) certificateOf(e Enrollment) (*agentv1.IssuedCertificate, error) {
	if len(e.Chain) == 0 {
		return nil, nil //nolint:nilnil // as its comment says
	}
	certs, err := pki.ParseCertificates(e.Chain)
	if err != nil {
		return nil, rpcerr.New(codes.Internal, reason.Internal, "the hub's record of the certificate is damaged; ask its admin").Because(err)
	}
	issued := &agentv1.IssuedCertificate{
		NotAfter: timestamppb.New(e.NotAfter), RenewAfter: timestamppb.New(e.RenewAfter), TrustBundle: s.cfg.Trust().proto(),
	}
	for _, cert := range certs {
		issued.ChainDer = append(issued.ChainDer, cert.Raw)
	}
	return issued, nil
}

func (b TrustBundle) proto() *agentv1.TrustBundle {
	return &agentv1.TrustBundle{Version: b.Version, HubCaDer: b.Roots}
}

func callerCertificate(ctx context.Context) (*x509.Certificate, error) {
	cert, err := authz.CallerOf(ctx).Certificate()
	if err != nil {
		return nil, rpcerr.New(codes.Unauthenticated, reason.CertificateError, "the client certificate does not parse").Because(err)
	}
	return cert, nil
}

func sourceOf(caller *authz.Caller) netip.Addr {
	host, _, err := net.SplitHostPort(caller.Remote)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}

func stateOf(state v1alpha1.EnrollmentState) agentv1.EnrollmentState {
	states := map[v1alpha1.EnrollmentState]agentv1.EnrollmentState{
		v1alpha1.StatePending:  agentv1.EnrollmentState_ENROLLMENT_STATE_PENDING,
		v1alpha1.StateAccepted: agentv1.EnrollmentState_ENROLLMENT_STATE_ACCEPTED,
		v1alpha1.StateIssued:   agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED,
		v1alpha1.StateActive:   agentv1.EnrollmentState_ENROLLMENT_STATE_ACTIVE,
		v1alpha1.StateDenied:   agentv1.EnrollmentState_ENROLLMENT_STATE_DENIED,
		v1alpha1.StateExpired:  agentv1.EnrollmentState_ENROLLMENT_STATE_EXPIRED,
		v1alpha1.StateRevoked:  agentv1.EnrollmentState_ENROLLMENT_STATE_REVOKED,
		v1alpha1.StateDetached: agentv1.EnrollmentState_ENROLLMENT_STATE_DETACHED,
		"":                     agentv1.EnrollmentState_ENROLLMENT_STATE_PENDING,
	}
	return states[state]
}
