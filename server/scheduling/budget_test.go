// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
