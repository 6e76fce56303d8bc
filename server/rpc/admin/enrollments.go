// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	authorizationv1 "k8s.io/api/authorization/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// CreateJoinToken makes a join token; the answer is the only time it is seen.
func (s enrollmentService) CreateJoinToken(ctx context.Context, r *adminv1.CreateJoinTokenRequest) (*adminv1.CreateJoinTokenResponse, error) {
	who, name, err := s.authorize(ctx, virtual("create", "jointokens", ""))
	if err != nil {
		return nil, err
	}
	for resource, asked := range map[string]bool{"jointokens/autoaccept": r.GetAutoAccept(), "jointokens/reenroll": r.GetReEnroll()} {
		if !asked {
			continue
		}
		if err := who.Allowed(ctx, virtual("create", resource, "")); err != nil {
			return nil, err
		}
	}
	token, err := s.Tokens.Create(ctx, TokenPolicy{
		ClusterName: r.GetClusterName(), NamePattern: r.GetNamePattern(), TTL: r.GetTtl().AsDuration(), MaxUses: r.GetMaxUses(),
		SourceCIDRs: r.GetSourceCidrs(), AutoAccept: r.GetAutoAccept(), ReEnroll: r.GetReEnroll(), Endpoints: r.GetEndpoints(), ClusterLabels: r.GetClusterLabels(),
	}, name)
	if err != nil {
		return nil, err
	}
	s.audit(ctx, deed{action: "CreateJoinToken", actor: name, cluster: r.GetClusterName() + r.GetNamePattern(), before: "none", after: "valid"}, "tokenId", token.ID,
		"autoAccept", r.GetAutoAccept(), "reEnroll", r.GetReEnroll(), "uses", r.GetMaxUses(), "sources", r.GetSourceCidrs(), "labels", r.GetClusterLabels(), "expires", token.Expires)
	return &adminv1.CreateJoinTokenResponse{
		Token: token.Presented, TokenId: token.ID, HubCaSha256: token.CASHA256,
		Expires: timestamppb.New(token.Expires), JoinString: token.JoinString,
	}, nil
}

// ListJoinTokens lists tokens without their secrets.
func (s enrollmentService) ListJoinTokens(ctx context.Context, r *adminv1.ListJoinTokensRequest) (*adminv1.ListJoinTokensResponse, error) {
	if _, _, err := s.authorize(ctx, virtual("list", "jointokens", "")); err != nil {
		return nil, err
	}
	tokens, err := s.Tokens.List(ctx)
	if err != nil {
		return nil, err
	}
	page, next, err := paginate(tokens, r.GetPageSize(), r.GetPageToken(), func(t Token) string { return t.ID })
	if err != nil {
		return nil, err
	}
	out := &adminv1.ListJoinTokensResponse{NextPageToken: next}
	for _, t := range page {
		out.Tokens = append(out.Tokens, &adminv1.JoinToken{
			TokenId: t.ID, ClusterName: t.Policy.ClusterName, NamePattern: t.Policy.NamePattern, Expires: timestamppb.New(t.Expires),
			UsesLeft: t.UsesLeft, AutoAccept: t.Policy.AutoAccept, SourceCidrs: t.Policy.SourceCIDRs, CreatedBy: t.CreatedBy, ReEnroll: t.Policy.ReEnroll,
			ClusterLabels: t.Policy.ClusterLabels,
		})
	}
	return out, nil
}

// RevokeJoinToken makes a token useless at once.
func (s enrollmentService) RevokeJoinToken(ctx context.Context, r *adminv1.RevokeJoinTokenRequest) (*adminv1.RevokeJoinTokenResponse, error) {
	_, name, err := s.authorize(ctx, virtual("delete", "jointokens", r.GetTokenId()))
	if err != nil {
		return nil, err
	}
	if err := s.Tokens.Revoke(ctx, r.GetTokenId()); err != nil {
		return nil, err
	}
	s.audit(ctx, deed{action: "RevokeJoinToken", actor: name, before: "valid", after: "revoked"}, "tokenId", r.GetTokenId())
	return &adminv1.RevokeJoinTokenResponse{}, nil
}

// ListEnrollments lists enrollments, with the pairing code of each key.
func (s enrollmentService) ListEnrollments(ctx context.Context, r *adminv1.ListEnrollmentsRequest) (*adminv1.ListEnrollmentsResponse, error) {
	if _, _, err := s.authorize(ctx, virtual("list", "enrollments", "")); err != nil {
		return nil, err
	}
	all, err := s.enrollments(ctx, r.GetState())
	if err != nil {
		return nil, err
	}
	page, next, err := paginate(all, r.GetPageSize(), r.GetPageToken(), (*adminv1.Enrollment).GetEnrollmentId)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListEnrollmentsResponse{Enrollments: page, NextPageToken: next}, nil
}

