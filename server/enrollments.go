// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/x509"
	"time"

	"google.golang.org/grpc/codes"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/enroll"
	"fairlead.dev/fairlead/server/rpc/agent"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// enrollments implements agent.Enroller and agent.Renewer.
type enrollments struct{ *house }

// service is the enrollment service, once it can work.
func (e enrollments) service() (*enroll.Service, error) {
	if e.cfg.AgentAuth == AuthCertificate {
		return nil, rpcerr.New(codes.Unimplemented, reason.Unsupported, "this hub takes certificates of its admin's own PKI; get one there")
	}
	if admission := e.admission.Load(); admission != nil {
		return admission.enroll, nil
	}
	return nil, rpcerr.New(codes.Unavailable, reason.HubStarting, "the hub is not ready yet").RetryIn(startingRetry)
}

// Enroll implements agent.Enroller.
func (e enrollments) Enroll(ctx context.Context, req agent.EnrollRequest) (agent.Enrollment, error) {
	service, err := e.service()
	if err != nil {
		return agent.Enrollment{}, err
	}
	enrollment, err := service.Enroll(ctx, enroll.Request{
		Cluster: req.Cluster, Token: req.Token, CSR: req.CSR, Fingerprint: req.Fingerprint,
		AgentID: req.AgentID, AgentVersion: req.AgentVersion, Source: req.Source,
	})
	return toAgent(enrollment), refusal(err)
}

// Get implements agent.Enroller.
func (e enrollments) Get(ctx context.Context, id string, challenge, proof []byte, wait time.Duration) (agent.Enrollment, error) {
	service, err := e.service()
	if err != nil {
		return agent.Enrollment{}, err
	}
	enrollment, err := service.Get(ctx, id, challenge, proof, wait)
	return toAgent(enrollment), refusal(err)
}

// Renew implements agent.Renewer.
func (e enrollments) Renew(ctx context.Context, cert *x509.Certificate, csr []byte) (agent.Enrollment, error) {
	service, err := e.service()
	if err != nil {
		return agent.Enrollment{}, err
	}
	enrollment, err := service.Renew(ctx, cert, csr)
	return toAgent(enrollment), refusal(err)
}

// Detach implements agent.Renewer.
func (e enrollments) Detach(ctx context.Context, cert *x509.Certificate, why string) error {
	service, err := e.service()
	if err != nil {
		return err
	}
	return refusal(service.Detach(ctx, cert, why))
}

func toAgent(e enroll.Enrollment) agent.Enrollment {
	return agent.Enrollment{
		ID: e.ID, PairingCode: e.PairingCode, HubID: e.HubID, Reason: e.Reason, Message: e.Message, State: e.State,
		Challenge: e.Challenge, PollAfter: e.PollAfter, Chain: e.Chain, NotAfter: e.NotAfter, RenewAfter: e.RenewAfter,
	}
}
