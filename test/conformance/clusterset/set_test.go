// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	setLabel = clusterv1beta2.ClusterSetLabel
	none     = "No ManagedCluster selected"
)

func TestSets(t *testing.T) {
	h := theHub(t)
	t.Run("RC-44_the_type_if_unset", func(t *testing.T) {
		t.Parallel()
		set := h.set(t, nil)
		require.Equal(t, clusterv1beta2.ExclusiveClusterSetLabel, set.Spec.ClusterSelector.SelectorType)
		legacy := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"clusterSelector":{"selectorType":"LegacyClusterSetLabel"}}}`))
		require.True(t, apierrors.IsInvalid(h.kube.Patch(t.Context(), set, legacy)))
	})
	t.Run("RC-45_RC-47_by_label", func(t *testing.T) {
		t.Parallel()
		first, second := h.set(t, nil), h.set(t, nil)
		h.awaitCount(t, first, metav1.ConditionTrue, "NoClusterMatched", none)
		mover, stays := h.cluster(t, map[string]string{setLabel: first.Name}), h.cluster(t, map[string]string{setLabel: first.Name})
		h.awaitCount(t, first, metav1.ConditionFalse, "ClustersSelected", "2 ManagedClusters selected")
		h.awaitCount(t, second, metav1.ConditionTrue, "NoClusterMatched", none)
		h.label(t, mover, setLabel, second.Name)
		h.awaitCount(t, first, metav1.ConditionFalse, "ClustersSelected", "1 ManagedClusters selected")
		h.awaitCount(t, second, metav1.ConditionFalse, "ClustersSelected", "1 ManagedClusters selected")
		require.NoError(t, h.kube.Delete(t.Context(), stays))
		h.awaitCount(t, first, metav1.ConditionTrue, "NoClusterMatched", none)
	})
	t.Run("RC-46_RC-47_by_selector", func(t *testing.T) {
		t.Parallel()
		region := h.plane.Unique("region")
		in := &metav1.LabelSelector{MatchLabels: map[string]string{"region": region}}
		one, other := h.set(t, in), h.set(t, in)
		nobody := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: h.plane.Unique("nil")}}
		nobody.Spec.ClusterSelector.SelectorType = clusterv1beta2.LabelSelector
		require.NoError(t, h.kube.Create(t.Context(), nobody))
		cluster := h.cluster(t, map[string]string{"region": region})
		h.awaitCount(t, one, metav1.ConditionFalse, "ClustersSelected", "1 ManagedClusters selected")
		h.awaitCount(t, other, metav1.ConditionFalse, "ClustersSelected", "1 ManagedClusters selected")
		h.awaitCount(t, nobody, metav1.ConditionTrue, "NoClusterMatched", none)
		patch(t, h, nobody, func(s *clusterv1beta2.ManagedClusterSet) {
			s.Spec.ClusterSelector.LabelSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "region", Operator: metav1.LabelSelectorOpIn, Values: []string{region}}}}
		})
		h.awaitCount(t, nobody, metav1.ConditionFalse, "ClustersSelected", "1 ManagedClusters selected")
		h.label(t, cluster, "region", "")
		for _, set := range []*clusterv1beta2.ManagedClusterSet{one, other, nobody} {
			h.awaitCount(t, set, metav1.ConditionTrue, "NoClusterMatched", none)
		}
	})
	t.Run("RC-47_a_selector_nobody_can_read", func(t *testing.T) {
		t.Parallel()
		set := h.set(t, &metav1.LabelSelector{MatchLabels: map[string]string{"not a key": "x"}})
		eventually(t, func(c *assert.CollectT) {
			require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(set), set))
			require.Len(c, set.Status.Conditions, 1)
			require.Contains(c, set.Status.Conditions[0].Message, "not a key")
		})
	})
	t.Run("WH-04_without_webhooks_a_cluster_without_a_set_is_in_default", func(t *testing.T) {
		t.Parallel()
		in := func(cluster *clusterv1.ManagedCluster, set string) {
			t.Helper()
			eventually(t, func(c *assert.CollectT) {
				require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(cluster), cluster))
				require.Equal(c, set, cluster.Labels[setLabel])
			})
		}
		none, empty := h.cluster(t, nil), h.cluster(t, map[string]string{setLabel: "", "team": "a"})
		chosen := h.set(t, nil)
		other := h.cluster(t, map[string]string{setLabel: chosen.Name})
		in(none, "default")
		in(empty, "default")
		require.Equal(t, "a", empty.Labels["team"])
		h.label(t, none, setLabel, chosen.Name)
		h.awaitCount(t, chosen, metav1.ConditionFalse, "ClustersSelected", "2 ManagedClusters selected")
		in(none, chosen.Name)
		in(other, chosen.Name)
		h.label(t, none, setLabel, "")
		in(none, "default")
	})
	t.Run("RC-48_to_RC-50", h.alwaysThere)
	t.Run("RC-51_RC-52_bindings", h.bindings)
}

// alwaysThere is about two sets that there are once.
func (h *hub) alwaysThere(t *testing.T) {
	t.Parallel()
	byLabel := clusterv1beta2.ManagedClusterSelector{SelectorType: clusterv1beta2.ExclusiveClusterSetLabel}
	all := clusterv1beta2.ManagedClusterSelector{SelectorType: clusterv1beta2.LabelSelector, LabelSelector: &metav1.LabelSelector{}}
	for name, tc := range map[string]struct {
		event    string
		selector clusterv1beta2.ManagedClusterSelector
	}{
		"default": {"DefaultManagedClusterSet", byLabel}, "global": {"GlobalManagedClusterSet", all},
	} {
		set := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: name}}
		await := func(t *testing.T, after types.UID) {
			t.Helper()
			eventually(t, func(c *assert.CollectT) {
				require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(set), set))
				require.NotEqual(c, after, set.UID)
				require.Equal(c, tc.selector, set.Spec.ClusterSelector)
			})
		}
		t.Run("RC-48_"+name, func(t *testing.T) {
			await(t, "")
			old := set.UID
			require.NoError(t, h.kube.Delete(t.Context(), set))
			await(t, old)
		})
		t.Run("RC-49_"+name, func(t *testing.T) {
			patch(t, h, set, func(s *clusterv1beta2.ManagedClusterSet) {
				s.Labels, s.Annotations = map[string]string{"team": "a"}, map[string]string{"note": "b"}
				s.Spec.ManagedNamespaces = []clusterv1.ManagedNamespaceConfig{{Name: "of-" + name}}
				s.Spec.ClusterSelector = clusterv1beta2.ManagedClusterSelector{
					SelectorType: clusterv1beta2.LabelSelector, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"x": "y"}},
				}
			})
			await(t, "")
			require.Equal(t, "a", set.Labels["team"])
			require.Equal(t, "b", set.Annotations["note"])
			require.Equal(t, []clusterv1.ManagedNamespaceConfig{{Name: "of-" + name}}, set.Spec.ManagedNamespaces)
			h.awaitEvent(t, tc.event+"SpecRollbacked", name)
			patch(t, h, set, func(s *clusterv1beta2.ManagedClusterSet) { s.Spec.ManagedNamespaces = nil })
		})
		t.Run("RC-50_"+name, func(t *testing.T) { h.leftAlone(t, set, tc.selector) })
	}
}

// leftAlone changes and deletes a set that is annotated, and then another, which
// is judged later and comes back.
func (h *hub) leftAlone(t *testing.T, set *clusterv1beta2.ManagedClusterSet, kept clusterv1beta2.ManagedClusterSelector) {
	t.Helper()
	changed := clusterv1beta2.ManagedClusterSelector{SelectorType: clusterv1beta2.LabelSelector, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"x": "y"}}}
	patch(t, h, set, func(s *clusterv1beta2.ManagedClusterSet) {
		s.Annotations = map[string]string{"cluster.open-cluster-management.io/autoupdate": "false"}
		s.Spec.ClusterSelector = changed
	})
	h.awaitCount(t, set, metav1.ConditionTrue, "NoClusterMatched", none) // so the change is seen
	require.Equal(t, changed, set.Spec.ClusterSelector)
	require.NoError(t, h.kube.Delete(t.Context(), set))
	h.settle(t)
	require.True(t, apierrors.IsNotFound(h.kube.Get(t.Context(), client.ObjectKeyFromObject(set), set)))
	again := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: set.Name}}
	again.Spec.ClusterSelector = changed
	require.NoError(t, h.kube.Create(t.Context(), again))
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(again), again))
		require.Equal(c, kept, again.Spec.ClusterSelector, "without the annotation it is kept again")
	})
}

// settle returns when the controllers have seen what was written before.
func (h *hub) settle(t *testing.T) {
	t.Helper()
	h.awaitCount(t, h.set(t, nil), metav1.ConditionTrue, "NoClusterMatched", none)
}

func (h *hub) bindings(t *testing.T) {
	t.Parallel()
	name, namespace := h.plane.Unique("set"), h.plane.Namespace(t, "bound")
	binding := h.bind(t, namespace, name)
	h.awaitBound(t, binding, metav1.ConditionFalse, "ClusterSetNotFound")
	set := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{"test.fairlead.dev/hold"}}}
	require.NoError(t, h.kube.Create(t.Context(), set))
	h.awaitBound(t, binding, metav1.ConditionTrue, "ClusterSetBound")
	t.Run("RC-52_finalizers_alone_keep_it", func(t *testing.T) {
		require.NoError(t, h.kube.Delete(t.Context(), set))
		h.awaitBound(t, binding, metav1.ConditionFalse, "ClusterSetNotFound")
		require.NoError(t, h.kube.Get(t.Context(), client.ObjectKeyFromObject(set), set), "it is there")
	})
	patch(t, h, set, func(s *clusterv1beta2.ManagedClusterSet) { s.Finalizers = nil })
	again := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: name}}
	require.NoError(t, h.kube.Create(t.Context(), again))
	h.awaitBound(t, binding, metav1.ConditionTrue, "ClusterSetBound")
	require.NoError(t, h.kube.Delete(t.Context(), again))
	h.awaitBound(t, binding, metav1.ConditionFalse, "ClusterSetNotFound")
}
