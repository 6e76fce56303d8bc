// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func profileOf(namespace, cluster string) *unstructured.Unstructured {
	profile := &unstructured.Unstructured{}
	profile.SetAPIVersion("multicluster.x-k8s.io/v1alpha1")
	profile.SetKind("ClusterProfile")
	profile.SetNamespace(namespace)
	profile.SetName(cluster)
	return profile
}

// awaitProfile waits for the profile of a cluster.
func (h *hub) awaitProfile(t *testing.T, namespace, cluster string) *unstructured.Unstructured {
	t.Helper()
	profile := profileOf(namespace, cluster)
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(profile), profile))
	})
	return profile
}

func (h *hub) awaitNoProfile(t *testing.T, namespace, cluster string) {
	t.Helper()
	profile := profileOf(namespace, cluster)
	eventually(t, func(c *assert.CollectT) {
		require.True(c, apierrors.IsNotFound(h.kube.Get(t.Context(), client.ObjectKeyFromObject(profile), profile)))
	})
}

func TestClusterProfiles(t *testing.T) {
	h := theHub(t)
	t.Run("RC-58_RC-59_RC-61_one_for_each_cluster", h.profile)
	t.Run("RC-60_overlap", h.overlap)
	t.Run("RC-60_the_cluster_goes", func(t *testing.T) {
		t.Parallel()
		namespace, set := h.plane.Namespace(t, "going"), h.set(t, nil)
		h.bind(t, namespace, set.Name)
		cluster := h.cluster(t, map[string]string{setLabel: set.Name})
		patch(t, h, cluster, func(c *clusterv1.ManagedCluster) { c.Finalizers = []string{"test.fairlead.dev/hold"} })
		h.awaitProfile(t, namespace, cluster.Name)
		require.NoError(t, h.kube.Delete(t.Context(), cluster))
		h.awaitNoProfile(t, namespace, cluster.Name)
		patch(t, h, cluster, func(c *clusterv1.ManagedCluster) { c.Finalizers = nil })
	})
	t.Run("RC-62_neither_terminating_nor_unbound", func(t *testing.T) {
		t.Parallel()
		namespace, set := h.plane.Namespace(t, "terminating"), h.set(t, nil)
		first := h.cluster(t, map[string]string{setLabel: set.Name})
		h.bind(t, namespace, set.Name)
		h.awaitProfile(t, namespace, first.Name)
		require.NoError(t, h.kube.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
		late := h.cluster(t, map[string]string{setLabel: set.Name})

		elsewhere, unbound := h.plane.Namespace(t, "unbound"), h.plane.Namespace(t, "later")
		h.bind(t, elsewhere, set.Name)
		h.awaitProfile(t, elsewhere, late.Name)
		h.awaitNoProfile(t, namespace, late.Name)
		h.awaitNoProfile(t, unbound, late.Name)
		require.NoError(t, h.kube.Delete(t.Context(), set))
		h.awaitNoProfile(t, elsewhere, late.Name)
	})
	t.Run("RC-59_of_another_manager", func(t *testing.T) {
		t.Parallel()
		namespace, set := h.plane.Namespace(t, "foreign"), h.set(t, nil)
		cluster := h.cluster(t, map[string]string{setLabel: set.Name})
		foreign := profileOf(namespace, cluster.Name)
		foreign.Object["spec"] = map[string]any{"displayName": "theirs", "clusterManager": map[string]any{"name": "other"}}
		require.NoError(t, h.kube.Create(t.Context(), foreign))
		version := foreign.GetResourceVersion()
		h.bind(t, namespace, set.Name)
		h.awaitProfile(t, namespace, h.cluster(t, map[string]string{setLabel: set.Name}).Name)
		require.NoError(t, h.kube.Delete(t.Context(), cluster))
		h.settle(t)
		require.NoError(t, h.kube.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign))
		require.Equal(t, version, foreign.GetResourceVersion(), "it is left alone")
	})
}

