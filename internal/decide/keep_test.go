// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package decide_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/decide"
)

func inPairs(p *clusterv1beta1.Placement) {
	p.Spec.DecisionStrategy.GroupStrategy.ClustersPerDecisionGroup = intstr.FromInt32(2)
}

// kept is a decision of the hub's own scheduler that could not choose.
func (p *place) kept(drop ...string) decide.Decision {
	d := p.decision("not-looked-at")
	d.Keep, d.Drop = true, drop
	d.Conditions = append(d.Conditions, metav1.Condition{Type: "PlacementMisconfigured", Status: metav1.ConditionTrue, Reason: "Misconfigured", Message: "dear"})
	return d
}

// groups are the counts of the groups in the Placement's status, and of all.
func (p *place) groups(t *testing.T) (counts []int32) {
	t.Helper()
	require.NoError(t, p.client.Get(t.Context(), client.ObjectKeyFromObject(p.placement), p.placement))
	for _, g := range p.placement.Status.DecisionGroups {
		counts = append(counts, g.ClustersCount)
	}
	return append(counts, p.placement.Status.NumberOfSelectedClusters)
}

// TestPL21_keeps has a choice that could not be made: only the status is written.
func TestPL21_keeps(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, inPairs)
	p.submit(t, p.decision(p.clusters...))
	before := p.versions(t)
	require.Equal(t, decide.Result{Generation: 1, Applied: true, Changed: true}, p.submit(t, p.kept()))
	after := p.versions(t)
	require.NotEqual(t, before["placement"], after["placement"])
	require.Contains(t, p.said(t), "PlacementMisconfigured True dear")
	before["placement"] = after["placement"]
	require.Equal(t, before, after, "the decisions are as they were")
	require.Equal(t, []int32{2, 1, 3}, p.groups(t))
	require.False(t, p.submit(t, p.kept()).Changed)
	require.Equal(t, after, p.versions(t))
}

// TestPL21_drops has clusters that may not stay, though nothing could be chosen.
func TestPL21_drops(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 4, inPairs)
	p.submit(t, p.decision(p.clusters...))
	result := p.submit(t, p.kept(p.clusters[0], p.clusters[2], p.clusters[3], "unknown"))
	require.Equal(t, decide.Result{Generation: 1, Applied: true, Changed: true, Updated: []string{"web-decision-1", "web-decision-2"}}, result)
	require.Equal(t, []string{"web-decision-1 0/: " + p.clusters[1], "web-decision-2 1/: "}, p.shown(t), "nothing is grouped anew")
	require.NotNil(t, p.decisions(t)[1].Status.Decisions)
	require.Equal(t, []int32{1, 0, 1}, p.groups(t))
	require.False(t, p.submit(t, p.kept(p.clusters[0])).Changed)
}

// TestPL21_nothing_to_keep has a Placement that cost too much from the start.
func TestPL21_nothing_to_keep(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1)
	p.submit(t, p.kept())
	require.Equal(t, []string{"web-decision-1 0/: "}, p.shown(t), "PL-43 holds for it as well")
	require.Contains(t, p.said(t), "PlacementMisconfigured True dear")
}

// badGroups are decision groups that cannot be read.
func badGroups(spec *clusterv1beta1.PlacementSpec) {
	spec.DecisionStrategy.GroupStrategy.DecisionGroups = []clusterv1beta1.DecisionGroup{{
		GroupName: "canary", ClusterSelector: clusterv1beta1.GroupClusterSelector{LabelSelector: metav1.LabelSelector{MatchLabels: map[string]string{"not a key": "x"}}},
	}}
}

