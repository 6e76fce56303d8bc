// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

type (
	spec      = clusterv1beta1.PlacementSpec
	labels    = map[string]string
	claims    = []clusterv1.ManagedClusterClaim
	needs     = metav1.LabelSelectorRequirement
	predicate = clusterv1beta1.ClusterPredicate
)

func namespaceOf(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func byLabel(key, value string) predicate {
	return predicate{RequiredClusterSelector: clusterv1beta1.ClusterSelector{LabelSelector: metav1.LabelSelector{MatchLabels: labels{key: value}}}}
}

func byCEL(expressions ...string) predicate {
	return predicate{RequiredClusterSelector: clusterv1beta1.ClusterSelector{CelSelector: clusterv1beta1.ClusterCelSelector{CelExpressions: expressions}}}
}

func byClaim(needs ...needs) predicate {
	return predicate{RequiredClusterSelector: clusterv1beta1.ClusterSelector{ClaimSelector: clusterv1beta1.ClusterClaimSelector{MatchExpressions: needs}}}
}

func matching(predicates ...predicate) func(*spec) {
	return func(s *spec) { s.Predicates = predicates }
}

func claiming(claims ...clusterv1.ManagedClusterClaim) func(*clusterv1.ManagedCluster) {
	return func(c *clusterv1.ManagedCluster) { c.Status.ClusterClaims = claims }
}

func TestPlacement_sets(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"PL-01_columns":                        columns,
		"PL-02_PL-62_bound_sets":               boundSets,
		"PL-03_a_binding_counts_without_Bound": unboundBinding,
		"PL-04_to_PL-07_why_there_is_nobody":   nobody,
		"PL-08_PL-09_PL-10_how_many":           howMany,
		"PL-12_deleting":                       deleting,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
	}
	for _, name := range []string{"PL-05_no_intersection", "PL-06_empty_sets", "PL-07_no_match"} {
		t.Run(name, func(t *testing.T) { t.Parallel(); oneReason(t, name) })
	}
}

func columns(t *testing.T) {
	t.Helper()
	s := newScene(t)
	s.clusters(t, 2)
	p := s.place(t, nil)
	s.awaitSatisfied(t, p, metav1.ConditionTrue, "AllDecisionsScheduled", "All cluster decisions scheduled")
	out, err := s.plane.Kubectl(t.Context(), "get", "placement", "-n", s.namespace)
	require.NoError(t, err)
	require.Equal(t, []string{"NAME", "SUCCEEDED", "REASON", "SELECTEDCLUSTERS", p.Name, "True", "AllDecisionsScheduled", "2"}, strings.Fields(out))
}

func boundSets(t *testing.T) {
	t.Helper()
	s := newScene(t)
	other, unbound := s.newSet(t), s.newSet(t)
	mine, theirs := s.cluster(t, nil), s.clusterIn(t, other, nil)
	s.clusterIn(t, unbound, nil)
	missing := s.plane.Unique("missing")
	s.bind(t, other)
	s.bind(t, missing)
	all := s.place(t, nil)
	some := s.place(t, func(spec *spec) { spec.ClusterSets = []string{other, unbound, missing} })
	s.await(t, all, mine, theirs)
	s.await(t, some, theirs)
	late := s.clusterIn(t, unbound, nil)
	s.settle(t)
	require.NotContains(t, chosen(s.decisions(t, all)), late)
	s.relabel(t, mine, clusterv1beta2.ClusterSetLabel, unbound)
	s.await(t, all, theirs)
	s.create(t, &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: missing}})
	s.relabel(t, mine, clusterv1beta2.ClusterSetLabel, missing)
	s.await(t, some, theirs, mine)
}

func unboundBinding(t *testing.T) {
	t.Helper()
	s := newScene(t)
	one := s.cluster(t, nil)
	binding := &clusterv1beta2.ManagedClusterSetBinding{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.set}}
	report(t, s, binding, func(b *clusterv1beta2.ManagedClusterSetBinding) {
		b.Status.Conditions = []metav1.Condition{{Type: "Bound", Status: metav1.ConditionFalse, Reason: "Test", LastTransitionTime: metav1.Now()}}
	})
	s.await(t, s.place(t, nil), one)
}

