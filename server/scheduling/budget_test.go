// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"pgregory.net/rapid"
)

const spends = "predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['managedCluster.metadata.labels.all(k, k != \"\")']}}}]"

// TestPL21_budget: what the expressions of a placement may cost on all its clusters.
func TestPL21_budget(t *testing.T) {
	h := newHub(t)
	h.set("a")
	h.bind("n", "a")
	for i := range 4 {
		h.cluster(fmt.Sprintf("c%d", i), "set=a")
	}
	h.placement("n/p", spends)
	require.Len(t, h.decide("n/p").Clusters, 4)
	spent := h.Spent(key("n/p"))
	require.Positive(t, spent)
	h.decided("n/p", "c0", "c1", "c2")
	h.SetBudget(spent)
	require.False(t, h.decide("n/p").Keep, "the budget itself may be spent")

	h.cluster("c4", "set=a")
	o := h.decide("n/p")
	require.Equal(t, metav1.ConditionTrue, o.Misconfigured.Status)
	require.Contains(t, o.Misconfigured.Message, fmt.Sprintf("cost more than %d on 5 of 5 clusters", spent))
	require.True(t, o.Keep)
	require.Equal(t, []string{"c0", "c1", "c2"}, o.Clusters)
	require.Zero(t, o.Again, "time alone makes nothing cheaper")

	h.cluster("c5", "set=a")
	h.cluster("c6", "set=a")
	h.cluster("c0", "set=b") // left the sets: to cost too much does not keep it
	h.RemoveCluster("c1")
	o = h.decide("n/p")
	require.True(t, o.Keep, "two clusters were not looked at yet")
	require.Equal(t, []string{"c0", "c1"}, o.Drop)
	require.Equal(t, []string{"c2"}, o.Clusters)
	require.Equal(t, h.now.Add(time.Minute), o.Again)
	h.now = h.now.Add(time.Hour)
	require.True(t, h.decide("n/p").Keep, "five clusters still cost too much")
	h.RemoveCluster("c6")
	require.False(t, h.decide("n/p").Keep, "four clusters are cheap enough again")

	h.placement("n/r", "predicates: [{requiredClusterSelector: {labelSelector: {matchLabels: {x: y}}}}]")
	h.decided("n/r", "c5")
	h.decide("n/r")
	h.Dirty()
	h.RemoveCluster("c4")
	require.NotContains(t, h.Dirty(), key("n/r"))
	h.RemoveCluster("c5")
	require.Contains(t, h.Dirty(), key("n/r"), "a decision that is kept must lose it")

	h.placement("n/q", spends)
	require.False(t, h.Filter(key("n/q"), h.now, 0), "one cluster at a time")
	require.True(t, h.Filter(key("n/q"), h.now, math.MaxInt64))
}

// TestPL21_budget_is_the_same_in_any_order: the sum that a World keeps is a fresh one's.
func TestPL21_budget_is_the_same_in_any_order(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, budget := newHub(t), rapid.Int64Range(0, 600).Draw(t, "budget")
		last := map[string][]string{}
		h.set("a")
		h.bind("n", "a")
		h.SetBudget(budget)
		h.placement("n/p", spends)
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			name := rapid.SampledFrom(namesOfClusters).Draw(t, "cluster")
			last[name] = append(rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x=1", "y=1", "z=1"}), 0, 3, rapid.ID[string]).Draw(t, "labels"),
				rapid.SampledFrom([]string{"set=a", "set=a", "set=b"}).Draw(t, "set"))
			h.cluster(name, last[name]...)
			if rapid.Bool().Draw(t, "decide") {
				h.Dirty()
				h.decide("n/p")
			}
		}
		h.now = h.now.Add(time.Hour)
		fresh := newHub(t)
		fresh.now = h.now
		fresh.set("a")
		fresh.bind("n", "a")
		fresh.SetBudget(budget)
		for name, traits := range last {
			fresh.cluster(name, traits...)
		}
		fresh.placement("n/p", spends)
		have, want := h.decide("n/p"), fresh.decide("n/p")
		require.Equal(t, want.Keep, have.Keep)
		require.Equal(t, want.Clusters, have.Clusters)
		if !want.Keep {
			require.Equal(t, fresh.Spent(key("n/p")), h.Spent(key("n/p")))
		}
	})
}

// counting counts expressions that are evaluated.
type counting struct{ evaluated int }

func (*counting) Plugin(_, _ string) func() { return func() {} }
func (c *counting) CEL() func()             { c.evaluated++; return func() {} }

