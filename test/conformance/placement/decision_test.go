// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

type decision = clusterv1beta1.PlacementDecision

func TestPlacement_decisions(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"PL-41_PL-42_PL-44_objects":      objects,
		"PL-43_PL-44_empty":              empty,
		"PL-45_tampering":                tampering,
		"PL-46_PL-50_groups_of_a_size":   sizes,
		"PL-47_PL-48_named_groups":       namedGroups,
		"PL-49_lengths_that_are_no_size": noSize,
		"PL-51_renumbered":               renumbered,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
	}
}

// grouped asks for groups of a size; then named ones by label "group".
func grouped(size string, names ...string) func(*spec) {
	return func(s *spec) {
		if size != "" {
			s.DecisionStrategy.GroupStrategy.ClustersPerDecisionGroup = intstr.Parse(size)
		}
		for _, name := range names {
			s.DecisionStrategy.GroupStrategy.DecisionGroups = append(s.DecisionStrategy.GroupStrategy.DecisionGroups, clusterv1beta1.DecisionGroup{
				GroupName: name, ClusterSelector: clusterv1beta1.GroupClusterSelector{LabelSelector: metav1.LabelSelector{MatchLabels: labels{"group": name}}},
			})
		}
	}
}

// awaitGroups waits for decisions, each as "<number> <index>/<name>: <clusters>".
func (s *scene) awaitGroups(t *testing.T, p *clusterv1beta1.Placement, want ...string) {
	t.Helper()
	eventually(t, func(c *assert.CollectT) {
		var lines []string
		for _, d := range s.decisions(c, p) {
			names := make([]string, 0, len(d.Status.Decisions))
			for _, one := range d.Status.Decisions {
				names = append(names, one.ClusterName)
			}
			lines = append(lines, fmt.Sprintf("%s %s/%s: %s", strings.TrimPrefix(d.Name, p.Name+"-decision-"),
				d.Labels["cluster.open-cluster-management.io/decision-group-index"], d.Labels["cluster.open-cluster-management.io/decision-group-name"], strings.Join(names, " ")))
		}
		require.Equal(c, want, lines)
	})
}

func objects(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 102)
	p := s.place(t, func(spec *spec) { spec.NumberOfClusters = new(int32(101)) })
	s.await(t, p, all[:101]...)
	found := s.decisions(t, p)
	require.Len(t, found, 2)
	for i, d := range found {
		require.Equal(t, fmt.Sprintf("%s-decision-%d", p.Name, i+1), d.Name)
		require.Equal(t, labels{
			"cluster.open-cluster-management.io/placement":            p.Name,
			"cluster.open-cluster-management.io/decision-group-index": "0",
			"cluster.open-cluster-management.io/decision-group-name":  "",
		}, d.Labels)
		require.Equal(t, []metav1.OwnerReference{{
			APIVersion: "cluster.open-cluster-management.io/v1beta1", Kind: "Placement", Name: p.Name, UID: p.UID, Controller: new(true), BlockOwnerDeletion: new(true),
		}}, d.OwnerReferences)
	}
	require.Len(t, found[0].Status.Decisions, 100)
	require.Equal(t, []clusterv1beta1.ClusterDecision{{ClusterName: all[100]}}, found[1].Status.Decisions)
	for i, one := range found[0].Status.Decisions {
		require.Equal(t, clusterv1beta1.ClusterDecision{ClusterName: all[i]}, one)
	}
	change(t, s, p, func(p *clusterv1beta1.Placement) { p.Spec.NumberOfClusters = new(int32(100)) })
	s.await(t, p, all[:100]...)
	eventually(t, func(c *assert.CollectT) { require.Len(c, s.decisions(c, p), 1) })
}

func empty(t *testing.T) {
	t.Helper()
	s := newScene(t)
	p := s.place(t, nil)
	s.await(t, p)
	eventually(t, func(c *assert.CollectT) {
		raw, err := s.plane.Kubectl(t.Context(), "get", "placementdecision", "-n", s.namespace, p.Name+"-decision-1", "-o", "jsonpath={.status}")
		require.NoError(c, err)
		require.JSONEq(c, `{"decisions":[]}`, raw)
	})
	require.Equal(t, []clusterv1beta1.DecisionGroupStatus{{Decisions: []string{p.Name + "-decision-1"}}}, p.Status.DecisionGroups)
}

func tampering(t *testing.T) {
	t.Helper()
	s := newScene(t)
	one := s.cluster(t, nil)
	p := s.place(t, nil)
	s.await(t, p, one)
	want := "1 0/: " + one
	first := &decision{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: p.Name + "-decision-1"}}
	change(t, s, first, func(d *decision) { d.Labels["cluster.open-cluster-management.io/decision-group-index"] = "7" })
	s.awaitGroups(t, p, want)
	change(t, s, first, func(d *decision) { d.Labels = nil })
	s.awaitGroups(t, p, want)
	change(t, s, first, func(d *decision) { d.OwnerReferences = nil })
	eventually(t, func(c *assert.CollectT) { require.Len(c, s.decisions(c, p)[0].OwnerReferences, 1) })
	report(t, s, first, func(d *decision) {
		d.Status.Decisions = []clusterv1beta1.ClusterDecision{{ClusterName: "other", Reason: "mine"}}
	})
	s.awaitGroups(t, p, want)
	report(t, s, first, func(d *decision) { d.Status.Decisions[0].Reason = "mine" })
	eventually(t, func(c *assert.CollectT) { require.Empty(c, s.decisions(c, p)[0].Status.Decisions[0].Reason) })
	require.NoError(t, s.kube.Delete(t.Context(), first))
	s.awaitGroups(t, p, want)
	s.create(t, &decision{ObjectMeta: metav1.ObjectMeta{
		Namespace: s.namespace, Name: p.Name + "-decision-2", Labels: labels{"cluster.open-cluster-management.io/placement": p.Name},
	}})
	s.awaitGroups(t, p, want)
	report(t, s, p, func(p *clusterv1beta1.Placement) { p.Status.NumberOfSelectedClusters = 5 })
	s.await(t, p, one)
}