func nobody(t *testing.T) {
	t.Helper()
	s := newScene(t)
	p := s.place(t, matching(byLabel("a", "b")))
	binding := &clusterv1beta2.ManagedClusterSetBinding{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.set}}
	require.NoError(t, s.kube.Delete(t.Context(), binding))
	s.awaitSatisfied(t, p, metav1.ConditionFalse, "NoManagedClusterSetBindings", "")
	s.bind(t, s.set)
	s.awaitSatisfied(t, p, metav1.ConditionFalse, "AllManagedClusterSetsEmpty", "")
	one := s.cluster(t, nil)
	s.awaitSatisfied(t, p, metav1.ConditionFalse, "NoManagedClusterMatched", "")
	s.relabel(t, one, "a", "b")
	s.awaitSatisfied(t, p, metav1.ConditionTrue, "AllDecisionsScheduled", "All cluster decisions scheduled")
	s.awaitCondition(t, p, "PlacementMisconfigured", metav1.ConditionFalse, "Succeedconfigured", "Placement configurations check pass")
}

// oneReason has a Placement come to be where the reason is already there.
func oneReason(t *testing.T, row string) {
	t.Helper()
	s := newScene(t)
	switch row {
	case "PL-05_no_intersection":
		s.cluster(t, nil)
		s.awaitSatisfied(t, s.place(t, func(spec *spec) { spec.ClusterSets = []string{s.newSet(t)} }), metav1.ConditionFalse, "NoIntersection", "")
	case "PL-06_empty_sets":
		s.awaitSatisfied(t, s.place(t, nil), metav1.ConditionFalse, "AllManagedClusterSetsEmpty", "")
	default:
		s.cluster(t, nil)
		s.awaitSatisfied(t, s.place(t, matching(byLabel("a", "b"))), metav1.ConditionFalse, "NoManagedClusterMatched", "")
	}
}

func howMany(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 2)
	three := s.place(t, best(3)) // by name alone
	s.awaitSatisfied(t, three, metav1.ConditionFalse, "NotAllDecisionsScheduled", "1 cluster decisions unscheduled")
	s.await(t, three, all...)
	open := s.place(t, nil)
	s.await(t, open, all...)
	third := s.cluster(t, nil)
	s.awaitSatisfied(t, three, metav1.ConditionTrue, "AllDecisionsScheduled", "All cluster decisions scheduled")
	s.await(t, open, append(all, third)...)
	fourth := s.cluster(t, nil)
	s.await(t, open, append(all, third, fourth)...)
	s.await(t, three, append(all, third)...)
}

func deleting(t *testing.T) {
	t.Helper()
	s := newScene(t)
	held := s.cluster(t, nil, func(c *clusterv1.ManagedCluster) { c.Finalizers = []string{"test.fairlead.dev/hold"} })
	stays := s.cluster(t, nil)
	p := s.place(t, nil)
	s.await(t, p, held, stays)
	require.NoError(t, s.kube.Delete(t.Context(), named(held)))
	s.await(t, p, stays)
	require.NoError(t, s.kube.Get(t.Context(), client.ObjectKey{Name: held}, named(held)), "it is still there")
	change(t, s, named(held), func(c *clusterv1.ManagedCluster) { c.Finalizers = nil })
}

func TestPlacement_predicates(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"PL-11_PL-15_labels":                 byLabels,
		"PL-13_PL-14_or_and":                 orAnd,
		"PL-16_claims":                       byClaims,
		"PL-17_PL-19_CEL":                    celLibraries,
		"PL-18_CEL_scores":                   celScores,
		"PL-20_CEL_errors":                   celErrors,
		"PL-21_budget_of_a_Placement":        celBudget,
		"PL-21_CEL_costs":                    celCosts,
		"PL-14_all_three_parts_of_predicate": allParts,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
	}
}

func byLabels(t *testing.T) {
	t.Helper()
	s := newScene(t)
	east, west, none := s.cluster(t, labels{"at": "east"}), s.cluster(t, labels{"at": "west"}), s.cluster(t, nil)
	for _, tc := range []struct {
		need needs
		want []string
	}{
		{needs{Key: "at", Operator: "In", Values: []string{"east", "north"}}, []string{east}},
		{needs{Key: "at", Operator: "NotIn", Values: []string{"east"}}, []string{west, none}},
		{needs{Key: "at", Operator: "Exists"}, []string{east, west}},
		{needs{Key: "at", Operator: "DoesNotExist"}, []string{none}},
	} {
		s.await(t, s.place(t, matching(predicate{RequiredClusterSelector: clusterv1beta1.ClusterSelector{
			LabelSelector: metav1.LabelSelector{MatchExpressions: []needs{tc.need}},
		}})), tc.want...)
	}
	p := s.place(t, matching(byLabel("not a key", "x")))
	s.awaitMisconfigured(t, p, "not a key")
	require.Empty(t, chosen(s.decisions(t, p)))
	change(t, s, p, func(p *clusterv1beta1.Placement) { p.Spec.Predicates = []predicate{byLabel("at", "west")} })
	s.await(t, p, west)
	s.awaitCondition(t, p, "PlacementMisconfigured", metav1.ConditionFalse, "Succeedconfigured", "Placement configurations check pass")
}

