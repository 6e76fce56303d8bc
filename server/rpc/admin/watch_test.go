// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// next receives from a watch, which a test bounds by its context.
func next[T any](t *testing.T, stream grpc.ServerStreamingClient[T]) *T {
	t.Helper()
	event, err := stream.Recv()
	require.NoError(t, err)
	return event
}

func bounded(t *testing.T, ctx context.Context) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestWatchWorksShape(t *testing.T) {
	f := newFace(t)
	cluster := f.cluster(t, "watch")
	ctx := bounded(t, f.as(t, "watcher", "", works(), looks()))
	apply := func(name string, size int) {
		_, err := f.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: name, WorkJson: workJSON(manifest("a", size))})
		require.NoError(t, err)
	}
	apply("w", 1)
	apply("other", 1)
	stream, err := f.Works.WatchWorks(ctx, &adminv1.WatchWorksRequest{ClusterName: cluster, Name: "w"})
	require.NoError(t, err)
	require.Equal(t, "w", next(t, stream).GetUpsert().GetRef().GetName(), "the snapshot")
	require.True(t, next(t, stream).GetBookmark().GetInitialSyncComplete())
	apply("w", 2)
	require.Contains(t, next(t, stream).GetUpsert().GetWorkJson(), `"generation":2`)
	_, err = f.Works.DeleteWork(ctx, &adminv1.DeleteWorkRequest{ClusterName: cluster, Name: "w"})
	require.NoError(t, err)
	require.Contains(t, next(t, stream).GetUpsert().GetWorkJson(), "deletionTimestamp", "our finalizer keeps it")
	_, err = f.kube.CoreV1().RESTClient().Patch("application/merge-patch+json").AbsPath("/apis/work.open-cluster-management.io/v1/namespaces/" + cluster + "/manifestworks/w").
		Body([]byte(`{"metadata":{"finalizers":null}}`)).DoRaw(ctx)
	require.NoError(t, err)
	require.Equal(t, "w", next(t, stream).GetRemoved().GetName())
}

func TestWatchClustersShape(t *testing.T) {
	f := newFace(t)
	cluster := f.cluster(t, "watch-c")
	ends := timestamppb.New(time.Now().Add(time.Hour))
	f.with(func(r *rooms) {
		r.enrollments = []*adminv1.Enrollment{
			{EnrollmentId: "old", ClusterName: cluster, CertificateExpires: timestamppb.New(time.Unix(1, 0))},
			{EnrollmentId: "new", ClusterName: cluster, CertificateExpires: ends, CertificateSerial: "1f"},
			{EnrollmentId: "oldest", ClusterName: cluster, CertificateExpires: timestamppb.New(time.Unix(2, 0))},
		}
	})
	f.with(func(r *rooms) {
		r.sessions = []*adminv1.SessionInfo{{ClusterName: cluster, SessionId: "s", Live: true, DirtyObjects: 2}}
	})
	label := []byte(`{"metadata":{"labels":{"watched":"yes"}}}`)
	clusters := f.clusters.ClusterV1().ManagedClusters()
	_, err := clusters.Patch(t.Context(), cluster, "application/merge-patch+json", label, metav1.PatchOptions{})
	require.NoError(t, err)
	ctx := bounded(t, f.as(t, "watches-clusters", "", looks()))
	stream, err := f.Clusters.WatchClusters(ctx, &adminv1.WatchClustersRequest{LabelSelector: "watched=yes"})
	require.NoError(t, err)
	first := next(t, stream).GetUpsert()
	require.Equal(t, cluster, first.GetName())
	require.Equal(t, ends.GetSeconds(), first.GetCertificateExpires().GetSeconds(), "of several keys the newest certificate")
	require.Equal(t, "1f", first.GetCertificateSerial())
	require.EqualValues(t, 5, first.GetWorks())
	require.EqualValues(t, 3, first.GetWorksInSync())
	require.True(t, next(t, stream).GetBookmark().GetInitialSyncComplete())
	require.NoError(t, clusters.Delete(t.Context(), cluster, metav1.DeleteOptions{}))
	require.Equal(t, cluster, next(t, stream).GetRemoved())
}

func TestWatchSessionsShape(t *testing.T) {
	f := newFace(t)
	minute := time.Unix(1_700_000_000, 0).Truncate(time.Minute)
	put := func(epoch uint64, received time.Time) {
		f.with(func(r *rooms) {
			r.sessions = []*adminv1.SessionInfo{{ClusterName: "c", SessionId: "s", SessionEpoch: epoch, LastReceived: timestamppb.New(received)}}
		})
	}
	put(1, minute)
	ctx := bounded(t, f.as(t, "watches-sessions", "", rule("fairlead.dev", "sessions", "watch")))
	stream, err := f.Clusters.WatchSessions(ctx, &adminv1.WatchSessionsRequest{ClusterName: "c"})
	require.NoError(t, err)
	require.EqualValues(t, 1, next(t, stream).GetUpsert().GetSessionEpoch())
	require.True(t, next(t, stream).GetBookmark().GetInitialSyncComplete())
	put(1, minute.Add(20*time.Second)) // a heartbeat is no news
	put(2, minute.Add(40*time.Second))
	require.EqualValues(t, 2, next(t, stream).GetUpsert().GetSessionEpoch())
	f.with(func(r *rooms) { r.sessions = nil })
	require.Equal(t, "s", next(t, stream).GetRemoved())
}

// TestWatchEndsWithTheRight takes a watcher's right away and lets a minute pass
// on the hub's clock.
func TestWatchEndsWithTheRight(t *testing.T) {
	f := newFace(t)
	f.with(func(r *rooms) { r.enrollments = twoKeys() })
	ctx := bounded(t, f.as(t, "loses-right", "", rule("fairlead.dev", "enrollments", "watch")))
	stream, err := f.Enrollments.WatchEnrollments(ctx, &adminv1.WatchEnrollmentsRequest{State: "pending"})
	require.NoError(t, err)
	for _, id := range []string{"c-1", "c-2", "d-2"} {
		require.Equal(t, id, next(t, stream).GetUpsert().GetEnrollmentId())
	}
	require.True(t, next(t, stream).GetBookmark().GetInitialSyncComplete())
	require.NoError(t, f.kube.RbacV1().ClusterRoleBindings().Delete(ctx, "test:loses-right", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { // the apiserver's own view of its rules lags a little
		review, err := f.Enrollments.WatchEnrollments(ctx, &adminv1.WatchEnrollmentsRequest{})
		require.NoError(t, err)
		_, err = review.Recv()
		return err != nil
	}, 10*time.Second, 50*time.Millisecond)
	f.later.Store(int64(2 * time.Minute))
	_, err = stream.Recv()
	requireReason(t, err, codes.PermissionDenied, reason.PermissionDenied)
}
