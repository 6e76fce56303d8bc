// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/enroll"
	"fairlead.dev/fairlead/server/rpc/admin"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// adminTokens implements admin.Tokens over server/enroll.
type adminTokens struct{ *house }

// Create implements admin.Tokens.
func (t adminTokens) Create(ctx context.Context, p admin.TokenPolicy, by string) (admin.Token, error) {
	service, err := enrollments(t).service()
	if err != nil {
		return admin.Token{}, err
	}
	cidrs, err := parseCIDRs(p.SourceCIDRs)
	if err != nil {
		return admin.Token{}, err
	}
	policy := enroll.Policy{
		ClusterName: p.ClusterName, NamePattern: p.NamePattern, TTL: p.TTL, MaxUses: int(p.MaxUses),
		SourceCIDRs: cidrs, AutoAccept: p.AutoAccept, ReEnroll: p.ReEnroll, ClusterLabels: p.ClusterLabels,
	}
	if p.ClusterName != "" {
		if err := identity.ValidateClusterName(p.ClusterName); err != nil {
			return admin.Token{}, rpcerr.New(codes.InvalidArgument, reason.InvalidName, "%v", err)
		}
	}
	endpoints := p.Endpoints
	if len(endpoints) == 0 {
		endpoints = t.cfg.publicEndpoints(t.addresses.Agent)
	}
	join := pki.JoinString{Endpoints: endpoints, CASHA256: t.authorities.RootSHA256(), Name: p.ClusterName}
	join.Token = "id.secret" // what does not make a join string must not leave a token behind
	if _, err := join.Encode(); err != nil {
		return admin.Token{}, rpcerr.New(codes.FailedPrecondition, reason.InvalidArgument, "no join string: %v (see --endpoints of the hub)", err)
	}
	token, presented, err := service.Tokens().Create(ctx, policy, by)
	if err != nil {
		return admin.Token{}, refusal(err)
	}
	join.Token = presented
	text, err := join.Encode()
	if err != nil {
		return admin.Token{}, fmt.Errorf("encoding the join string of token %q: %w", token.ID, err)
	}
	out := toAdminToken(token)
	out.Presented, out.JoinString, out.CASHA256 = presented, text, join.CASHA256
	return out, nil
}

func parseCIDRs(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, rpcerr.New(codes.InvalidArgument, reason.InvalidArgument, "source network %q is not of the form 10.0.0.0/8: %v", text, err)
		}
		out = append(out, prefix)
	}
	return out, nil
}

// List implements admin.Tokens.
func (t adminTokens) List(ctx context.Context) ([]admin.Token, error) {
	service, err := enrollments(t).service()
	if err != nil {
		return nil, err
	}
	tokens, err := service.Tokens().List(ctx)
	out := make([]admin.Token, 0, len(tokens))
	for _, token := range tokens {
		out = append(out, toAdminToken(token))
	}
	return out, refusal(err)
}

// Revoke implements admin.Tokens.
func (t adminTokens) Revoke(ctx context.Context, id string) error {
	service, err := enrollments(t).service()
	if err != nil {
		return err
	}
	return refusal(service.Tokens().Revoke(ctx, id))
}

func toAdminToken(t enroll.Token) admin.Token {
	out := admin.Token{
		ID: t.ID, Expires: t.Expires, UsesLeft: uint32(t.UsesLeft()), CreatedBy: t.CreatedBy, //nolint:gosec // checked where the token is made
		Policy: admin.TokenPolicy{
			ClusterName: t.Policy.ClusterName, NamePattern: t.Policy.NamePattern, MaxUses: uint32(t.Policy.MaxUses), //nolint:gosec // checked where the token is made
			AutoAccept: t.Policy.AutoAccept, ReEnroll: t.Policy.ReEnroll, ClusterLabels: t.Policy.ClusterLabels,
		},
	}
	for _, prefix := range t.Policy.SourceCIDRs {
		out.Policy.SourceCIDRs = append(out.Policy.SourceCIDRs, prefix.String())
	}
	return out
}

// adminEnrollments implements admin.Enrollments.
type adminEnrollments struct{ *house }

// List implements admin.Enrollments from the cache.
func (e adminEnrollments) List(ctx context.Context) ([]*adminv1.Enrollment, error) {
	if _, err := enrollments(e).service(); err != nil {
		return nil, err
	}
	var list v1alpha1.ClusterEnrollmentList
	if err := e.cache.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing enrollments: %w", err)
	}
	out := make([]*adminv1.Enrollment, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, toAdminEnrollment(&list.Items[i]))
	}
	slices.SortFunc(out, func(a, b *adminv1.Enrollment) int { return a.GetCreated().AsTime().Compare(b.GetCreated().AsTime()) })
	return out, nil
}

func toAdminEnrollment(e *v1alpha1.ClusterEnrollment) *adminv1.Enrollment {
	out := &adminv1.Enrollment{
		EnrollmentId: e.Name, ClusterName: e.Spec.ClusterName, State: string(e.Status.State), PairingCode: e.Spec.PairingCode,
		KeySha256: e.Spec.KeySHA256, ClusterFingerprint: e.Spec.ClusterFingerprint, SourceAddress: e.Spec.SourceAddress,
		TokenId: e.Spec.TokenID, Created: timestamppb.New(e.CreationTimestamp.Time), AgentId: e.Spec.AgentID,
		AgentVersion: e.Spec.AgentVersion, AcceptedBy: e.Status.AcceptedBy, Message: e.Status.Message, Reason: e.Status.Reason,
	}
	if current := e.Status.Current; current != nil {
		out.CertificateSerial = current.Serial
		if current.NotAfter != nil {
			out.CertificateExpires = timestamppb.New(current.NotAfter.Time)
		}
	}
	return out
}

// Accept implements admin.Enrollments with the caller's own credentials.
func (e adminEnrollments) Accept(ctx context.Context, caller *rest.Config, id, code, _ string) error {
	service, err := enrollments(e).service()
	if err != nil {
		return err
	}
	person, err := client.New(caller, client.Options{Scheme: e.scheme})
	if err != nil {
		return fmt.Errorf("making a client for the caller: %w", err)
	}
	_, err = service.Accept(ctx, person, enroll.Choice{ID: id, PairingCode: code})
	return refusal(err)
}

// Vouch implements admin.Enrollments with the caller's own rights.
func (e adminEnrollments) Vouch(ctx context.Context, caller *rest.Config, id, serial string) error {
	service, err := enrollments(e).service()
	if err != nil {
		return err
	}
	person, err := client.New(caller, client.Options{Scheme: e.scheme})
	if err != nil {
		return fmt.Errorf("making a client for the caller: %w", err)
	}
	_, err = service.Vouch(ctx, person, id, serial)
	return refusal(err)
}

// Deny implements admin.Enrollments with the caller's own credentials.
func (e adminEnrollments) Deny(ctx context.Context, caller *rest.Config, id, why, _ string) error {
	service, err := enrollments(e).service()
	if err != nil {
		return err
	}
	person, err := client.New(caller, client.Options{Scheme: e.scheme})
	if err != nil {
		return fmt.Errorf("making a client for the caller: %w", err)
	}
	return refusal(service.Deny(ctx, person, enroll.Choice{ID: id}, why))
}
