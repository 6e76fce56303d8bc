// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/server/scheduling"
)

// small is a hub with set a, bound to namespace n, of c1, c2 and c3.
func small(t *testing.T) *hub {
	t.Helper()
	h := newHub(t)
	h.set("a")
	h.bind("n", "a")
	for _, name := range []string{"c1", "c2", "c3"} {
		h.cluster(name, "set=a")
	}
	return h
}

// chosen decides a spec.
func (h *hub) chosen(spec string) []string {
	h.t.Helper()
	h.placement("n/p", spec)
	return h.decide("n/p").Clusters
}

func (h *hub) requireSatisfied(t *testing.T, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	c := h.decide("n/p").Satisfied
	require.Equal(t, "PlacementSatisfied", c.Type)
	require.Equal(t, reason, c.Reason, c.Message)
	require.Equal(t, status, c.Status)
	require.Contains(t, c.Message, message)
}

func (h *hub) requireMisconfigured(t *testing.T, message string) {
	t.Helper()
	o := h.decide("n/p")
	require.Equal(t, "PlacementMisconfigured", o.Misconfigured.Type)
	require.Equal(t, metav1.ConditionTrue, o.Misconfigured.Status)
	require.Equal(t, "Misconfigured", o.Misconfigured.Reason)
	require.Contains(t, o.Misconfigured.Message, message)
	require.Empty(t, o.Clusters)
	require.Equal(t, metav1.ConditionFalse, o.Satisfied.Status)
}

// TestConditions: which of the reasons a placement has.
func TestConditions(t *testing.T) {
	t.Run("PL-04_no_binding", func(t *testing.T) {
		h := small(t)
		h.RemoveBinding("n", "a")
		require.Empty(t, h.chosen(""))
		h.requireSatisfied(t, metav1.ConditionFalse, scheduling.ReasonNoBindings, `namespace "n"`)
	})
	t.Run("PL-05_none_of_the_sets_is_bound", func(t *testing.T) {
		h := small(t)
		require.Empty(t, h.chosen("clusterSets: [b]"))
		h.requireSatisfied(t, metav1.ConditionFalse, scheduling.ReasonNoIntersection, "(b)")
	})
	t.Run("PL-06_sets_without_clusters", func(t *testing.T) {
		h := small(t)
		h.set("b")
		h.bind("n", "b")
		require.Empty(t, h.chosen("clusterSets: [b]"))
		h.requireSatisfied(t, metav1.ConditionFalse, scheduling.ReasonSetsEmpty, "(b)")
	})
	t.Run("PL-07_nothing_passes", func(t *testing.T) {
		h := small(t)
		require.Empty(t, h.chosen("predicates: [{requiredClusterSelector: {labelSelector: {matchLabels: {x: y}}}}]"))
		h.requireSatisfied(t, metav1.ConditionFalse, scheduling.ReasonNoneMatched, "")
	})
	t.Run("PL-08_too_few", func(t *testing.T) {
		h := small(t)
		require.Equal(t, []string{"c1", "c2", "c3"}, h.chosen("numberOfClusters: 5"))
		h.requireSatisfied(t, metav1.ConditionFalse, scheduling.ReasonNotAllScheduled, "2 cluster decisions unscheduled")
	})
	t.Run("PL-09_all", func(t *testing.T) {
		h := small(t)
		require.Equal(t, []string{"c1", "c2"}, h.chosen("numberOfClusters: 2"))
		h.requireSatisfied(t, metav1.ConditionTrue, scheduling.ReasonAllScheduled, "All cluster decisions scheduled")
	})
	t.Run("PL-10_without_a_number", func(t *testing.T) {
		h := small(t)
		h.RemoveCluster("c1")
		h.RemoveCluster("c3")
		require.Equal(t, []string{"c2"}, h.chosen(""))
		h.requireSatisfied(t, metav1.ConditionTrue, scheduling.ReasonAllScheduled, "")
	})
	t.Run("PL-11_well_configured", func(t *testing.T) {
		h := small(t)
		h.chosen("")
		c := h.decide("n/p").Misconfigured
		require.Equal(t, metav1.ConditionFalse, c.Status)
		require.Equal(t, "Succeedconfigured", c.Reason)
		require.Equal(t, "Placement configurations check pass", c.Message)
	})
	t.Run("PL-11_misconfigured", func(t *testing.T) {
		h := small(t)
		h.chosen("tolerations: [{operator: Exists, value: x}]")
		h.requireMisconfigured(t, `TaintToleration:spec.tolerations[0].value is "x"`)
	})
}