// TestPL62_cannot_group_drops: decision groups that cannot be read keep no cluster
// that the Placement may not have any more.
func TestPL62_cannot_group_drops(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 4, inPairs)
	p.submit(t, p.decision(p.clusters...))
	p.change(t, badGroups)
	gone, going, moved := p.cluster(p.clusters[0]), p.cluster(p.clusters[1]), p.cluster(p.clusters[2])
	require.NoError(t, p.client.Delete(t.Context(), gone))
	require.NoError(t, p.client.Get(t.Context(), client.ObjectKeyFromObject(going), going))
	going.Finalizers = []string{"test.example/hold"}
	require.NoError(t, p.client.Update(t.Context(), going))
	require.NoError(t, p.client.Delete(t.Context(), going))
	require.NoError(t, p.client.Get(t.Context(), client.ObjectKeyFromObject(moved), moved))
	moved.Labels[clusterv1beta2.ClusterSetLabel] = "no-such-set"
	require.NoError(t, p.client.Update(t.Context(), moved))

	require.False(t, p.submit(t, p.decision(p.clusters[3])).Applied, "its choice is not what there is")
	require.Equal(t, []string{"web-decision-1 0/: ", "web-decision-2 1/: " + p.clusters[3]}, p.shown(t))
	require.Equal(t, []int32{0, 1, 1}, p.groups(t))
	require.NoError(t, p.client.DeleteAllOf(t.Context(), &clusterv1beta2.ManagedClusterSetBinding{}, client.InNamespace(p.placement.Namespace)))
	require.True(t, p.submit(t, p.decision()).Changed)
	require.Equal(t, []string{"web-decision-1 0/: ", "web-decision-2 1/: "}, p.shown(t), "a set that is not bound any more")
	require.Equal(t, []int32{0, 0, 0}, p.groups(t))
	require.False(t, p.submit(t, p.decision()).Changed)
	require.Contains(t, p.said(t), "PlacementMisconfigured True DecisionStrategy:")

	require.NoError(t, p.client.Get(t.Context(), client.ObjectKeyFromObject(going), going))
	going.Finalizers = nil
	require.NoError(t, p.client.Update(t.Context(), going))
}

func (*place) cluster(name string) *clusterv1.ManagedCluster {
	return &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// said is a line for each condition of the Placement.
func (p *place) said(t *testing.T) string {
	t.Helper()
	require.NoError(t, p.client.Get(t.Context(), client.ObjectKeyFromObject(p.placement), p.placement))
	var said strings.Builder
	for _, c := range p.placement.Status.Conditions {
		fmt.Fprintln(&said, c.Type, c.Status, c.Message)
	}
	return said.String()
}

// TestSubmit_cannot_group says so, and leaves the decisions as they are.
func TestSubmit_cannot_group(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1)
	p.submit(t, p.decision(p.clusters...))
	p.change(t, badGroups)
	require.True(t, p.submit(t, p.decision()).Changed)
	require.Equal(t, []string{"web-decision-1 0/: " + p.clusters[0]}, p.shown(t))
	require.False(t, p.submit(t, p.decision()).Changed)
	said := p.said(t)
	require.Contains(t, said, "PlacementMisconfigured True DecisionStrategy:decisionGroups[0] \"canary\": groupClusterSelector.labelSelector: ")
	require.Contains(t, said, "not a key")
	require.Contains(t, said, "PlacementSatisfied False 0 cluster decisions unscheduled", "PL-08: nobody is to rely on what is shown")
}

// TestSubmit_cannot_group_from_the_start has no decisions that could be left.
func TestSubmit_cannot_group_from_the_start(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 2, func(p *clusterv1beta1.Placement) { badGroups(&p.Spec) })
	require.True(t, p.submit(t, p.decision(p.clusters...)).Changed)
	require.Equal(t, []string{"web-decision-1 0/: "}, p.shown(t), "PL-43")
	require.False(t, p.submit(t, p.decision(p.clusters...)).Changed)
	require.Contains(t, p.said(t), "PlacementSatisfied False 2 cluster decisions unscheduled")
	p.change(t, func(spec *clusterv1beta1.PlacementSpec) { spec.DecisionStrategy.GroupStrategy.DecisionGroups = nil })
	p.submit(t, p.decision(p.clusters...))
	require.Equal(t, []string{"web-decision-1 0/: " + strings.Join(p.clusters, " ")}, p.shown(t))
}
