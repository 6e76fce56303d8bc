// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// awaitNamespaces waits until a cluster has exactly these, each "set/name".
func (h *hub) awaitNamespaces(t *testing.T, cluster *clusterv1.ManagedCluster, want ...string) {
	t.Helper()
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(cluster), cluster))
		var have []string
		for _, namespace := range cluster.Status.ManagedNamespaces {
			have = append(have, namespace.ClusterSet+"/"+namespace.Name)
		}
		require.Equal(c, want, have)
	})
}

func TestManagedNamespaces(t *testing.T) {
	h := theHub(t)
	t.Run("RC-53_RC-54_the_union_of_its_sets", func(t *testing.T) {
		t.Parallel()
		region := h.plane.Unique("region")
		exclusive := h.set(t, nil, "b", "a") // made first, so it sorts first
		wide := h.set(t, &metav1.LabelSelector{MatchLabels: map[string]string{"region": region}}, "a")
		require.Negative(t, strings.Compare(exclusive.Name, wide.Name))
		cluster := h.cluster(t, map[string]string{setLabel: exclusive.Name, "region": region})
		x, w := exclusive.Name+"/", wide.Name+"/"
		h.awaitNamespaces(t, cluster, x+"a", x+"b", w+"a")
		h.awaitEvent(t, "ManagedNamespacesUpdated", cluster.Name)

		h.report(t, cluster, 2) // of w/a
		patch(t, h, exclusive, func(s *clusterv1beta2.ManagedClusterSet) {
			s.Spec.ManagedNamespaces = []clusterv1.ManagedNamespaceConfig{{Name: "c"}}
		})
		h.awaitNamespaces(t, cluster, x+"c", w+"a")
		require.Empty(t, cluster.Status.ManagedNamespaces[0].Conditions)
		require.Equal(t, "NamespaceApplied", cluster.Status.ManagedNamespaces[1].Conditions[0].Reason, "conditions stay")

		h.label(t, cluster, setLabel, "")
		h.awaitNamespaces(t, cluster, w+"a")
		require.NoError(t, h.kube.Delete(t.Context(), wide))
		h.awaitNamespaces(t, cluster)
	})
	t.Run("RC-53_a_list_that_is_changed_comes_back", func(t *testing.T) {
		t.Parallel()
		set := h.set(t, nil, "a")
		cluster := h.cluster(t, map[string]string{setLabel: set.Name})
		h.awaitNamespaces(t, cluster, set.Name+"/a")
		cluster.Status.ManagedNamespaces[0].Name = "other"
		require.NoError(t, h.kube.Status().Update(t.Context(), cluster))
		h.awaitNamespaces(t, cluster, set.Name+"/a")
	})
	t.Run("RC-53_what_is_being_deleted", func(t *testing.T) {
		t.Parallel()
		region := h.plane.Unique("region")
		set := h.set(t, &metav1.LabelSelector{MatchLabels: map[string]string{"region": region}}, "a")
		stays, going := h.cluster(t, map[string]string{"region": region}), h.cluster(t, map[string]string{"region": region})
		h.awaitNamespaces(t, going, set.Name+"/a")
		hold := func(finalizers ...string) func(client.Object) {
			return func(o client.Object) { o.SetFinalizers(finalizers) }
		}
		patch(t, h, going, func(c *clusterv1.ManagedCluster) { hold("test.fairlead.dev/hold")(c) })
		patch(t, h, set, func(s *clusterv1beta2.ManagedClusterSet) { hold("test.fairlead.dev/hold")(s) })
		require.NoError(t, h.kube.Delete(t.Context(), going))
		require.NoError(t, h.kube.Delete(t.Context(), set))
		h.awaitNamespaces(t, stays)
		h.awaitNamespaces(t, going, set.Name+"/a")
		patch(t, h, going, func(c *clusterv1.ManagedCluster) { hold()(c) })
		patch(t, h, set, func(s *clusterv1beta2.ManagedClusterSet) { hold()(s) })
	})
}

// report is what an agent does for one of its namespaces.
func (h *hub) report(t *testing.T, cluster *clusterv1.ManagedCluster, i int) {
	t.Helper()
	before := cluster.DeepCopy()
	cluster.Status.ManagedNamespaces[i].Conditions = []metav1.Condition{{
		Type: "NamespaceAvailable", Status: metav1.ConditionTrue, Reason: "NamespaceApplied", LastTransitionTime: metav1.NewTime(time.Now()),
	}}
	require.NoError(t, h.kube.Status().Patch(t.Context(), cluster, client.MergeFrom(before)))
}