func sizes(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 5)
	whole := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "whole"}}
	manifest := `{"apiVersion":"cluster.open-cluster-management.io/v1beta1","kind":"Placement","metadata":{"name":"whole"},
		"spec":{"decisionStrategy":{"groupStrategy":{}}}}`
	_, err := s.plane.KubectlInput(t.Context(), strings.NewReader(manifest), "create", "-n", s.namespace, "-f", "-")
	require.NoError(t, err)
	s.awaitGroups(t, whole, "1 0/: "+strings.Join(all, " "))
	s.await(t, whole, all...)
	require.Equal(t, intstr.FromString("100%"), whole.Spec.DecisionStrategy.GroupStrategy.ClustersPerDecisionGroup, "by default")
	s.awaitGroups(t, s.place(t, grouped("2")), "1 0/: "+all[0]+" "+all[1], "2 1/: "+all[2]+" "+all[3], "3 2/: "+all[4])
	thirds := s.place(t, grouped("25%")) // of 5, rounded up: 2
	s.awaitGroups(t, thirds, "1 0/: "+all[0]+" "+all[1], "2 1/: "+all[2]+" "+all[3], "3 2/: "+all[4])
	s.await(t, thirds, all...)
	name := func(n int) []string { return []string{fmt.Sprintf("%s-decision-%d", thirds.Name, n)} }
	require.Equal(t, []clusterv1beta1.DecisionGroupStatus{
		{DecisionGroupIndex: 0, Decisions: name(1), ClustersCount: 2},
		{DecisionGroupIndex: 1, Decisions: name(2), ClustersCount: 2},
		{DecisionGroupIndex: 2, Decisions: name(3), ClustersCount: 1},
	}, thirds.Status.DecisionGroups)
}

func namedGroups(t *testing.T) {
	t.Helper()
	s := newScene(t)
	rest := s.clusters(t, 2)
	canary := []string{s.cluster(t, labels{"group": "canary"}), s.cluster(t, labels{"group": "canary"}), s.cluster(t, labels{"group": "canary"})}
	claimed := s.cluster(t, nil, claiming(clusterv1.ManagedClusterClaim{Name: "tier", Value: "gold"}))
	p := s.place(t, func(spec *spec) {
		grouped("2", "canary")(spec)
		strategy := &spec.DecisionStrategy.GroupStrategy
		strategy.DecisionGroups = append(strategy.DecisionGroups,
			clusterv1beta1.DecisionGroup{GroupName: "gold", ClusterSelector: clusterv1beta1.GroupClusterSelector{
				ClaimSelector: clusterv1beta1.ClusterClaimSelector{MatchExpressions: []needs{{Key: "tier", Operator: "In", Values: []string{"gold"}}}},
			}},
			clusterv1beta1.DecisionGroup{GroupName: "later", ClusterSelector: clusterv1beta1.GroupClusterSelector{
				LabelSelector: metav1.LabelSelector{MatchLabels: labels{"group": "canary"}},
			}})
	})
	s.awaitGroups(t, p, "1 0/canary: "+canary[0]+" "+canary[1], "2 1/canary: "+canary[2], "3 2/gold: "+claimed, "4 3/: "+rest[0]+" "+rest[1])
	s.await(t, p, append(append(rest, canary...), claimed)...)
	s.relabel(t, rest[0], "group", "canary") // chosen as before, in another group
	s.awaitGroups(t, p, "1 0/canary: "+rest[0]+" "+canary[0], "2 1/canary: "+canary[1]+" "+canary[2], "3 2/gold: "+claimed, "4 3/: "+rest[1])
}

func noSize(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 3)
	s.awaitGroups(t, s.place(t, grouped("0")), "1 0/: "+strings.Join(all, " "))
	s.awaitGroups(t, s.place(t, grouped("-5")), "1 0/: "+strings.Join(all, " "))
}

func renumbered(t *testing.T) {
	t.Helper()
	s := newScene(t)
	canary, one, two := s.cluster(t, labels{"group": "canary"}), s.cluster(t, nil), s.cluster(t, nil)
	p := s.place(t, grouped("1", "canary"))
	s.awaitGroups(t, p, "1 0/canary: "+canary, "2 1/: "+one, "3 2/: "+two)
	require.NoError(t, s.kube.Delete(t.Context(), named(canary)))
	s.awaitGroups(t, p, "1 0/: "+one, "2 1/: "+two)
	s.await(t, p, one, two)
	require.Len(t, p.Status.DecisionGroups, 2)
}
