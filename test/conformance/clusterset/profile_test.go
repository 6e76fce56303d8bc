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
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	inventoryv1alpha1 "sigs.k8s.io/cluster-inventory-api/apis/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func profileOf(namespace, cluster string) *inventoryv1alpha1.ClusterProfile {
	return &inventoryv1alpha1.ClusterProfile{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: cluster}}
}

// awaitProfile waits for the profile of a cluster.
func (h *hub) awaitProfile(t *testing.T, namespace, cluster string) *inventoryv1alpha1.ClusterProfile {
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
	t.Run("RC-61_what_a_profile_cannot_hold", h.oddClaims)
	t.Run("RC-61_how_to_reach_it_is_others_business", h.accessProviders)
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
		foreign.Spec.DisplayName, foreign.Spec.ClusterManager.Name = "theirs", "other"
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
	require.Equal(t, inventoryv1alpha1.ClusterProfileSpec{
		DisplayName: cluster.Name, ClusterManager: inventoryv1alpha1.ClusterManager{Name: "open-cluster-management"},
	}, profile.Spec)

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
		require.Equal(c, "v1.36.0", profile.Status.Version.Kubernetes)
		require.Equal(c, []inventoryv1alpha1.Property{{Name: "id", Value: "x"}, {Name: "zone", Value: "a"}}, profile.Status.Properties)
		for i := range profile.Status.Conditions {
			profile.Status.Conditions[i].LastTransitionTime = metav1.NewTime(profile.Status.Conditions[i].LastTransitionTime.Local()) //nolint:gosmopolitan // as an apiserver's answer is decoded
		}
		require.ElementsMatch(c, []metav1.Condition{
			{Type: "Joined", Status: metav1.ConditionTrue, Reason: "J", Message: "j", LastTransitionTime: at},
			{Type: "ControlPlaneHealthy", Status: metav1.ConditionUnknown, Reason: "U", Message: "u", LastTransitionTime: at},
		}, profile.Status.Conditions)
	})
	h.awaitEvent(t, "ClusterProfileStatusUpdated", cluster.Name)
	version := profile.GetResourceVersion()

	patch(t, h, profile, func(p *inventoryv1alpha1.ClusterProfile) { p.SetLabels(map[string]string{"own": "label"}) })
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(profile), profile))
		require.NotEqual(c, version, profile.GetResourceVersion())
		require.Equal(c, map[string]string{
			"own": "label", "x-k8s.io/cluster-manager": "open-cluster-management", "open-cluster-management.io/cluster-name": cluster.Name, setLabel: set.Name,
		}, profile.GetLabels(), "what was taken off comes back, and others' labels stay")
	})
	patch(t, h, profile, func(p *inventoryv1alpha1.ClusterProfile) { p.SetLabels(nil) })
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
		require.Equal(c, "default", profile.GetLabels()[setLabel], "the label follows the cluster's, which is given the default one in place of none")
	})
	patch(t, h, wide, func(s *clusterv1beta2.ManagedClusterSet) {
		s.Spec.ClusterSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"region": "nowhere"}}
	})
	h.awaitNoProfile(t, namespace, cluster.Name)
}

// oddClaims: the published kind holds each property once, with a value; OCM's claims
// need neither. One such claim must not keep all others from being shown.
func (h *hub) oddClaims(t *testing.T) {
	t.Parallel()
	namespace, set := h.plane.Namespace(t, "claims"), h.set(t, nil)
	h.bind(t, namespace, set.Name)
	cluster := h.cluster(t, map[string]string{setLabel: set.Name})
	before := cluster.DeepCopy()
	cluster.Status.ClusterClaims = []clusterv1.ManagedClusterClaim{{Name: "twice", Value: "1"}, {Name: "none"}, {Name: "twice", Value: "2"}, {Name: "zone", Value: "a"}}
	require.NoError(t, h.kube.Status().Patch(t.Context(), cluster, client.MergeFrom(before)))
	eventually(t, func(c *assert.CollectT) {
		profile := profileOf(namespace, cluster.Name)
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(profile), profile))
		require.Equal(c, []inventoryv1alpha1.Property{{Name: "twice", Value: "1"}, {Name: "zone", Value: "a"}}, profile.Status.Properties)
	})
}

// accessProviders: what another controller writes into a profile's status stays when
// the cluster's own status changes.
func (h *hub) accessProviders(t *testing.T) {
	t.Parallel()
	namespace, set := h.plane.Namespace(t, "access"), h.set(t, nil)
	h.bind(t, namespace, set.Name)
	cluster := h.cluster(t, map[string]string{setLabel: set.Name})
	profile := h.awaitProfile(t, namespace, cluster.Name)
	provider := inventoryv1alpha1.AccessProvider{Name: "kubeconfig"}
	provider.Cluster.Server = "https://c.example:6443"
	theirs := profile.DeepCopy()
	theirs.Status.AccessProviders = []inventoryv1alpha1.AccessProvider{provider}
	theirs.Status.Conditions = append(theirs.Status.Conditions, metav1.Condition{Type: "Theirs", Status: metav1.ConditionTrue, Reason: "T", LastTransitionTime: metav1.Now()})
	require.NoError(t, h.kube.Status().Patch(t.Context(), theirs, client.MergeFrom(profile)))
	before := cluster.DeepCopy()
	cluster.Status.Version.Kubernetes = "v1.37.0"
	require.NoError(t, h.kube.Status().Patch(t.Context(), cluster, client.MergeFrom(before)))
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(profile), profile))
		require.Equal(c, "v1.37.0", profile.Status.Version.Kubernetes)
		require.Equal(c, []inventoryv1alpha1.AccessProvider{provider}, profile.Status.AccessProviders)
		require.True(c, meta.IsStatusConditionTrue(profile.Status.Conditions, "Theirs"))
	})
}