// TestSets: which clusters a placement can choose from at all.
func TestSets(t *testing.T) {
	t.Run("PL-02_bound_sets_and_those_of_the_spec", func(t *testing.T) {
		h := small(t)
		h.set("b", "region=eu")
		h.cluster("c4", "region=eu")
		require.Equal(t, []string{"c1", "c2", "c3"}, h.chosen(""))
		h.bind("n", "b")
		require.Equal(t, []string{"c1", "c2", "c3", "c4"}, h.chosen(""))
		require.Equal(t, []string{"c4"}, h.chosen("clusterSets: [b, x]"))
	})
	t.Run("PL-03_the_set_exists_or_not", func(t *testing.T) {
		h := small(t)
		h.bind("n", "b")
		h.cluster("c4", "set=b")
		require.Equal(t, []string{"c1", "c2", "c3"}, h.chosen(""))
		h.set("b")
		require.Equal(t, []string{"c1", "c2", "c3", "c4"}, h.chosen(""))
		h.RemoveSet("b")
		require.Equal(t, []string{"c1", "c2", "c3"}, h.chosen(""))
	})
	t.Run("PL-12_deleting", func(t *testing.T) {
		h := small(t)
		h.cluster("c2", "set=a", "deleting")
		h.decided("n/p", "c2")
		require.Equal(t, []string{"c1", "c3"}, h.chosen(""))
	})
	t.Run("PL-54_a_set_is_bound", func(t *testing.T) {
		h := small(t)
		h.set("b")
		h.cluster("c4", "set=b")
		h.placement("n/p", "")
		h.Dirty()
		h.decide("n/p")
		h.bind("n", "b")
		require.Len(t, h.Dirty(), 1)
		require.Contains(t, h.decide("n/p").Clusters, "c4")
	})
	t.Run("PL-62_no_way_to_what_is_not_bound", func(t *testing.T) {
		h := small(t)
		h.set("b")
		h.cluster("secret", "set=b", "claim:x=y")
		h.score("secret", "s", "v=100")
		h.decided("n/p", "secret")
		for _, spec := range []string{
			"", "clusterSets: [b]", "tolerations: [{operator: Exists}]",
			`predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['managedCluster.metadata.name == "secret"']}}}]`,
			`predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['{"metadata": {"name": "secret"}}.scores("s").size() > 0']}}}]`,
		} {
			require.NotContains(t, h.chosen(spec), "secret", spec)
		}
		require.Empty(t, h.chosen(`predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['{"metadata": {"name": "secret"}}.scores("s").size() > 0']}}}]`),
			"scores() answers only for the cluster at hand")
	})
}

