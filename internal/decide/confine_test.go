// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package decide_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/decide"
)

func (p *place) confine(t *testing.T) decide.Result {
	t.Helper()
	result, err := p.submitter.Confine(t.Context(), client.ObjectKeyFromObject(p.placement))
	require.NoError(t, err)
	return result
}

// TestConfine_PL62 has a scheduler that does nothing any more: what it decided stays,
// but for clusters that the Placement may not have.
func TestConfine_PL62(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, byExternal, inPairs, func(p *clusterv1beta1.Placement) { p.Spec.NumberOfClusters = new(int32(3)) })
	d := p.decision(p.clusters...)
	d.RequestID, d.Term = "one", 7
	p.submit(t, d)
	before := p.versions(t)
	require.False(t, p.confine(t).Changed)
	require.Equal(t, before, p.versions(t))

	p.change(t, func(spec *clusterv1beta1.PlacementSpec) {
		spec.Tolerations = []clusterv1beta1.Toleration{{Operator: "Exists"}}
	})
	require.NoError(t, p.client.Delete(t.Context(), p.cluster(p.clusters[0])))
	require.Equal(t, []string{"web-decision-1"}, p.confine(t).Updated)
	require.Equal(t, []string{"web-decision-1 0/: " + p.clusters[1], "web-decision-2 1/: " + p.clusters[2]}, p.shown(t))
	require.Contains(t, p.said(t), "PlacementSatisfied False 1 cluster decisions unscheduled")
	require.EqualValues(t, 2, p.placement.Status.NumberOfSelectedClusters)
	require.EqualValues(t, 1, p.placement.Status.Conditions[0].ObservedGeneration, "nobody has decided on the new one")

	foreign := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.placement.Namespace, Name: "by-hand", Labels: map[string]string{clusterv1beta1.PlacementLabel: p.placement.Name},
	}}
	p.create(t, foreign)
	foreign.Status.Decisions = []clusterv1beta1.ClusterDecision{{ClusterName: "unknown"}}
	require.NoError(t, p.client.Status().Update(t.Context(), foreign))
	require.NoError(t, p.client.DeleteAllOf(t.Context(), &clusterv1beta2.ManagedClusterSetBinding{}, client.InNamespace(p.placement.Namespace)))
	p.confine(t)
	require.Equal(t, []string{"by-hand /: unknown", "web-decision-1 0/: ", "web-decision-2 1/: "}, p.shown(t))
	d.RequestID, d.ObservedGeneration, d.Term = "late", p.placement.Generation, 6
	_, err := p.submitter.Submit(t.Context(), d)
	require.ErrorIs(t, err, decide.ErrFenced, "the term is still known")
}

func TestConfine_leaves_others_alone(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*clusterv1beta1.Placement){
		"the hub's own": func(*clusterv1beta1.Placement) {},
		"frozen": func(p *clusterv1beta1.Placement) {
			byExternal(p)
			metav1.SetMetaDataAnnotation(&p.ObjectMeta, clusterv1beta1.PlacementDisableAnnotation, "true")
		},
	} {
		p := newPlace(t, 1, byExternal)
		p.submit(t, p.decision(p.clusters...))
		require.NoError(t, p.client.Get(t.Context(), client.ObjectKeyFromObject(p.placement), p.placement))
		p.placement.Annotations = nil
		change(p.placement)
		require.NoError(t, p.client.Update(t.Context(), p.placement))
		require.NoError(t, p.client.DeleteAllOf(t.Context(), &clusterv1beta2.ManagedClusterSetBinding{}, client.InNamespace(p.placement.Namespace)))
		before := p.versions(t)
		require.Equal(t, decide.Result{}, p.confine(t), name)
		require.Equal(t, before, p.versions(t), name)
	}
	none := newPlace(t, 0)
	require.NoError(t, none.client.Delete(t.Context(), none.placement))
	require.Equal(t, decide.Result{}, none.confine(t))
}
