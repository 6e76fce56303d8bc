// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

// Explanation is an Outcome and how it came about.
type Explanation struct {
	Outcome
	// Bound are the sets bound to the placement's namespace that exist, Eligible
	// those of them that it chooses from; both sorted.
	Bound, Eligible []string
	// Prioritizers are those with a weight, sorted by name.
	Prioritizers []Weight
	// All has every cluster: first those that passed the filters, best first,
	// then the others by name.
	All []Verdict
}

// Weight is how much a prioritizer counts.
type Weight struct {
	Prioritizer string
	Weight      int64
}

// Verdict is why one cluster was chosen or not.
type Verdict struct {
	Cluster string
	// Filter is the one that removed it (FilterClusterSet, ...); "": it passed all.
	Filter string
	// Why it was removed, or passed and still was not selected; "" if it was.
	Why string
	// Scores are what each of Explanation.Prioritizers gave it, before their
	// weights; Sum is with them. Rank is its place by Sum, from 1. Nothing of a
	// cluster that was removed.
	Scores   []int64
	Sum      int64
	Rank     int
	Selected bool
}

// FilterResult names the clusters left after some filters.
type FilterResult struct {
	Name     string   // of the filters, joined by commas
	Clusters []string // sorted
}

// Explain says how a placement would be decided now, by deciding it; ok is
// false if there is none of this name. It names every cluster there is, also
// those of sets that are not bound: who shows it must mind who asks.
func (w *World) Explain(key types.NamespacedName, now time.Time) (explanation Explanation, ok bool) {
	p, ok := w.places[key]
	if !ok {
		return Explanation{}, false
	}
	return w.choose(p, now).explain(), true
}

// Simulate explains a placement that is not stored. One that is stored under the
// same name lends it its decisions, and is not touched. It ends with ctx, between two
// expressions.
func (w *World) Simulate(ctx context.Context, object *clusterv1beta1.Placement, now time.Time) (Explanation, error) {
	p := w.prepare(object)
	p.reasons = map[*cluster]string{}
	for !w.filter(p, now, costAtOnce) {
		if err := ctx.Err(); err != nil {
			return Explanation{}, err
		}
	}
	return w.choose(p, now).explain(), nil
}

// Filtered says which clusters are left after each filter, in the order in which
// they work (PL-60).
func (e *Explanation) Filtered() []FilterResult {
	var matching, tolerated []string
	for _, v := range e.All {
		switch v.Filter {
		case FilterTaintToleration:
			matching = append(matching, v.Cluster)
		case "":
			matching, tolerated = append(matching, v.Cluster), append(tolerated, v.Cluster)
		}
	}
	slices.Sort(matching)
	slices.Sort(tolerated)
	return []FilterResult{
		{Name: FilterPredicate, Clusters: matching},
		{Name: FilterPredicate + "," + FilterTaintToleration, Clusters: tolerated},
	}
}

func (c *choice) explain() Explanation {
	e := Explanation{Outcome: c.outcome(), Bound: c.p.bound, Eligible: c.p.eligible}
	for _, p := range c.p.rules.prioritizers {
		e.Prioritizers = append(e.Prioritizers, Weight{Prioritizer: p.name, Weight: p.weight})
	}
	e.All = c.ranked()
	removed := make([]Verdict, 0, len(c.world.clusters)-len(c.passed))
	for _, one := range c.world.clusters {
		if filter, why := c.removed(one); filter != "" {
			removed = append(removed, Verdict{Cluster: one.name, Filter: filter, Why: why})
		}
	}
	slices.SortFunc(removed, func(a, b Verdict) int { return strings.Compare(a.Cluster, b.Cluster) })
	e.All = append(e.All, removed...)
	return e
}

