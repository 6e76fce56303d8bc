// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	inventoryv1alpha1 "sigs.k8s.io/cluster-inventory-api/apis/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/server/controller"
)

// mirror is a PlacementDecision of SIG Multicluster.
func mirror(namespace, name string) *inventoryv1alpha1.PlacementDecision {
	return &inventoryv1alpha1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

// awaitMirror waits for a mirror to say that these clusters were chosen by whom.
func (s *scene) awaitMirror(t *testing.T, name, scheduler string, clusters ...string) *inventoryv1alpha1.PlacementDecision {
	t.Helper()
	object, want := mirror(s.namespace, name), []inventoryv1alpha1.ClusterDecision{}
	for _, cluster := range clusters {
		want = append(want, inventoryv1alpha1.ClusterDecision{ClusterProfileRef: inventoryv1alpha1.ClusterProfileReference{Name: cluster, Namespace: s.namespace}})
	}
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, s.kube.Get(t.Context(), client.ObjectKeyFromObject(object), object))
		require.Equal(c, want, object.Decisions)
		require.Equal(c, scheduler, object.SchedulerName)
	})
	return object
}

func TestPlacement_sig_decisions(t *testing.T) {
	t.Run("FG-20_off_unless_turned_on", func(t *testing.T) {
		for _, c := range controller.All() {
			if c.Name == "sigplacementdecision" {
				require.EqualValues(t, "SIGPlacementDecision", c.Gate)
				return
			}
		}
		t.Fatal("there is no such controller")
	})
	t.Run("PL-63_every_part_is_shown", func(t *testing.T) {
		s := newScene(t)
		all := s.clusters(t, 3)
		p := s.place(t, func(spec *clusterv1beta1.PlacementSpec) {
			spec.DecisionStrategy.GroupStrategy.ClustersPerDecisionGroup.IntVal = 2
		})
		s.await(t, p, all...)
		first, second := s.awaitMirror(t, p.Name+"-decision-1", "fairlead", all[:2]...), s.awaitMirror(t, p.Name+"-decision-2", "fairlead", all[2])
		require.Equal(t, map[string]string{"multicluster.x-k8s.io/decision-key": p.Name, "multicluster.x-k8s.io/decision-index": "0"}, first.GetLabels())
		require.Equal(t, map[string]string{"multicluster.x-k8s.io/decision-key": p.Name, "multicluster.x-k8s.io/decision-index": "1"}, second.GetLabels())
		owner := metav1.GetControllerOf(second)
		require.NotNil(t, owner)
		require.Equal(t, []string{clusterv1beta1.GroupVersion.String(), "PlacementDecision", second.GetName()}, []string{owner.APIVersion, owner.Kind, owner.Name})
		version := first.GetResourceVersion()

		require.NoError(t, s.kube.Delete(t.Context(), named(all[2])))
		eventually(t, func(c *assert.CollectT) {
			require.True(c, apierrors.IsNotFound(s.kube.Get(t.Context(), client.ObjectKeyFromObject(second), second)), "it goes with its original")
		})
		require.NoError(t, s.kube.Get(t.Context(), client.ObjectKeyFromObject(first), first))
		require.Equal(t, version, first.GetResourceVersion(), "nothing is written without a change")

		change(t, s, first, func(o *inventoryv1alpha1.PlacementDecision) { o.Decisions = []inventoryv1alpha1.ClusterDecision{} })
		s.awaitMirror(t, first.GetName(), "fairlead", all[:2]...)
		require.NoError(t, s.kube.Delete(t.Context(), first))
		s.awaitMirror(t, first.GetName(), "fairlead", all[:2]...)
	})
	t.Run("PL-63_of_others", func(t *testing.T) {
		s := newScene(t)
		p := s.place(t, func(spec *clusterv1beta1.PlacementSpec) { spec.ClusterSets = []string{"no-such-set"} })
		s.awaitMirror(t, p.Name+"-decision-1", "fairlead") // an empty list
		foreign := mirror(s.namespace, "theirs-decision-1")
		foreign.Decisions, foreign.SchedulerName = []inventoryv1alpha1.ClusterDecision{}, "other"
		s.create(t, foreign)
		for _, name := range []string{"theirs-decision-1", "mine-decision-2"} {
			decision := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
				Namespace: s.namespace, Name: name, Labels: map[string]string{clusterv1beta1.PlacementLabel: "mine"},
				Annotations: map[string]string{v1alpha1.AnnotationTerm: "cheapest:3"},
			}}
			s.create(t, decision)
			decision.Status.Decisions = []clusterv1beta1.ClusterDecision{{ClusterName: "c"}, {ClusterName: ""}}
			require.NoError(t, s.kube.Status().Update(t.Context(), decision))
		}
		s.awaitMirror(t, "mine-decision-2", "cheapest", "c")
		require.Empty(t, s.awaitMirror(t, foreign.GetName(), "other").GetOwnerReferences(), "what somebody else made is left alone")
	})
}
