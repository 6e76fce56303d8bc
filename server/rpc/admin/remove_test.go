// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	workclient "open-cluster-management.io/api/client/work/clientset/versioned"
	workv1 "open-cluster-management.io/api/work/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
)

func TestDeleteCluster(t *testing.T) {
	f := newFace(t)
	name := f.cluster(t, "delete")
	patch := []byte(`{"metadata":{"finalizers":["test.fairlead.dev/waits"]}}`)
	clusters := f.clusters.ClusterV1().ManagedClusters()
	_, err := clusters.Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	deletes := rule("cluster.open-cluster-management.io", "managedclusters", "delete", "get")
	_, err = f.Clusters.DeleteCluster(f.as(t, "deletes-nothing", "", works()), &adminv1.DeleteClusterRequest{Name: name})
	requireReason(t, err, codes.PermissionDenied, reason.PermissionDenied)
	ctx := f.as(t, "deleter", "", deletes)
	_, err = f.Clusters.DeleteCluster(ctx, &adminv1.DeleteClusterRequest{Name: name, Uid: "another"})
	requireReason(t, err, codes.Aborted, reason.Conflict)
	_, err = f.Clusters.DeleteCluster(ctx, &adminv1.DeleteClusterRequest{Name: "nobody"})
	requireReason(t, err, codes.NotFound, reason.NotFound)
	_, err = f.Clusters.DeleteCluster(ctx, &adminv1.DeleteClusterRequest{Name: name, Force: true, Confirm: name})
	requireReason(t, err, codes.PermissionDenied, reason.PermissionDenied)
	cluster, err := clusters.Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	require.Nil(t, cluster.DeletionTimestamp, "nothing was done so far")

	_, err = f.Clusters.DeleteCluster(ctx, &adminv1.DeleteClusterRequest{Name: name, Uid: string(cluster.UID), Reason: "moved"})
	require.NoError(t, err)
	answer, err := f.Clusters.GetCluster(ctx, &adminv1.GetClusterRequest{Name: name})
	require.NoError(t, err)
	require.NotNil(t, answer.GetCluster().GetDeleted())
	require.Contains(t, f.log.String(), `"action":"DeleteCluster","actor":"system:serviceaccount:people:deleter","cluster":"`+name+`","before":"registered","after":"to be removed","reason":"moved","force":false`)
}

func TestDeleteClusterByForce(t *testing.T) {
	f := newFace(t)
	name := f.cluster(t, "force")
	api, err := workclient.NewForConfig(f.plane.RESTConfig())
	require.NoError(t, err)
	work := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Name: "w", Namespace: name, Finalizers: []string{identity.ManifestWorkFinalizer, "test.fairlead.dev/other"}}}
	work, err = api.WorkV1().ManifestWorks(name).Create(t.Context(), work, metav1.CreateOptions{})
	require.NoError(t, err)
	work.Status.ResourceStatus.Manifests = []workv1.ManifestCondition{{ResourceMeta: workv1.ManifestResourceMeta{Version: "v1", Kind: "Secret", Namespace: "shop", Name: "s"}, Conditions: []metav1.Condition{}}}
	_, err = api.WorkV1().ManifestWorks(name).UpdateStatus(t.Context(), work, metav1.UpdateOptions{})
	require.NoError(t, err)
	ctx := f.as(t, "forcer", "", rule("cluster.open-cluster-management.io", "managedclusters", "delete"), works())
	request := &adminv1.DeleteClusterRequest{Name: name, Force: true, Confirm: name}

	f.with(func(r *rooms) { r.sessions = []*adminv1.SessionInfo{{ClusterName: name, SessionId: "s"}} })
	_, err = f.Clusters.DeleteCluster(ctx, request)
	requireReason(t, err, codes.FailedPrecondition, reason.ClusterConnected)
	f.with(func(r *rooms) { r.sessions = nil })
	_, err = f.Clusters.DeleteCluster(ctx, &adminv1.DeleteClusterRequest{Name: name, Force: true, Confirm: "another"})
	requireReason(t, err, codes.InvalidArgument, reason.InvalidArgument)
	answer, err := f.Clusters.DeleteCluster(ctx, &adminv1.DeleteClusterRequest{Name: name, Force: true, DryRun: true})
	require.NoError(t, err)
	require.Equal(t, []string{"v1, Secret shop/s"}, answer.GetLeftBehind()[0].GetResources())
	cluster, err := f.clusters.ClusterV1().ManagedClusters().Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err, "it is there")
	require.Nil(t, cluster.DeletionTimestamp)

	_, err = f.Clusters.DeleteCluster(ctx, request)
	require.NoError(t, err)
	_, err = f.clusters.ClusterV1().ManagedClusters().Get(t.Context(), name, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	work, err = api.WorkV1().ManifestWorks(name).Get(t.Context(), "w", metav1.GetOptions{})
	require.NoError(t, err)
	require.NotNil(t, work.DeletionTimestamp)
	require.Equal(t, []string{"test.fairlead.dev/other"}, work.Finalizers, "those of others stay")
	require.Contains(t, f.log.String(), `"action":"DeleteCluster","actor":"system:serviceaccount:people:forcer"`)
	_, err = f.Clusters.DeleteCluster(ctx, request)
	require.NoError(t, err, "again, also when the cluster is gone")
}
