// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

func TestTokensNeedTheirPermission(t *testing.T) {
	f := newFace(t)
	ctx := f.as(t, "tokens", "", rule("fairlead.dev", "jointokens", "create", "list"))
	for name, request := range map[string]*adminv1.CreateJoinTokenRequest{
		"auto-accept": {ClusterName: "c", AutoAccept: true},
		"re-enroll":   {ClusterName: "c", ReEnroll: true},
	} {
		_, err := f.Enrollments.CreateJoinToken(ctx, request)
		requireReason(t, err, codes.PermissionDenied, reason.PermissionDenied)
		require.ErrorContains(t, err, "jointokens/", name)
	}
	answer, err := f.Enrollments.CreateJoinToken(ctx, &adminv1.CreateJoinTokenRequest{ClusterName: "c"})
	require.NoError(t, err)
	require.Equal(t, "flj1_x", answer.GetJoinString())
	list, err := f.Enrollments.ListJoinTokens(ctx, &adminv1.ListJoinTokensRequest{})
	require.NoError(t, err)
	require.Equal(t, "system:serviceaccount:people:tokens", list.GetTokens()[0].GetCreatedBy())
	_, err = f.Enrollments.RevokeJoinToken(ctx, &adminv1.RevokeJoinTokenRequest{TokenId: "t0"})
	requireReason(t, err, codes.PermissionDenied, reason.PermissionDenied)
	require.Empty(t, f.did())

	_, err = f.Enrollments.ListJoinTokens(t.Context(), &adminv1.ListJoinTokensRequest{})
	requireReason(t, err, codes.Unauthenticated, reason.Unauthenticated)
	_, err = f.Enrollments.ListJoinTokens(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer nonsense"), &adminv1.ListJoinTokensRequest{})
	requireReason(t, err, codes.Unauthenticated, reason.Unauthenticated)
}

func TestTokensWithAllPermissions(t *testing.T) {
	f := newFace(t)
	ctx := f.as(t, "all-tokens", "", rule("fairlead.dev", "*", "*"))
	answer, err := f.Enrollments.CreateJoinToken(ctx, &adminv1.CreateJoinTokenRequest{ClusterName: "c", ReEnroll: true, AutoAccept: true})
	require.NoError(t, err)
	list, err := f.Enrollments.ListJoinTokens(ctx, &adminv1.ListJoinTokensRequest{})
	require.NoError(t, err)
	require.True(t, list.GetTokens()[0].GetReEnroll())
	require.True(t, list.GetTokens()[0].GetAutoAccept())
	_, err = f.Enrollments.RevokeJoinToken(ctx, &adminv1.RevokeJoinTokenRequest{TokenId: answer.GetTokenId()})
	require.NoError(t, err)
	require.Equal(t, []string{"revoke t0"}, f.did())
	require.Contains(t, f.log.String(), `"action":"RevokeJoinToken","actor":"system:serviceaccount:people:all-tokens","cluster":"","before":"valid","after":"revoked","tokenId":"t0"`)
}

func twoKeys() []*adminv1.Enrollment {
	return []*adminv1.Enrollment{
		{EnrollmentId: "c-1", ClusterName: "c", PairingCode: "AAAA-BBBB-CCCC", State: "Pending"},
		{EnrollmentId: "c-2", ClusterName: "c", PairingCode: "DDDD-EEEE-FFFF", State: "Pending"},
		{EnrollmentId: "d-1", ClusterName: "d", PairingCode: "HHHH-HHHH-HHHH", State: "Active"},
		{EnrollmentId: "d-2", ClusterName: "d", PairingCode: "IIII-IIII-IIII", State: "Pending"},
	}
}

func TestAcceptNeedsTheCodeOfTheKey(t *testing.T) {
	f := newFace(t)
	f.with(func(r *rooms) { r.enrollments = twoKeys() })
	ctx := f.as(t, "acceptor", "", accepts())
	cases := map[string]struct {
		reason  string
		request *adminv1.AcceptEnrollmentRequest
		code    codes.Code
		why     string
	}{
		"short":   {"no code at all", &adminv1.AcceptEnrollmentRequest{ClusterName: "c", PairingCode: "short"}, codes.InvalidArgument, reason.PairingCodeMismatch},
		"foreign": {"T65: a code of no key", &adminv1.AcceptEnrollmentRequest{ClusterName: "c", PairingCode: "GGGG-GGGG-GGGG"}, codes.FailedPrecondition, reason.PairingCodeMismatch},
		"another": {"the code of another cluster's key", &adminv1.AcceptEnrollmentRequest{ClusterName: "d", PairingCode: "AAAA-BBBB-CCCC"}, codes.FailedPrecondition, reason.PairingCodeMismatch},
		"by id":   {"the id of one key, the code of another", &adminv1.AcceptEnrollmentRequest{EnrollmentId: "c-1", PairingCode: "DDDD-EEEE-FFFF"}, codes.FailedPrecondition, reason.PairingCodeMismatch},
		"unknown": {"nobody asked to join so", &adminv1.AcceptEnrollmentRequest{ClusterName: "other", PairingCode: "AAAA-BBBB-CCCC"}, codes.NotFound, reason.EnrollmentNotFound},
		"nobody":  {"no name", &adminv1.AcceptEnrollmentRequest{PairingCode: "AAAA-BBBB-CCCC"}, codes.InvalidArgument, reason.InvalidArgument},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := f.Enrollments.AcceptEnrollment(ctx, tc.request)
			requireReason(t, err, tc.code, tc.why)
		})
	}
	require.Empty(t, f.did())
	answer, err := f.Enrollments.AcceptEnrollment(ctx, &adminv1.AcceptEnrollmentRequest{ClusterName: "c", PairingCode: "ddddeeeeffff"})
	require.NoError(t, err)
	require.Equal(t, "c-2", answer.GetEnrollment().GetEnrollmentId())
	require.Equal(t, []string{"accept c-2 DDDD-EEEE-FFFF by system:serviceaccount:people:acceptor"}, f.did())
}