// TestPL21_one_expression_at_a_time: a cluster with many expressions takes many turns,
// in which others are decided, and no expression is evaluated twice.
func TestPL21_one_expression_at_a_time(t *testing.T) {
	const expressions = 5
	h, seen := newHub(t), &counting{}
	h.Observe(seen)
	h.set("a")
	h.bind("n", "a")
	h.cluster("c0", "set=a", "x=1")
	h.cluster("c1", "set=a")
	text := strings.TrimSuffix(strings.Repeat(`'managedCluster.metadata.labels.all(k, k != "")', `, expressions-1), ", ")
	h.placement("n/p", fmt.Sprintf(`predicates: [{requiredClusterSelector: {celSelector: {celExpressions: [%s]}}},
		{requiredClusterSelector: {celSelector: {celExpressions: ['"x" in managedCluster.metadata.labels']}}}]`, text+`, "false"`))
	h.placement("n/other", "{}")

	// One turn is one expression, of one predicate, of one cluster.
	turns := 0
	for done := false; !done; turns++ {
		before := seen.evaluated
		done = h.Filter(key("n/p"), h.now, 0)
		require.LessOrEqual(t, seen.evaluated-before, 1, "a turn is over after one expression")
		require.Equal(t, []string{"c0", "c1"}, h.decide("n/other").Clusters, "others go on")
	}
	require.Equal(t, 2*(expressions+1), seen.evaluated, "each once")
	require.Equal(t, seen.evaluated, turns)
	require.Equal(t, []string{"c0"}, h.decide("n/p").Clusters)
	require.Equal(t, 2*(expressions+1), seen.evaluated, "nothing is left to be evaluated")

	// What was known of a cluster before it changed counts for nothing.
	h.placement("n/q", `predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['!("x" in managedCluster.metadata.labels)', 'true']}}}]`)
	require.False(t, h.Filter(key("n/q"), h.now, 0), "c0 has x")
	require.False(t, h.Filter(key("n/q"), h.now, 0), "c1 has not, so far")
	h.cluster("c1", "set=a", "x=1")
	require.Empty(t, h.decide("n/q").Clusters)
}

// TestPL21_dear_placements_wait: a placement to which one cluster was dear is not
// filtered while changes come in, whatever cluster changes.
func TestPL21_dear_placements_wait(t *testing.T) {
	h, seen := newHub(t), &counting{}
	h.Observe(seen)
	h.set("a")
	h.bind("n", "a")
	h.cluster("c0", "set=a")
	text := strings.Repeat("a", 1000)
	numbers := strings.TrimSuffix(strings.Repeat("1,", 2), ",") // 10 000 each
	h.placement("n/p", fmt.Sprintf("predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['[%s].all(n, %[2]q.contains(%[2]q))']}}}]", numbers, text))
	h.placement("n/cheap", spends)
	h.decide("n/p")
	h.decide("n/cheap")
	h.Dirty()
	seen.evaluated = 0
	h.cluster("c1", "set=a")
	require.Equal(t, 1, seen.evaluated, "only that of n/cheap")
	require.Contains(t, h.Dirty(), key("n/p"))
	require.Equal(t, []string{"c0", "c1"}, h.decide("n/p").Clusters)
}

// BenchmarkPL21_dearest_expression: how long one expression may take at most on one
// cluster, which is how long nothing else is decided: the limit is of cost, and loops
// are what takes longest for their cost.
func BenchmarkPL21_dearest_expression(b *testing.B) {
	h := newHub(b)
	h.set("a")
	h.bind("n", "a")
	h.cluster("c0", "set=a")
	numbers := "[" + strings.TrimSuffix(strings.Repeat("1,", 100), ",") + "]"
	const turns = 160 // ×100×100: just below the limit
	outer := "[" + strings.TrimSuffix(strings.Repeat("1,", turns), ",") + "]"
	h.placement("n/p", fmt.Sprintf("predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['%s.all(a, %s.all(b, %s.all(c, true)))']}}}]", outer, numbers, numbers))
	before := cpu(b)
	for b.Loop() {
		h.cluster("c0", "set=a") // forget what is known of it
		h.decide("n/p")
	}
	b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(b.N), "CPU-ms/op")
	b.ReportMetric(float64(h.Spent(key("n/p"))), "cost")
}

// cpu is what the process has used of it.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// TestSimulate_ends: an explanation that nobody waits for any more is not gone on
// with, and no expression is evaluated twice for one.
func TestSimulate_ends(t *testing.T) {
	h, seen := newHub(t), &counting{}
	h.Observe(seen)
	h.set("a")
	h.bind("n", "a")
	for i := range 50 {
		h.cluster(fmt.Sprintf("c%02d", i), "set=a")
	}
	text := strings.Repeat("a", 1000) // 10 000
	p := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}}
	p.Spec.Predicates = []clusterv1beta1.ClusterPredicate{{RequiredClusterSelector: clusterv1beta1.ClusterSelector{
		CelSelector: clusterv1beta1.ClusterCelSelector{CelExpressions: []string{fmt.Sprintf("!%[1]q.contains(%[1]q)", text)}},
	}}}
	e, err := h.Simulate(t.Context(), p, h.now)
	require.NoError(t, err)
	require.Len(t, e.All, 50)
	require.Contains(t, e.All[49].Why, "predicates[0]: celExpressions[0]")
	require.Contains(t, e.All[49].Why, "is false")
	require.Equal(t, 50, seen.evaluated, "each once")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	seen.evaluated = 0
	_, err = h.Simulate(ctx, p, h.now)
	require.ErrorIs(t, err, context.Canceled)
	require.LessOrEqual(t, seen.evaluated, 2)
}