func orAnd(t *testing.T) {
	t.Helper()
	s := newScene(t)
	a, b, both, none := s.cluster(t, labels{"a": "1"}), s.cluster(t, labels{"b": "1"}), s.cluster(t, labels{"a": "1", "b": "1"}), s.cluster(t, nil)
	s.await(t, s.place(t, matching(byLabel("a", "1"), byLabel("b", "1"))), a, b, both)
	s.await(t, s.place(t, matching(predicate{RequiredClusterSelector: clusterv1beta1.ClusterSelector{
		LabelSelector: metav1.LabelSelector{MatchLabels: labels{"a": "1", "b": "1"}},
	}})), both)
	s.await(t, s.place(t, nil), a, b, both, none)
}

func allParts(t *testing.T) {
	t.Helper()
	s := newScene(t)
	claim := claiming(clusterv1.ManagedClusterClaim{Name: "size", Value: "big"})
	want := s.cluster(t, labels{"a": "1"}, claim)
	s.cluster(t, labels{"a": "1"})
	s.cluster(t, nil, claim)
	s.cluster(t, labels{"a": "1", "not": "me"}, claim)
	s.await(t, s.place(t, matching(predicate{RequiredClusterSelector: clusterv1beta1.ClusterSelector{
		LabelSelector: metav1.LabelSelector{MatchLabels: labels{"a": "1"}},
		ClaimSelector: clusterv1beta1.ClusterClaimSelector{MatchExpressions: []needs{{Key: "size", Operator: "In", Values: []string{"big"}}}},
		CelSelector:   clusterv1beta1.ClusterCelSelector{CelExpressions: []string{`!("not" in managedCluster.metadata.labels)`}},
	}})), want)
}

func byClaims(t *testing.T) {
	t.Helper()
	s := newScene(t)
	big := s.cluster(t, nil, claiming(clusterv1.ManagedClusterClaim{Name: "size", Value: "big"}))
	small := s.cluster(t, nil, claiming(clusterv1.ManagedClusterClaim{Name: "size", Value: "small"}))
	none := s.cluster(t, labels{"size": "big"})
	in := s.place(t, matching(byClaim(needs{Key: "size", Operator: "In", Values: []string{"big"}})))
	s.await(t, in, big)
	s.await(t, s.place(t, matching(byClaim(needs{Key: "size", Operator: "NotIn", Values: []string{"big"}}))), small, none)
	s.await(t, s.place(t, matching(byClaim(needs{Key: "size", Operator: "Exists"}))), big, small)
	s.await(t, s.place(t, matching(byClaim(needs{Key: "size", Operator: "DoesNotExist"}))), none)
	report(t, s, named(small), func(c *clusterv1.ManagedCluster) { c.Status.ClusterClaims[0].Value = "big" })
	s.await(t, in, big, small)
}

func celLibraries(t *testing.T) {
	t.Helper()
	s := newScene(t)
	one := s.cluster(t, labels{"v": "1.30.2", "data": "x"}, func(c *clusterv1.ManagedCluster) {
		c.Status.Version.Kubernetes = "v1.30.2"
		c.Status.ClusterClaims = claims{{Name: "facts", Value: `{"zones":["a","b"],"url":"https://x.example:8443/y"}`}}
		c.Spec.LeaseDurationSeconds = 42
	})
	facts := `managedCluster.status.clusterClaims.exists(c, c.name == "facts" && `
	for _, expression := range []string{
		`managedCluster.spec.leaseDurationSeconds == 42`,
		`managedCluster.status.version.kubernetes.find("[0-9]+[.][0-9]+") == "1.30"`,
		facts + `"b" in c.value.parseJSON().zones)`,
		facts + `url(c.value.parseJSON().url).getPort() == "8443")`,
		`quantity("1Gi").isGreaterThan(quantity("1M"))`,
		`semver(managedCluster.metadata.labels["v"]).isGreaterThan(semver("1.29.0"))`,
		`[3, 1, 2].isSorted() == false && [1, 2].sum() == 3`,
	} {
		s.await(t, s.place(t, matching(byCEL(expression))), one)
	}
	s.await(t, s.place(t, matching(byCEL(`true`, `managedCluster.metadata.name == "other"`))))
}

