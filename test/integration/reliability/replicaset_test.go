// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
)

// TestReplicaSet_follows_the_placement: a label is all that decides whether a
// cluster has the work, from the placement through the replica set and the agent
// to the spoke and, in the set's status, back.
func TestReplicaSet_follows_the_placement(t *testing.T) {
	t.Parallel()
	const cluster, namespace, name = "chosen", "apps", "follows"
	w := sharedWorld(t)
	w.join(cluster)
	w.replicaSet(namespace, name)
	label := func(tier string) {
		t.Helper()
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"tier":%s}}}`, tier)
		_, err := w.clusters.ClusterV1().ManagedClusters().Patch(t.Context(), cluster, types.MergePatchType, patch, metav1.PatchOptions{})
		require.NoError(t, err)
	}
	w.counts(namespace, name, workv1alpha1.ManifestWorkReplicaSetSummary{})
	require.NotContains(t, w.explains(namespace, name), cluster)

	label(`"prod"`)
	w.until("the work on the spoke", func(ctx context.Context) (bool, error) {
		_, err := w.kube.CoreV1().ConfigMaps("default").Get(ctx, name, metav1.GetOptions{})
		return err == nil, err
	})
	w.counts(namespace, name, workv1alpha1.ManifestWorkReplicaSetSummary{Total: 1, DesiredTotal: 1, Applied: 1, Available: 1, Updated: 1})
	works := w.worksOf(cluster)
	require.Len(t, works, 1)
	row := cluster + ` +prod +Succeeded +[0-9]+s +` + works[0]
	require.Regexp(t, `placement "prod": 1 of 1 clusters succeeded\n(.+\n)*`+row, w.explains(namespace, name))

	label("null")
	w.until("the work gone from the spoke and the hub", func(ctx context.Context) (bool, error) {
		_, err := w.kube.CoreV1().ConfigMaps("default").Get(ctx, name, metav1.GetOptions{})
		works := w.worksOf(cluster)
		return apierrors.IsNotFound(err) && len(works) == 0, fmt.Errorf("the spoke's ConfigMap: %w; works %v", err, works)
	})
	w.counts(namespace, name, workv1alpha1.ManifestWorkReplicaSetSummary{})
}

// replicaSet makes a replica set for the clusters of the default set that have
// label tier=prod.
func (w *world) replicaSet(namespace, name string) {
	w.t.Helper()
	ctx := w.t.Context()
	w.bind(namespace)
	_, err := w.clusters.ClusterV1beta1().Placements(namespace).Create(ctx, &clusterv1beta1.Placement{
		ObjectMeta: metav1.ObjectMeta{Name: "prod"},
		Spec: clusterv1beta1.PlacementSpec{Predicates: []clusterv1beta1.ClusterPredicate{{RequiredClusterSelector: clusterv1beta1.ClusterSelector{
			LabelSelector: metav1.LabelSelector{MatchLabels: map[string]string{"tier": "prod"}},
		}}}},
	}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	_, err = w.works.WorkV1alpha1().ManifestWorkReplicaSets(namespace).Create(ctx, &workv1alpha1.ManifestWorkReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: workv1alpha1.ManifestWorkReplicaSetSpec{
			PlacementRefs:        []workv1alpha1.LocalPlacementReference{{Name: "prod"}},
			ManifestWorkTemplate: workv1.ManifestWorkSpec{Workload: workv1.ManifestsTemplate{Manifests: []workv1.Manifest{configMap(name, "1")}}},
		},
	}, metav1.CreateOptions{})
	require.NoError(w.t, err)
}

// counts waits until a set's status is of its current generation and has these.
func (w *world) counts(namespace, name string, want workv1alpha1.ManifestWorkReplicaSetSummary) {
	w.t.Helper()
	w.until(fmt.Sprintf("the counts of %s/%s to be %+v", namespace, name, want), func(ctx context.Context) (bool, error) {
		set, err := w.works.WorkV1alpha1().ManifestWorkReplicaSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		status := set.Status
		seen := len(status.Conditions) > 0 && status.Conditions[0].ObservedGeneration == set.Generation
		return seen && status.Summary == want, fmt.Errorf("status %+v", status)
	})
}

// explains is what the CLI says of a set.
func (w *world) explains(namespace, name string) string {
	w.t.Helper()
	out, err := w.hub.CLI(w.t.Context(), "explain", "replicaset", namespace+"/"+name, "-o", "wide")
	require.NoError(w.t, err)
	return out
}

// worksOf names the works of a cluster.
func (w *world) worksOf(cluster string) []string {
	w.t.Helper()
	list, err := w.works.WorkV1().ManifestWorks(cluster).List(w.t.Context(), metav1.ListOptions{})
	require.NoError(w.t, err)
	works := make([]string, 0, len(list.Items))
	for i := range list.Items {
		works = append(works, list.Items[i].Name)
	}
	return works
}