func (s *Service) enrollments(ctx context.Context, state string) ([]*adminv1.Enrollment, error) {
	all, err := s.Enrollments.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*adminv1.Enrollment, 0, len(all))
	for _, e := range all {
		if state == "" || strings.EqualFold(state, e.GetState()) {
			out = append(out, e)
		}
	}
	return out, nil
}

// WatchEnrollments follows enrollments; see EnrollmentAdminService.
func (s enrollmentService) WatchEnrollments(r *adminv1.WatchEnrollmentsRequest, stream grpc.ServerStreamingServer[adminv1.WatchEnrollmentsResponse]) error {
	return poll(stream.Context(), s.Service, virtual("watch", "enrollments", ""), poller[*adminv1.Enrollment]{
		list: func(ctx context.Context) ([]*adminv1.Enrollment, error) { return s.enrollments(ctx, r.GetState()) },
		key:  (*adminv1.Enrollment).GetEnrollmentId,
		view: func(e *adminv1.Enrollment) proto.Message { return e },
		upsert: func(e *adminv1.Enrollment) error {
			return stream.Send(&adminv1.WatchEnrollmentsResponse{Event: &adminv1.WatchEnrollmentsResponse_Upsert{Upsert: e}})
		},
		removed: func(id string) error {
			return stream.Send(&adminv1.WatchEnrollmentsResponse{Event: &adminv1.WatchEnrollmentsResponse_Removed{Removed: id}})
		},
		synced: func() error {
			return stream.Send(&adminv1.WatchEnrollmentsResponse{Event: &adminv1.WatchEnrollmentsResponse_Bookmark{Bookmark: &adminv1.Bookmark{InitialSyncComplete: true}}})
		},
	})
}

// AcceptEnrollment is the hub's opt-in: it needs the pairing code of the very
// key, and is carried out with the caller's own token. After a certificate was
// cloned it needs the serial number of the one that is the agent's.
func (s enrollmentService) AcceptEnrollment(ctx context.Context, r *adminv1.AcceptEnrollmentRequest) (*adminv1.AcceptEnrollmentResponse, error) {
	if r.GetCertificateSerial() != "" {
		return s.vouch(ctx, r)
	}
	code := identity.NormalizePairingCode(r.GetPairingCode())
	if code == "" {
		return nil, fail(codes.InvalidArgument, reason.PairingCodeMismatch, "pairing code %q is not of the form XXXX-XXXX-XXXX: copy the one that the agent shows", r.GetPairingCode())
	}
	who, name, err := s.authorize(ctx, acceptAccess(r.GetClusterName()))
	if err != nil {
		return nil, err
	}
	enrollment, err := s.withCode(ctx, r.GetEnrollmentId(), r.GetClusterName(), code)
	if err != nil {
		return nil, err
	}
	if err := s.Enrollments.Accept(ctx, who.Config, enrollment.GetEnrollmentId(), code, name); err != nil {
		return nil, err
	}
	s.audit(ctx, deed{action: "AcceptEnrollment", actor: name, cluster: enrollment.GetClusterName(), before: enrollment.GetState(), after: "Accepted"},
		"enrollment", enrollment.GetEnrollmentId(), "pairingCode", code)
	after, err := s.withCode(ctx, enrollment.GetEnrollmentId(), "", code)
	if err != nil {
		return nil, err
	}
	return &adminv1.AcceptEnrollmentResponse{Enrollment: after}, nil
}

// vouch decides which of two holders of a cluster's certificates is its agent.
func (s enrollmentService) vouch(ctx context.Context, r *adminv1.AcceptEnrollmentRequest) (*adminv1.AcceptEnrollmentResponse, error) {
	if r.GetPairingCode() != "" {
		return nil, fail(codes.InvalidArgument, reason.InvalidArgument, "give a pairing code, for a cluster that asks to join, or a serial, for one whose certificate was cloned; not both")
	}
	who, name, err := s.authorize(ctx, acceptAccess(r.GetClusterName()))
	if err != nil {
		return nil, err
	}
	found, err := s.named(ctx, r.GetEnrollmentId(), r.GetClusterName())
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(found, func(e *adminv1.Enrollment) bool { return e.GetReason() == reason.CertificateClone })
	if at < 0 {
		return nil, fail(codes.FailedPrecondition, reason.EnrollmentEnded, "no certificate of cluster %q waits for a decision; «fairlead get enrollments %s» shows what is", found[0].GetClusterName(), found[0].GetClusterName())
	}
	id := found[at].GetEnrollmentId()
	if err := s.Enrollments.Vouch(ctx, who.Config, id, r.GetCertificateSerial()); err != nil {
		return nil, err
	}
	s.audit(ctx, deed{action: "AcceptEnrollment", actor: name, cluster: found[at].GetClusterName(), before: found[at].GetState(), after: "Active"},
		"enrollment", id, "serial", r.GetCertificateSerial())
	after, err := s.named(ctx, id, "")
	if err != nil {
		return nil, err
	}
	return &adminv1.AcceptEnrollmentResponse{Enrollment: after[0]}, nil
}