func celScores(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 3)
	s.score(t, all[0], "load", time.Time{}, map[string]int32{"cpu": 80})
	s.score(t, all[1], "load", time.Time{}, map[string]int32{"cpu": 10})
	p := s.place(t, matching(byCEL(`managedCluster.scores("load").exists(s, s.name == "cpu" && s.value > 50)`)))
	s.await(t, p, all[0])
	s.awaitCondition(t, p, "PlacementMisconfigured", metav1.ConditionFalse, "Succeedconfigured", "")
	s.await(t, s.place(t, matching(byCEL(`managedCluster.scores("load").size() >= 0`))), all[0], all[1])
	s.score(t, all[1], "load", time.Time{}, map[string]int32{"cpu": 90})
	s.await(t, p, all[0], all[1])
}

func celErrors(t *testing.T) {
	t.Helper()
	s := newScene(t)
	good := s.cluster(t, labels{"n": "1"})
	s.cluster(t, nil)
	p := s.place(t, matching(byCEL(`managedCluster.metadata.labels["n"] == "1"`)))
	s.await(t, p, good) // the other has no such label, which is an error there
	s.awaitCondition(t, p, "PlacementMisconfigured", metav1.ConditionFalse, "Succeedconfigured", "")
	for _, bad := range []string{`managedCluster.`, `1 + 1`, `no.such == "x"`} {
		change(t, s, p, func(p *clusterv1beta1.Placement) { p.Spec.Predicates = []predicate{byCEL(bad)} })
		s.awaitMisconfigured(t, p, "Predicate:")
		s.await(t, p)
	}
	change(t, s, p, func(p *clusterv1beta1.Placement) { p.Spec.Predicates = nil })
	s.awaitCondition(t, p, "PlacementMisconfigured", metav1.ConditionFalse, "Succeedconfigured", "")
}

// costly is an expression that is true and costs 10 000 a turn, by the lengths of
// its strings, though it takes no time.
func costly(turns int) string {
	numbers := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(make([]int, turns))), ","), "[]")
	return fmt.Sprintf("[%s].all(n, %[2]q.contains(%[2]q))", numbers, strings.Repeat("a", 1000))
}

func celCosts(t *testing.T) {
	t.Helper()
	s := newScene(t)
	one := s.cluster(t, nil)
	cheap, dear := costly(10), costly(150)
	s.await(t, s.place(t, matching(byCEL(cheap))), one)
	tooDear := s.place(t, matching(byCEL(dear)))
	s.await(t, tooDear)
	s.awaitCondition(t, tooDear, "PlacementMisconfigured", metav1.ConditionFalse, "Succeedconfigured", "")
	middle := costly(60)
	s.await(t, s.place(t, matching(byCEL(middle))), one)
	many := make([]string, 40)
	for i := range many {
		many[i] = middle
	}
	s.await(t, s.place(t, matching(byCEL(many...)))) // each alone is cheap enough
}

// celBudget has expressions that cost 9 000 000 on a cluster, of 100 000 000 that a
// Placement may spend: eleven clusters are within the budget, twelve are not.
func celBudget(t *testing.T) {
	t.Helper()
	s := newScene(t)
	dear := make([]string, 15)
	for i := range dear {
		dear[i] = costly(60)
	}
	all := s.clusters(t, 11)
	p := s.place(t, matching(byCEL(dear...)))
	s.await(t, p, all...) // in many turns, as it costs more than a portion
	late := s.cluster(t, nil)
	s.awaitMisconfigured(t, p, "Predicate:celExpressions cost more than 100000000 on 12 of 12 clusters")
	s.awaitSatisfied(t, p, metav1.ConditionFalse, "NotAllDecisionsScheduled", "")
	s.await(t, p, all...)
	s.await(t, s.place(t, nil), append(all, late)...) // others go on

	s.cluster(t, nil) // so that it is not cheap enough without the one that leaves
	s.relabel(t, all[0], clusterv1beta2.ClusterSetLabel, "no-such-set")
	s.await(t, p, all[1:]...)
	s.awaitMisconfigured(t, p, "Predicate:celExpressions cost more than 100000000")

	s.relabel(t, all[1], "cheap", "1")
	change(t, s, p, func(p *clusterv1beta1.Placement) {
		p.Spec.Predicates = []predicate{byCEL(dear...)}
		p.Spec.Predicates[0].RequiredClusterSelector.LabelSelector.MatchLabels = labels{"cheap": "1"}
	})
	s.await(t, p, all[1])
	s.awaitCondition(t, p, "PlacementMisconfigured", metav1.ConditionFalse, "Succeedconfigured", "")
}