// ranked explains the clusters that passed, best first.
func (c *choice) ranked() []Verdict {
	selected := make(map[int]bool, len(c.selected))
	for _, i := range c.selected {
		selected[i] = true
	}
	verdicts := make([]Verdict, 0, len(c.passed))
	for at, i := range c.order {
		v := Verdict{Cluster: c.passed[i].name, Sum: c.sums[i], Rank: at + 1, Selected: selected[i]}
		for k := range c.raw {
			v.Scores = append(v.Scores, c.raw[k][i])
		}
		if !v.Selected {
			v.Why = c.passedOver(i)
		}
		verdicts = append(verdicts, v)
	}
	if c.p.rules.prioritizeErr != nil {
		for _, one := range c.passed {
			verdicts = append(verdicts, Verdict{Cluster: one.name, Why: "nothing is chosen: " + c.p.rules.prioritizeErr.Error()})
		}
		slices.SortFunc(verdicts, func(a, b Verdict) int { return strings.Compare(a.Cluster, b.Cluster) })
	}
	return verdicts
}

// passedOver is why a cluster that passed all filters was not selected.
func (c *choice) passedOver(place int) string {
	if why, ok := c.blocked[place]; ok {
		return why
	}
	if c.p.rules.spreads() {
		return fmt.Sprintf("spec.numberOfClusters is %d: others score higher or spread better", *c.p.object.Spec.NumberOfClusters)
	}
	return fmt.Sprintf("spec.numberOfClusters is %d: as many score higher, or the same and sort first", *c.p.object.Spec.NumberOfClusters)
}

// removed is the filter that removed a cluster and why; "" if none did.
func (c *choice) removed(one *cluster) (filter, why string) {
	v := c.p.verdict(one)
	if c.tooDear && v != outside && v != deleting {
		if c.had[one.name] > 0 {
			return FilterPredicate, "the expressions cost too much to decide anew: it stays chosen"
		}
		return FilterPredicate, "the expressions cost too much: nothing is chosen anew"
	}
	switch v {
	case outside:
		return FilterClusterSet, c.notEligible(one)
	case deleting:
		return FilterClusterSet, "it is being deleted"
	case mismatched:
		return FilterPredicate, c.mismatches(one)
	default:
	}
	if err := c.p.rules.tolerationErr; err != nil {
		return FilterTaintToleration, "no toleration counts: " + err.Error()
	}
	if taint := c.tainted[one.name]; taint != nil {
		return FilterTaintToleration, "it has taint " + describeTaint(taint) + ", which no toleration covers"
	}
	return "", ""
}

func (c *choice) notEligible(one *cluster) string {
	if len(one.sets) == 0 {
		return "it is in no ManagedClusterSet"
	}
	sets := strings.Join(slices.Sorted(slices.Values(one.sets)), ", ")
	if slices.ContainsFunc(one.sets, func(set string) bool { return slices.Contains(c.p.bound, set) }) {
		return fmt.Sprintf("it is in %s, and none of these is in spec.clusterSets", sets)
	}
	return fmt.Sprintf("it is in %s, and none of these is bound to namespace %q", sets, c.p.key.Namespace)
}

func (c *choice) mismatches(one *cluster) string {
	if err := c.p.rules.predicateErr; err != nil {
		return "no predicate can be read: " + err.Error()
	}
	if why, known := c.p.reasons[one]; known {
		return why
	}
	_, why := c.world.reasons(c.p, one, &look{turn: math.MaxInt64})
	return why
}

// reasons says whether a cluster matches a placement, and of each predicate why not.
func (w *World) reasons(p *placement, one *cluster, l *look) (ok bool, why string) {
	var reasons []string
	ok = p.rules.match(w, one, l, func(predicate int, why string) {
		reasons = append(reasons, fmt.Sprintf("predicates[%d]: %s", predicate, why))
	})
	return ok, strings.Join(reasons, "; ")
}

func describeTaint(t *clusterv1.Taint) string {
	value := ""
	if t.Value != "" {
		value = "=" + t.Value
	}
	return fmt.Sprintf("%s%s:%s", t.Key, value, t.Effect)
}