// TestPredicates: which clusters the predicates let through.
func TestPredicates(t *testing.T) {
	selector := func(text string) string { return "{requiredClusterSelector: {" + text + "}}" }
	h := small(t)
	h.cluster("c1", "set=a", "region=eu", "claim:id=1", `claim:data={"n": {"m": [1, 2]}}`)
	h.cluster("c2", "set=a", "region=us", "claim:id=2", "cpu=2")
	h.cluster("c3", "set=a", "claim:id=3", "cpu=7")
	h.score("c1", "s", "v=5", "w=-1")
	h.score("c2", "s", "v=50")
	cel := func(expressions ...string) string {
		return selector("celSelector: {celExpressions: ['" + strings.Join(expressions, "', '") + "']}")
	}
	for name, tc := range map[string]struct {
		predicates string
		want       string
	}{
		"PL-13_one_of_two":                  {selector("labelSelector: {matchLabels: {region: eu}}") + "," + selector("claimSelector: {matchExpressions: [{key: id, operator: In, values: ['3']}]}"), "c1 c3"},
		"PL-13_none_at_all":                 {"", "c1 c2 c3"},
		"PL-14_all_three_parts":             {selector(`labelSelector: {matchExpressions: [{key: region, operator: Exists}]}, claimSelector: {matchExpressions: [{key: id, operator: NotIn, values: ['1']}]}, celSelector: {celExpressions: ['managedCluster.metadata.name != "c3"']}`), "c2"},
		"PL-15_In":                          {selector("labelSelector: {matchExpressions: [{key: region, operator: In, values: [us, ap]}]}"), "c2"},
		"PL-15_NotIn_takes_those_without":   {selector("labelSelector: {matchExpressions: [{key: region, operator: NotIn, values: [us]}]}"), "c1 c3"},
		"PL-15_DoesNotExist":                {selector("labelSelector: {matchExpressions: [{key: region, operator: DoesNotExist}]}"), "c3"},
		"PL-16_claims":                      {selector("claimSelector: {matchExpressions: [{key: id, operator: In, values: ['1', '2']}]}"), "c1 c2"},
		"PL-16_claims_that_exist":           {selector("claimSelector: {matchExpressions: [{key: data, operator: Exists}]}"), "c1"},
		"PL-17_all_expressions":             {cel(`managedCluster.metadata.labels["region"] in ["eu", "us"]`, `managedCluster.status.clusterClaims.exists(c, c.name == "id" && c.value == "2")`), "c2"},
		"PL-17_the_status":                  {cel(`quantity(managedCluster.status.allocatable["cpu"]).isGreaterThan(quantity("3"))`), "c3"},
		"PL-18_scores":                      {cel(`managedCluster.scores("s").filter(s, s.name == "v").all(s, s.value > 10)`), "c2"},
		"PL-18_a_missing_object_is_a_fault": {cel(`managedCluster.scores("s").size() < 10`), "c1 c2"},
		"PL-19_parseJSON":                   {cel(`managedCluster.status.clusterClaims.exists(c, c.name == "data" && c.value.parseJSON().n.m[1] == 2)`), "c1"},
		"PL-19_Kubernetes_libraries": {cel(`"abc123".find("[0-9]+") == "123"`, `isURL("https://x/y")`, `[3, 1, 2].sum() == 6`, `semver("1.2.3").isLessThan(semver("2.0.0"))`,
			`ip("10.0.0.1").family() == 4`, `cidr("10.0.0.0/8").containsIP("10.1.1.1")`, `"a-b".split("-").size() == 2`, `sets.contains([1, 2], [1])`), "c1 c2 c3"},
		"PL-20_a_fault_on_some":      {cel(`managedCluster.metadata.labels["region"] == "eu"`), "c1"},
		"PL-20_not_a_bool_after_all": {cel(`managedCluster.metadata.name`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			h.placement("n/"+strings.ToLower(name), "predicates: ["+tc.predicates+"]")
			o := h.decide("n/" + strings.ToLower(name))
			require.Equal(t, metav1.ConditionFalse, o.Misconfigured.Status, o.Misconfigured.Message)
			require.Equal(t, tc.want, strings.Join(o.Clusters, " "))
		})
	}
	for name, tc := range map[string]struct{ predicates, message string }{
		"PL-15_invalid": {selector("labelSelector: {matchExpressions: [{key: region, operator: Near}]}"), "Predicate:spec.predicates[0].requiredClusterSelector.labelSelector"},
		"PL-16_invalid": {selector("claimSelector: {matchExpressions: [{key: id, operator: In}]}"), "Predicate:spec.predicates[0].requiredClusterSelector.claimSelector"},
		"PL-17_no_bool": {cel(`1 + 1`), "want bool"},
		"PL-20_syntax":  {cel(`managedCluster.`), "does not compile"},
		"PL-20_unknown": {cel(`nothing == 1`), "undeclared reference"},
	} {
		t.Run(name, func(t *testing.T) {
			h.chosen("predicates: [" + tc.predicates + "]")
			h.requireMisconfigured(t, tc.message)
			h.requireSatisfied(t, metav1.ConditionFalse, scheduling.ReasonNoneMatched, "")
		})
	}
}

// TestExpressions: what evaluation may cost.
func TestExpressions(t *testing.T) {
	h := newHub(t)
	h.set("a")
	h.bind("n", "a")
	h.cluster("c1", "set=a", "claim:long="+strings.Repeat("a", 1<<20)) // to join it with itself costs 200 000, then 300 000
	expressions := func(reads ...int) string {
		var all []string
		for _, n := range reads {
			const value = "string(managedCluster.status.clusterClaims[0].value)"
			all = append(all, `'`+value+strings.Repeat(" + "+value, n)+` != ""'`)
		}
		return "predicates: [{requiredClusterSelector: {celSelector: {celExpressions: [" + strings.Join(all, ",") + "]}}}]"
	}
	t.Run("PL-21_the_limit_of_a_call", func(t *testing.T) {
		require.Len(t, h.chosen(expressions(3)), 1)
		require.Empty(t, h.chosen(expressions(4)))
		h.requireSatisfied(t, metav1.ConditionFalse, scheduling.ReasonNoneMatched, "")
		require.Equal(t, metav1.ConditionFalse, h.decide("n/p").Misconfigured.Status)
	})
	t.Run("PL-21_the_budget_of_all_expressions", func(t *testing.T) {
		require.Len(t, h.chosen(expressions(3, 3, 3, 3, 3, 3, 3, 3, 3, 3)), 1)
		require.Empty(t, h.chosen(expressions(3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3)))
		e, _ := h.Explain(key("n/p"), h.now)
		require.Contains(t, e.All[0].Why, "all expressions together cost more than 10000000")
	})
}