func (h *hub) profile(t *testing.T) {
	t.Parallel()
	namespace, set := h.plane.Namespace(t, "profiles"), h.set(t, nil)
	binding := h.bind(t, namespace, set.Name)
	cluster := h.cluster(t, map[string]string{setLabel: set.Name})
	profile := h.awaitProfile(t, namespace, cluster.Name)
	labels := map[string]string{"x-k8s.io/cluster-manager": "open-cluster-management", "open-cluster-management.io/cluster-name": cluster.Name, setLabel: set.Name}
	require.Equal(t, labels, profile.GetLabels())
	require.Equal(t, map[string]any{"displayName": cluster.Name, "clusterManager": map[string]any{"name": "open-cluster-management"}}, profile.Object["spec"])

	at := metav1.NewTime(time.Now().Truncate(time.Second))
	before := cluster.DeepCopy()
	cluster.Status.Version.Kubernetes = "v1.36.0"
	cluster.Status.ClusterClaims = []clusterv1.ManagedClusterClaim{{Name: "id", Value: "x"}, {Name: "zone", Value: "a"}}
	cluster.Status.Conditions = []metav1.Condition{
		{Type: clusterv1.ManagedClusterConditionJoined, Status: metav1.ConditionTrue, Reason: "J", Message: "j", LastTransitionTime: at},
		{Type: clusterv1.ManagedClusterConditionAvailable, Status: metav1.ConditionUnknown, Reason: "U", Message: "u", LastTransitionTime: at},
	}
	require.NoError(t, h.kube.Status().Patch(t.Context(), cluster, client.MergeFrom(before)))
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(profile), profile))
		status, _, _ := unstructured.NestedMap(profile.Object, "status")
		require.Equal(c, map[string]any{"kubernetes": "v1.36.0"}, status["version"])
		require.Equal(c, []any{map[string]any{"name": "id", "value": "x"}, map[string]any{"name": "zone", "value": "a"}}, status["properties"])
		when := at.UTC().Format(time.RFC3339)
		require.ElementsMatch(c, []any{
			map[string]any{"type": "Joined", "status": "True", "reason": "J", "message": "j", "lastTransitionTime": when},
			map[string]any{"type": "ControlPlaneHealthy", "status": "Unknown", "reason": "U", "message": "u", "lastTransitionTime": when},
		}, status["conditions"])
	})
	h.awaitEvent(t, "ClusterProfileStatusUpdated", cluster.Name)
	version := profile.GetResourceVersion()

	patch(t, h, profile, func(p *unstructured.Unstructured) { p.SetLabels(map[string]string{"own": "label"}) })
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(profile), profile))
		require.NotEqual(c, version, profile.GetResourceVersion())
		require.Equal(c, map[string]string{
			"own": "label", "x-k8s.io/cluster-manager": "open-cluster-management", "open-cluster-management.io/cluster-name": cluster.Name, setLabel: set.Name,
		}, profile.GetLabels(), "what was taken off comes back, and others' labels stay")
	})
	patch(t, h, profile, func(p *unstructured.Unstructured) { p.SetLabels(nil) })
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(profile), profile))
		require.Equal(c, labels, profile.GetLabels(), "even if none was left")
	})
	require.NoError(t, h.kube.Delete(t.Context(), profile))
	h.awaitProfile(t, namespace, cluster.Name)
	require.NoError(t, h.kube.Delete(t.Context(), binding))
	h.awaitNoProfile(t, namespace, cluster.Name)
}

func (h *hub) overlap(t *testing.T) {
	t.Parallel()
	namespace, region := h.plane.Namespace(t, "overlap"), h.plane.Unique("region")
	wide, exclusive := h.set(t, &metav1.LabelSelector{MatchLabels: map[string]string{"region": region}}), h.set(t, nil)
	h.bind(t, namespace, wide.Name)
	narrow := h.bind(t, namespace, exclusive.Name)
	cluster := h.cluster(t, map[string]string{"region": region, setLabel: exclusive.Name})
	first := h.awaitProfile(t, namespace, cluster.Name).GetUID()
	require.NoError(t, h.kube.Delete(t.Context(), narrow))
	h.label(t, cluster, setLabel, "")
	eventually(t, func(c *assert.CollectT) {
		profile := profileOf(namespace, cluster.Name)
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(profile), profile))
		require.Equal(c, first, profile.GetUID(), "the other set has it")
		require.NotContains(c, profile.GetLabels(), setLabel, "the clusterset label follows the cluster's")
	})
	patch(t, h, wide, func(s *clusterv1beta2.ManagedClusterSet) {
		s.Spec.ClusterSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"region": "nowhere"}}
	})
	h.awaitNoProfile(t, namespace, cluster.Name)
}
