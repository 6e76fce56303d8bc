// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/server/scheduling"
)

// scores decides a policy and gives the score of each cluster, best first.
func (h *hub) scores(policy string) string {
	h.t.Helper()
	h.placement("n/p", "prioritizerPolicy: {"+policy+"}")
	var all []string
	for _, s := range h.decide("n/p").Scores {
		all = append(all, fmt.Sprintf("%s:%d", s.Cluster, s.Score))
	}
	return strings.Join(all, " ")
}

func exact(builtIn string) string {
	return "mode: Exact, configurations: [{scoreCoordinate: {builtIn: " + builtIn + "}}]"
}

const addOn = "mode: Exact, configurations: [{scoreCoordinate: {type: AddOn, addOn: {resourceName: s, scoreName: v}}}]"

// TestPrioritizers: what each gives, and what they come to.
func TestPrioritizers(t *testing.T) {
	t.Run("PL-27_by_score_then_name", func(t *testing.T) {
		h := small(t)
		h.score("c3", "s", "v=1")
		require.Equal(t, "c3:1 c1:0 c2:0", h.scores(addOn))
		h.placement("n/p", "numberOfClusters: 2\nprioritizerPolicy: {"+addOn+"}")
		require.Equal(t, []string{"c3", "c1"}, h.decide("n/p").Clusters)
	})
	t.Run("PL-28_Additive_and_Exact", func(t *testing.T) {
		h := small(t)
		h.decided("n/p", "c2")
		require.Equal(t, "c2:200 c1:100 c3:100", h.scores(""))
		require.Equal(t, "c2:300 c1:100 c3:100", h.scores("mode: Additive, configurations: [{scoreCoordinate: {builtIn: Steady}, weight: 2}]"))
		require.Equal(t, "c2:100 c1:0 c3:0", h.scores(exact("Steady")))
		require.Equal(t, "c1:0 c2:0 c3:0", h.scores("mode: Exact"))
	})
	t.Run("PL-28_a_mode_nobody_knows", func(t *testing.T) {
		h := small(t)
		h.scores("mode: Guess")
		h.requireMisconfigured(t, "incorrect prioritizer mode: Guess")
	})
	t.Run("PL-29_weights", func(t *testing.T) {
		h := small(t)
		h.decided("n/p", "c2")
		require.Equal(t, "c1:0 c2:0 c3:0", h.scores("configurations: [{scoreCoordinate: {builtIn: Steady}, weight: 0}, {scoreCoordinate: {builtIn: Balance}, weight: 0}]"))
		require.Equal(t, "c1:0 c3:0 c2:-1000", h.scores("mode: Exact, configurations: [{scoreCoordinate: {builtIn: Steady}, weight: -10}]"))
	})
	t.Run("PL-30_coordinates", func(t *testing.T) {
		h := small(t)
		h.decided("n/p", "c2")
		require.Equal(t, "c2:100 c1:0 c3:0", h.scores("mode: Exact, configurations: [{scoreCoordinate: {type: BuiltIn, builtIn: Steady}}]"))
		h.scores("configurations: [{scoreCoordinate: {type: AddOn}}]")
		h.requireMisconfigured(t, "configurations[0].scoreCoordinate.addOn")
		h.scores("configurations: [{scoreCoordinate: {type: Else}}]")
		h.requireMisconfigured(t, "incorrect score coordinate type: Else")
		h.scores("configurations: [{weight: 2}]")
		h.requireMisconfigured(t, "configurations[0].scoreCoordinate is missing")
	})
	t.Run("PL-31_Balance", func(t *testing.T) {
		h := small(t)
		require.Equal(t, "c1:100 c2:100 c3:100", h.scores(exact("Balance")))
		h.decided("n/q", "c1", "c2")
		h.decided("n/r", "c1")
		h.decided("n/s", "c1")
		// c1 has 3 of 3; c2 has 1 of 3: 2×int(100×(0.5−1/3)) = 2×16
		require.Equal(t, "c3:100 c2:32 c1:-100", h.scores(exact("Balance")))
	})
	t.Run("PL-32_Balance_of_all_namespaces_but_not_of_itself", func(t *testing.T) {
		h := small(t)
		h.decided("n/p", "c1")
		require.Equal(t, "c1:100 c2:100 c3:100", h.scores(exact("Balance")))
		h.decided("elsewhere/p", "c2")
		require.Equal(t, "c1:100 c3:100 c2:-100", h.scores(exact("Balance")))
	})
	t.Run("PL-33_Steady", func(t *testing.T) {
		h := small(t)
		h.PutDecision(decision("n/p", 1, "c3"))
		h.PutDecision(decision("n/p", 2, "c2"))
		require.Equal(t, "c2:100 c3:100 c1:0", h.scores(exact("Steady")))
	})
	t.Run("PL-34_allocatable", func(t *testing.T) {
		h := small(t)
		for i, memory := range []string{"10Gi", "20Gi", "40Gi"} {
			h.cluster(fmt.Sprintf("c%d", i+1), "set=a", "cpu=500m", "memory="+memory)
		}
		require.Equal(t, "c3:100 c2:-33 c1:-100", h.scores(exact("ResourceAllocatableMemory")))
		require.Equal(t, "c1:100 c2:100 c3:100", h.scores(exact("ResourceAllocatableCPU")), "all are equal")
		h.cluster("c3", "set=a", "cpu=1")
		require.Equal(t, "c2:100 c3:0 c1:-100", h.scores(exact("ResourceAllocatableMemory")), "one does not say")
	})
	t.Run("PL-35_add_on", func(t *testing.T) {
		h := small(t)
		h.score("c1", "s", "v=-100", "w=7")
		h.score("c2", "s", "w=7")
		h.score("c3", "s", "v=42")
		require.Equal(t, "c3:42 c2:0 c1:-100", h.scores(addOn))
	})
	t.Run("PL-36_expires", func(t *testing.T) {
		h := small(t)
		h.score("c1", "s", "v=50", "until=10s")
		h.score("c2", "s", "v=40", "until=20s")
		require.Equal(t, "c1:50 c2:40 c3:0", h.scores(addOn))
		o := h.decide("n/p")
		require.Empty(t, o.Expired)
		require.Equal(t, 10*time.Second, o.Again.Sub(h.now))
		h.now = o.Again
		require.Equal(t, "c2:40 c1:0 c3:0", h.scores(addOn))
		o = h.decide("n/p")
		require.Equal(t, []string{"c1/s"}, o.Expired)
		require.Equal(t, 10*time.Second, o.Again.Sub(h.now))
	})
	t.Run("PL-37_a_score_changes", func(t *testing.T) {
		h := small(t)
		h.score("c1", "s", "v=50")
		h.scores(addOn)
		h.Dirty()
		h.decide("n/p")
		h.score("c1", "s", "v=50")
		h.score("c1", "other", "v=1")
		require.Empty(t, h.Dirty(), "nothing changed that it asks for")
		h.score("c1", "s", "v=51")
		require.Len(t, h.Dirty(), 1)
		h.RemoveScore("c1", "s")
		require.Len(t, h.Dirty(), 1)
	})
	t.Run("PL-38_no_such_prioritizer", func(t *testing.T) {
		h := small(t)
		h.scores(exact("Spread"))
		h.requireMisconfigured(t, "incorrect builtin prioritizer: Spread")
		h.requireSatisfied(t, metav1.ConditionFalse, scheduling.ReasonNotAllScheduled, "3 cluster decisions unscheduled")
	})
	t.Run("PL-40_stays_until_beaten", func(t *testing.T) {
		h := small(t)
		policy := "numberOfClusters: 1\nprioritizerPolicy: {configurations: [{scoreCoordinate: {type: AddOn, addOn: {resourceName: s, scoreName: v}}}]}"
		h.placement("n/p", policy)
		require.Equal(t, []string{"c1"}, h.keep("n/p"))
		h.score("c3", "s", "v=100")
		require.Equal(t, []string{"c1"}, h.keep("n/p"), "no better by more than 100×1, and c1 sorts first")
		h.score("c1", "s", "v=-1")
		require.Equal(t, []string{"c3"}, h.keep("n/p"))
	})
}