// TestTaints: which clusters taints keep away, and until when.
func TestTaints(t *testing.T) {
	tainted := func(t *testing.T, taint string) *hub {
		t.Helper()
		h := small(t)
		h.cluster("c2", "set=a", "taint:"+taint)
		return h
	}
	for name, tc := range map[string]struct {
		taint, tolerations string
		had, in            bool
	}{
		"PL-22_NoSelect":                        {"k:NoSelect", "", true, false},
		"PL-22_NoSelectIfNew_if_new":            {"k:NoSelectIfNew", "", false, false},
		"PL-22_NoSelectIfNew_if_not":            {"k:NoSelectIfNew", "", true, true},
		"PL-22_PreferNoSelect":                  {"k:PreferNoSelect", "", false, true},
		"PL-23_Equal_by_default":                {"k=v:NoSelect", "{key: k, value: v}", false, true},
		"PL-23_Equal_with_another_value":        {"k=v:NoSelect", "{key: k, value: w}", false, false},
		"PL-23_Equal_with_another_key":          {"k=v:NoSelect", "{key: l, value: v}", false, false},
		"PL-23_Exists":                          {"k=v:NoSelect", "{key: k, operator: Exists}", false, true},
		"PL-23_everything":                      {"k=v:NoSelect", "{operator: Exists}", false, true},
		"PL-23_of_this_effect":                  {"k:NoSelectIfNew", "{key: k, operator: Exists, effect: NoSelectIfNew}", false, true},
		"PL-23_of_another_effect":               {"k:NoSelect", "{key: k, operator: Exists, effect: NoSelectIfNew}", false, false},
		"PL-26_unreachable":                     {"cluster.open-cluster-management.io/unreachable:NoSelect", "", true, false},
		"PL-26_unavailable":                     {"cluster.open-cluster-management.io/unavailable:NoSelect", "", true, false},
		"PL-26_tolerated":                       {"cluster.open-cluster-management.io/unreachable:NoSelect", "{key: cluster.open-cluster-management.io/unreachable, operator: Exists}", true, true},
		"PL-25_tolerated_for_a_while_still":     {"k:NoSelect@10s", "{key: k, operator: Exists, tolerationSeconds: 11}", true, true},
		"PL-25_tolerated_for_a_while_no_longer": {"k:NoSelect@10s", "{key: k, operator: Exists, tolerationSeconds: 10}", true, false},
		"PL-25_the_longest_counts":              {"k:NoSelect@10s", "{key: k, operator: Exists, tolerationSeconds: 1}, {operator: Exists, tolerationSeconds: 20}", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := tainted(t, tc.taint)
			if tc.had {
				h.decided("n/p", "c2")
			}
			clusters := h.chosen("tolerations: [" + tc.tolerations + "]")
			require.Equal(t, tc.in, len(clusters) == 3, clusters)
		})
	}
	for name, tolerations := range map[string]string{
		"PL-24_Exists_with_a_value":   "{key: k, operator: Exists, value: v}",
		"PL-24_Equal_without_a_key":   "{operator: Equal, value: v}",
		"PL-24_Default_without_a_key": "{value: v}",
	} {
		t.Run(name, func(t *testing.T) {
			h := tainted(t, "k=v:NoSelect")
			h.chosen("tolerations: [" + tolerations + "]")
			h.requireMisconfigured(t, "TaintToleration:spec.tolerations[0]")
			require.Len(t, h.chosen("tolerations: [{key: k, value: v}]"), 3)
			require.Equal(t, metav1.ConditionFalse, h.decide("n/p").Misconfigured.Status)
		})
	}
	t.Run("PL-25_says_when_it_ends", func(t *testing.T) {
		h := tainted(t, "k:NoSelect@10s")
		require.Len(t, h.chosen("tolerations: [{key: k, operator: Exists, tolerationSeconds: 60}]"), 3)
		again := h.decide("n/p").Again
		require.Equal(t, 50*time.Second, again.Sub(h.now))
		h.now = again
		require.Len(t, h.decide("n/p").Clusters, 2)
		require.Zero(t, h.decide("n/p").Again)
	})
}