// acceptAccess is OCM's own permission for accepting a cluster (WH-09).
func acceptAccess(cluster string) authorizationv1.ResourceAttributes {
	return authorizationv1.ResourceAttributes{
		Verb: "update", Group: identity.RegisterGroup, Resource: "managedclusters", Subresource: "accept", Name: cluster,
	}
}

// named lists the enrollments that a request can mean: by id, by cluster, or by
// both, and then both have to fit, because rights go by the cluster's name.
func (s *Service) named(ctx context.Context, id, cluster string) ([]*adminv1.Enrollment, error) {
	if id == "" && cluster == "" {
		return nil, fail(codes.InvalidArgument, reason.InvalidArgument, "name the cluster, or the enrollment by its id: «fairlead get enrollments» lists them")
	}
	all, err := s.enrollments(ctx, "")
	if err != nil {
		return nil, err
	}
	fits := func(e *adminv1.Enrollment) bool {
		return (id == "" || e.GetEnrollmentId() == id) && (cluster == "" || e.GetClusterName() == cluster)
	}
	found := slices.DeleteFunc(all, func(e *adminv1.Enrollment) bool { return !fits(e) })
	if len(found) == 0 {
		return nil, fail(codes.NotFound, reason.EnrollmentNotFound, "no enrollment%s%s: list them with «fairlead get enrollments»", quoted(" ", id), quoted(" of cluster ", cluster))
	}
	return found, nil
}

// withCode picks, where several keys ask for one name, the one whose pairing
// code the person has seen.
func (s *Service) withCode(ctx context.Context, id, cluster, code string) (*adminv1.Enrollment, error) {
	found, err := s.named(ctx, id, cluster)
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		if e.GetPairingCode() == code {
			return e, nil
		}
	}
	return nil, fail(codes.FailedPrecondition, reason.PairingCodeMismatch,
		"cluster %q has no enrollment with this pairing code: compare it with what the agent shows; a foreign code means that someone else used the token", found[0].GetClusterName())
}

// waiting picks the one enrollment that can be denied. Which of several is meant
// is for the person to say.
func (s *Service) waiting(ctx context.Context, id, cluster string) (*adminv1.Enrollment, error) {
	found, err := s.named(ctx, id, cluster)
	if err != nil || id != "" {
		return first(found), err
	}
	pending := slices.DeleteFunc(found, func(e *adminv1.Enrollment) bool { return !strings.EqualFold(e.GetState(), "Pending") })
	switch len(pending) {
	case 0:
		return nil, fail(codes.FailedPrecondition, reason.EnrollmentEnded, "no enrollment of cluster %q waits for a decision; «fairlead revoke %s» takes an acceptance back", cluster, cluster)
	case 1:
		return pending[0], nil
	}
	var ids []string
	for _, e := range pending {
		ids = append(ids, e.GetEnrollmentId())
	}
	return nil, fail(codes.FailedPrecondition, reason.InvalidArgument, "%d keys ask to join as %q: say which with --enrollment: %s", len(ids), cluster, strings.Join(ids, ", "))
}

func first(found []*adminv1.Enrollment) *adminv1.Enrollment {
	if len(found) == 0 {
		return nil
	}
	return found[0]
}

func quoted(before, text string) string {
	if text == "" {
		return ""
	}
	return before + strconv.Quote(text)
}

// DenyEnrollment refuses an enrollment; its agent is told why.
func (s enrollmentService) DenyEnrollment(ctx context.Context, r *adminv1.DenyEnrollmentRequest) (*adminv1.DenyEnrollmentResponse, error) {
	who, name, err := s.authorize(ctx, virtual("update", "enrollments", r.GetEnrollmentId()))
	if err != nil {
		return nil, err
	}
	enrollment, err := s.waiting(ctx, r.GetEnrollmentId(), r.GetClusterName())
	if err != nil {
		return nil, err
	}
	if err := s.Enrollments.Deny(ctx, who.Config, enrollment.GetEnrollmentId(), r.GetReason(), name); err != nil {
		return nil, err
	}
	s.audit(ctx, deed{action: "DenyEnrollment", actor: name, cluster: enrollment.GetClusterName(), before: enrollment.GetState(), after: "Denied"},
		"enrollment", enrollment.GetEnrollmentId(), "pairingCode", enrollment.GetPairingCode(), "reason", r.GetReason())
	return &adminv1.DenyEnrollmentResponse{}, nil
}

// timestamp is nil for the zero time.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