// TestAcceptGoesByTheRightsOnThatCluster has a person who may accept c only name
// c together with the enrollment of d.
func TestAcceptGoesByTheRightsOnThatCluster(t *testing.T) {
	f := newFace(t)
	f.with(func(r *rooms) { r.enrollments = twoKeys() })
	onlyC := accepts()
	onlyC.ResourceNames = []string{"c"}
	ctx := f.as(t, "accepts-c", "", onlyC)
	for name, request := range map[string]*adminv1.AcceptEnrollmentRequest{
		"by name":  {ClusterName: "d", PairingCode: "IIII-IIII-IIII"},
		"by id":    {EnrollmentId: "d-2", PairingCode: "IIII-IIII-IIII"},
		"smuggled": {ClusterName: "c", EnrollmentId: "d-2", PairingCode: "IIII-IIII-IIII"},
	} {
		_, err := f.Enrollments.AcceptEnrollment(ctx, request)
		require.Error(t, err, name)
	}
	require.Empty(t, f.did())
	_, err := f.Enrollments.AcceptEnrollment(ctx, &adminv1.AcceptEnrollmentRequest{ClusterName: "c", EnrollmentId: "c-1", PairingCode: "AAAA-BBBB-CCCC"})
	require.NoError(t, err)
	require.Len(t, f.did(), 1)
}

// TestT66_accept_by_serial decides after a certificate was cloned.
func TestT66_accept_by_serial(t *testing.T) {
	f := newFace(t)
	f.with(func(r *rooms) {
		r.enrollments = twoKeys()
		r.enrollments = append(r.enrollments, &adminv1.Enrollment{EnrollmentId: "k-1", ClusterName: "k", State: "Revoked", Reason: reason.CertificateClone})
	})
	onlyK := accepts()
	onlyK.ResourceNames = []string{"k"}
	ctx := f.as(t, "accepts-k", "", onlyK)
	for name, request := range map[string]*adminv1.AcceptEnrollmentRequest{
		"another cluster": {ClusterName: "c", CertificateSerial: "5d"},
		"by id":           {EnrollmentId: "k-1", CertificateSerial: "5d"},
		"both":            {ClusterName: "k", CertificateSerial: "5d", PairingCode: "AAAA-BBBB-CCCC"},
	} {
		_, err := f.Enrollments.AcceptEnrollment(ctx, request)
		require.Error(t, err, name)
	}
	_, err := f.Enrollments.AcceptEnrollment(f.as(t, "accepts-all", "", accepts()), &adminv1.AcceptEnrollmentRequest{ClusterName: "c", CertificateSerial: "5d"})
	requireReason(t, err, codes.FailedPrecondition, reason.EnrollmentEnded)
	require.Empty(t, f.did())
	answer, err := f.Enrollments.AcceptEnrollment(ctx, &adminv1.AcceptEnrollmentRequest{ClusterName: "k", CertificateSerial: "5d"})
	require.NoError(t, err)
	require.Equal(t, "k-1", answer.GetEnrollment().GetEnrollmentId())
	require.Equal(t, []string{"vouch k-1 5d"}, f.did())
}

func TestDenyNeedsToKnowWhichKey(t *testing.T) {
	f := newFace(t)
	f.with(func(r *rooms) { r.enrollments = twoKeys() })
	ctx := f.as(t, "denier", "", rule("fairlead.dev", "enrollments", "update"))
	_, err := f.Enrollments.DenyEnrollment(ctx, &adminv1.DenyEnrollmentRequest{ClusterName: "c"})
	requireReason(t, err, codes.FailedPrecondition, reason.InvalidArgument)
	require.ErrorContains(t, err, "c-1, c-2")
	_, err = f.Enrollments.DenyEnrollment(ctx, &adminv1.DenyEnrollmentRequest{ClusterName: "d", EnrollmentId: "c-1"})
	requireReason(t, err, codes.NotFound, reason.EnrollmentNotFound)
	require.Empty(t, f.did())
	_, err = f.Enrollments.DenyEnrollment(ctx, &adminv1.DenyEnrollmentRequest{ClusterName: "d", Reason: "not ours"})
	require.NoError(t, err)
	require.Equal(t, []string{`deny d-2 "not ours" by system:serviceaccount:people:denier`}, f.did(), "the one that waits, not the one in use")
	f.with(func(r *rooms) { r.enrollments = r.enrollments[2:3] })
	_, err = f.Enrollments.DenyEnrollment(ctx, &adminv1.DenyEnrollmentRequest{ClusterName: "d"})
	requireReason(t, err, codes.FailedPrecondition, reason.EnrollmentEnded)
}
