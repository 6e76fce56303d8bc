// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

func TestListSessions(t *testing.T) {
	f := newFace(t)
	f.with(func(r *rooms) {
		for i := range 5 {
			r.sessions = append(r.sessions, &adminv1.SessionInfo{ClusterName: fmt.Sprintf("c%d", 4-i), SessionId: fmt.Sprintf("s%d", i)})
		}
	})
	_, err := f.Clusters.ListSessions(f.as(t, "no-sessions", "", works()), &adminv1.ListSessionsRequest{})
	requireReason(t, err, codes.PermissionDenied, reason.PermissionDenied)
	ctx := f.as(t, "sessions", "", rule("fairlead.dev", "sessions", "list"))
	var names []string
	for request := (&adminv1.ListSessionsRequest{PageSize: 2}); ; {
		answer, err := f.Clusters.ListSessions(ctx, request)
		require.NoError(t, err)
		for _, s := range answer.GetSessions() {
			names = append(names, s.GetClusterName())
		}
		if request.PageToken = answer.GetNextPageToken(); request.GetPageToken() == "" {
			break
		}
	}
	require.Equal(t, []string{"c0", "c1", "c2", "c3", "c4"}, names)
	one, err := f.Clusters.ListSessions(ctx, &adminv1.ListSessionsRequest{ClusterName: "c3"})
	require.NoError(t, err)
	require.Len(t, one.GetSessions(), 1)
}

func TestKickSession(t *testing.T) {
	f := newFace(t)
	f.with(func(r *rooms) {
		r.sessions = []*adminv1.SessionInfo{{ClusterName: "c1", SessionId: "s1", HubReplica: "r1"}, {ClusterName: "c2", SessionId: "s2", HubReplica: "r2"}}
	})
	onlyC1 := rule("fairlead.dev", "sessions", "delete")
	onlyC1.ResourceNames = []string{"c1"}
	ctx := f.as(t, "kicks-c1", "", onlyC1)
	for name, request := range map[string]*adminv1.KickSessionRequest{
		"another cluster": {ClusterName: "c2"},
		"by id only":      {SessionId: "s2"},
	} {
		_, err := f.Clusters.KickSession(ctx, request)
		requireReason(t, err, codes.PermissionDenied, reason.PermissionDenied)
		require.Empty(t, f.did(), name)
	}
	_, err := f.Clusters.KickSession(ctx, &adminv1.KickSessionRequest{})
	requireReason(t, err, codes.InvalidArgument, reason.InvalidArgument)
	_, err = f.Clusters.KickSession(ctx, &adminv1.KickSessionRequest{ClusterName: "c1", SessionId: "s2"})
	requireReason(t, err, codes.NotFound, reason.NotFound)
	require.Empty(t, f.did())
	answer, err := f.Clusters.KickSession(ctx, &adminv1.KickSessionRequest{ClusterName: "c1"})
	require.NoError(t, err)
	require.Equal(t, "r1", answer.GetHubReplica())
	require.Equal(t, []string{"kick c1 s1"}, f.did())
	require.Contains(t, f.log.String(), `"action":"KickSession","actor":"system:serviceaccount:people:kicks-c1","cluster":"c1"`)
}

func TestRevokeCluster(t *testing.T) {
	f := newFace(t)
	name := f.cluster(t, "revoke")
	patches := rule("cluster.open-cluster-management.io", "managedclusters", "patch")
	_, err := f.Clusters.RevokeCluster(f.as(t, "only-patches", "", patches), &adminv1.RevokeClusterRequest{Name: name})
	requireReason(t, err, codes.PermissionDenied, reason.PermissionDenied)
	_, err = f.Clusters.RevokeCluster(f.as(t, "only-accepts", "", accepts()), &adminv1.RevokeClusterRequest{Name: name})
	requireReason(t, err, codes.PermissionDenied, reason.PermissionDenied)

	ctx := f.as(t, "revoker", "", patches, accepts())
	_, err = f.Clusters.RevokeCluster(ctx, &adminv1.RevokeClusterRequest{Name: name, Uid: "another"})
	requireReason(t, err, codes.FailedPrecondition, reason.UIDMismatch)
	_, err = f.Clusters.RevokeCluster(ctx, &adminv1.RevokeClusterRequest{Name: "nobody"})
	requireReason(t, err, codes.NotFound, reason.NotFound)
	cluster, err := f.clusters.ClusterV1().ManagedClusters().Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	require.True(t, cluster.Spec.HubAcceptsClient, "nothing was written so far")

	answer, err := f.Clusters.RevokeCluster(ctx, &adminv1.RevokeClusterRequest{Name: name, Uid: string(cluster.UID), Reason: "lost"})
	require.NoError(t, err)
	require.Empty(t, answer.GetReplicasSilent())
	cluster, err = f.clusters.ClusterV1().ManagedClusters().Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	require.False(t, cluster.Spec.HubAcceptsClient)
	events, err := f.plane.AuditEvents(func(e *auditv1.Event) bool {
		return e.ObjectRef != nil && e.ObjectRef.Name == name && e.Verb == "patch" && e.ResponseStatus.Code == 200
	})
	require.NoError(t, err)
	require.Len(t, events, 1)
	require.Equal(t, "system:serviceaccount:people:revoker", events[0].User.Username)
	require.Contains(t, f.log.String(), `"action":"RevokeCluster","actor":"system:serviceaccount:people:revoker","cluster":"`+name+`","before":"unknown","after":"hubAcceptsClient=false","reason":"lost"`)
}