// TestSpread: PL-39 otherwise than in OCM, where the field has no effect.
func TestSpread(t *testing.T) {
	spread := func(constraints string) string {
		return "numberOfClusters: 4\nspreadPolicy: {spreadConstraints: [" + constraints + "]}"
	}
	const soft = "{topologyKey: region, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}"
	const hard = "{topologyKey: region, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}"
	regions := func(t *testing.T) *hub {
		t.Helper()
		h := newHub(t)
		h.set("a")
		h.bind("n", "a")
		for i, region := range []string{"eu", "eu", "eu", "eu", "us", "us", "ap"} {
			h.cluster(fmt.Sprintf("c%d", i+1), "set=a", "region="+region, "claim:zone="+strconv.Itoa(i%2))
		}
		return h
	}
	t.Run("PL-39_over_regions", func(t *testing.T) {
		h := regions(t)
		require.Equal(t, []string{"c1", "c2", "c5", "c7"}, h.chosen(spread(soft)))
	})
	t.Run("PL-39_as_many_as_the_skew_allows", func(t *testing.T) {
		h := regions(t)
		require.Equal(t, []string{"c1", "c2", "c5", "c6", "c7"}, h.chosen(strings.Replace(spread(hard), "4", "6", 1)))
		h.requireSatisfied(t, metav1.ConditionFalse, scheduling.ReasonNotAllScheduled, "1 cluster decisions unscheduled")
		e, _ := h.Explain(key("n/p"), h.now)
		require.Equal(t, "spreadConstraints[0] forbids it: region=eu has 2 of the chosen and another only 1 (maxSkew 1)", e.All[2].Why)
	})
	t.Run("PL-39_anyway", func(t *testing.T) {
		h := regions(t)
		require.Len(t, h.chosen(strings.Replace(spread(soft), "4", "6", 1)), 6)
	})
	t.Run("PL-39_a_cluster_without_the_key", func(t *testing.T) {
		h := regions(t)
		h.cluster("c0", "set=a")
		require.NotContains(t, h.chosen(strings.Replace(spread(hard), "4", "8", 1)), "c0")
		require.NotContains(t, h.chosen(strings.Replace(spread(soft), "4", "7", 1)), "c0", "it comes last")
		require.Contains(t, h.chosen(strings.Replace(spread(soft), "4", "8", 1)), "c0")
	})
	t.Run("PL-39_claims_and_the_order_of_constraints", func(t *testing.T) {
		h := regions(t)
		zone := "{topologyKey: zone, topologyKeyType: Claim, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}"
		require.Equal(t, []string{"c1", "c2", "c3", "c4"}, h.chosen(spread(zone)))
		require.Equal(t, []string{"c1", "c2", "c6", "c7"}, h.chosen(spread(soft+","+zone)))
	})
	t.Run("PL-39_keeps_what_it_has", func(t *testing.T) {
		h := regions(t)
		h.RemoveCluster("c7")
		h.placement("n/p", spread(soft))
		require.Equal(t, []string{"c1", "c2", "c5", "c6"}, h.keep("n/p"))
		h.cluster("c0", "set=a", "region=ap")
		require.Equal(t, []string{"c1", "c2", "c5", "c6"}, h.keep("n/p"), "ScheduleAnyway moves nothing that is there")
		h.placement("n/p", spread(hard))
		require.Equal(t, []string{"c1", "c2", "c5", "c0"}, h.keep("n/p"), "DoNotSchedule does, and no more than it must")
		h.placement("n/p", spread(hard)+"\nprioritizerPolicy: {mode: Exact}")
		require.Len(t, h.keep("n/p"), 4)
	})
	t.Run("PL-39_without_a_number_there_is_nothing_to_spread", func(t *testing.T) {
		h := regions(t)
		require.Len(t, h.chosen(strings.TrimPrefix(spread(hard), "numberOfClusters: 4\n")), 7)
	})
	t.Run("PL-39_other_fields_have_no_effect", func(t *testing.T) {
		h := regions(t)
		h.placement("n/p", "numberOfClusters: 2")
		want := h.decide("n/p")
		h.placement("n/p", "numberOfClusters: 2\nsortBy: Score\nscoreRateLimit: 5m")
		require.Equal(t, want, h.decide("n/p"))
	})
}

// named collects the names of plugins.
type named map[string]bool

func (n named) Plugin(kind, name string) func() { n[kind+" "+name] = true; return func() {} }
func (named) CEL() func()                       { return func() {} }

// TestPL61_names: plugins are named by what they are, not by what users call their
// scores, of which there can be any number.
func TestPL61_names(t *testing.T) {
	h, seen := newHub(t), named{}
	h.Observe(seen)
	h.set("a")
	h.bind("n", "a")
	h.cluster("c0", "set=a")
	for i := range 3 {
		h.placement("n/p", fmt.Sprintf("prioritizerPolicy: {configurations: [{scoreCoordinate: {type: AddOn, addOn: {resourceName: r%d, scoreName: s%d}}}]}", i, i))
		h.decide("n/p")
	}
	require.Equal(t, named{
		"filter Predicate": true, "filter TaintToleration": true, "prioritizer Balance": true, "prioritizer Steady": true, "prioritizer AddOn": true,
	}, seen)
}
