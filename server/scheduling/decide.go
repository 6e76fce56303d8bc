// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

// Reasons of the conditions of a Placement, as OCM has them.
const (
	ReasonNoBindings      = "NoManagedClusterSetBindings"
	ReasonNoIntersection  = "NoIntersection"
	ReasonSetsEmpty       = "AllManagedClusterSetsEmpty"
	ReasonNoneMatched     = "NoManagedClusterMatched"
	ReasonNotAllScheduled = "NotAllDecisionsScheduled"
	ReasonAllScheduled    = "AllDecisionsScheduled"
	ReasonMisconfigured   = "Misconfigured"
	ReasonWellConfigured  = "Succeedconfigured"
)

// Outcome is what was decided for a placement.
type Outcome struct {
	// Clusters are chosen, best first; if Keep is set those that stay, by name.
	Clusters []string
	// Keep says that nothing could be chosen, and that what was decided before
	// stays, but for Drop: clusters that are gone, or may not be chosen any more
	// whatever the filters say. Both sorted.
	Keep bool
	Drop []string
	// Satisfied is the condition PlacementSatisfied, without times.
	Satisfied metav1.Condition
	// Misconfigured is the condition PlacementMisconfigured, without times.
	Misconfigured metav1.Condition
	// Scores are of every cluster that passed the filters, best first.
	Scores []Score
	// Expired names the score objects, as cluster/name, that prioritizers asked
	// and that are past their validUntil; sorted.
	Expired []string
	// Again is when time alone may change the choice; zero: never.
	Again time.Time
}

// Score is the sum over the prioritizers of weight × score for one cluster.
type Score struct {
	Cluster string
	Score   int64
}

// choice is one decision in the making, and what explains it.
type choice struct {
	world *World
	p     *placement
	had   tally // what the placement decided before

	tainted  map[string]*clusterv1.Taint // clusters kept away by a taint
	passed   []*cluster                  // by all filters, in no order
	raw      [][]int64                   // by prioritizer, then as passed
	sums     []int64                     // as passed
	order    []int                       // places in passed, best first
	selected []int                       // places in passed, best first
	blocked  map[int]string              // places that spread left out, and why

	tooDear bool // nothing is chosen: what was before stays
	again   time.Time
	expired map[string]bool
}

// choose filters, scores, sorts and selects.
func (w *World) choose(p *placement, now time.Time) *choice {
	w.filter(p, now, math.MaxInt64)
	c := &choice{world: w, p: p, had: w.owned[p.key], expired: map[string]bool{}}
	if paused := p.count[unknown] > 0 && !w.tooDear(p); paused || w.tooDear(p) {
		c.tooDear = true
		if paused {
			c.again = p.rest
		}
		return c
	}
	c.pass(now)
	if p.rules.prioritizeErr != nil {
		return c
	}
	c.prioritize(now)
	c.selected = c.order
	if n := p.object.Spec.NumberOfClusters; n != nil {
		c.take(int(max(*n, 0)))
	}
	return c
}

// pass collects the clusters that all filters let through.
func (c *choice) pass(now time.Time) {
	defer c.world.observer.Plugin(PluginFilter, FilterTaintToleration)()
	if c.p.rules.tolerationErr != nil {
		return
	}
	c.passed = make([]*cluster, 0, c.p.count[matched])
	for id, v := range c.p.found {
		if v != matched {
			continue
		}
		one := c.world.byID[id]
		by, again := c.p.rules.keptAway(one, c.had[one.name] > 0, now)
		if by != nil {
			if c.tainted == nil {
				c.tainted = map[string]*clusterv1.Taint{}
			}
			c.tainted[one.name] = by
			continue
		}
		c.again = sooner(c.again, again)
		c.passed = append(c.passed, one)
	}
}

// prioritize scores the clusters and puts them in order: by score, then name (PL-27).
func (c *choice) prioritize(now time.Time) {
	n := len(c.passed)
	c.sums = make([]int64, n)
	c.order = make([]int, n)
	for i := range c.order {
		c.order[i] = i
	}
	c.raw = make([][]int64, len(c.p.rules.prioritizers))
	for k := range c.p.rules.prioritizers {
		p := &c.p.rules.prioritizers[k]
		c.raw[k] = make([]int64, n)
		done := c.world.observer.Plugin(PluginPrioritizer, p.plugin())
		c.score(p, c.raw[k], now)
		done()
		for i, score := range c.raw[k] {
			c.sums[i] += p.weight * score
		}
	}
	slices.SortFunc(c.order, c.better)
}

// better orders places in passed: by score, then by name (PL-27).
func (c *choice) better(a, b int) int {
	return cmp.Or(cmp.Compare(c.sums[b], c.sums[a]), strings.Compare(c.passed[a].name, c.passed[b].name))
}

// take selects a number of clusters, the best or those that spread best.
func (c *choice) take(n int) {
	if c.p.rules.spreads() {
		c.spread(n)
		return
	}
	c.selected = c.order[:min(n, len(c.order))]
}

func (c *choice) outcome() Outcome {
	o := Outcome{
		Clusters:      make([]string, 0, len(c.selected)),
		Scores:        make([]Score, 0, len(c.order)),
		Satisfied:     c.satisfied(),
		Misconfigured: c.misconfigured(),
		Expired:       slices.Sorted(maps.Keys(c.expired)),
		Again:         c.again,
	}
	if c.tooDear {
		o.Keep = true
		o.Clusters, o.Drop = c.keep()
	}
	for _, i := range c.selected {
		o.Clusters = append(o.Clusters, c.passed[i].name)
	}
	for _, i := range c.order {
		o.Scores = append(o.Scores, Score{Cluster: c.passed[i].name, Score: c.sums[i]})
	}
	return o
}

// keep parts what was decided before into what stays and what does not: clusters
// that are gone, are being deleted, or are in no set that the placement may choose
// from any more. To cost too much is no way to keep those (PL-62).
func (c *choice) keep() (stay, drop []string) {
	stay = []string{}
	for _, name := range slices.Sorted(maps.Keys(c.had)) {
		one := c.world.clusters[name]
		if one == nil || !c.p.within(one) || one.deleting() {
			drop = append(drop, name)
			continue
		}
		stay = append(stay, name)
	}
	return stay, drop
}

// costsTooMuch is what PlacementMisconfigured says of expressions that do.
func (c *choice) costsTooMuch() string {
	seen := c.p.count[matched] + c.p.count[mismatched]
	return fmt.Sprintf("%s:celExpressions cost more than %d on %d of %d clusters, after which no more were looked at: "+
		"the decisions stay as they are; write cheaper expressions, or put a labelSelector or claimSelector beside them, which is looked at first",
		FilterPredicate, c.world.budget, seen, c.p.candidates())
}

func (c *choice) misconfigured() metav1.Condition {
	condition := metav1.Condition{
		Type: clusterv1beta1.PlacementConditionMisconfigured, Status: metav1.ConditionFalse,
		Reason: ReasonWellConfigured, Message: "Placement configurations check pass",
	}
	why := c.p.rules.misconfigured()
	if c.tooDear {
		why = c.costsTooMuch()
	}
	if why != "" {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionTrue, ReasonMisconfigured, why
	}
	return condition
}

// satisfied is PlacementSatisfied: the first of PL-04 to PL-09 that holds.
func (c *choice) satisfied() metav1.Condition {
	condition := metav1.Condition{Type: clusterv1beta1.PlacementConditionSatisfied, Status: metav1.ConditionFalse}
	p, missing := c.p, c.missing()
	switch {
	case len(p.bound) == 0:
		condition.Reason = ReasonNoBindings
		condition.Message = fmt.Sprintf("namespace %q has no ManagedClusterSetBinding to a ManagedClusterSet that exists: bind one to it", p.key.Namespace)
	case len(p.eligible) == 0:
		condition.Reason = ReasonNoIntersection
		condition.Message = fmt.Sprintf("no set of spec.clusterSets (%s) is bound to namespace %q; bound are %s",
			strings.Join(p.object.Spec.ClusterSets, ", "), p.key.Namespace, strings.Join(p.bound, ", "))
	case p.candidates() == 0:
		condition.Reason = ReasonSetsEmpty
		condition.Message = fmt.Sprintf("there is no cluster in the sets to choose from (%s)", strings.Join(p.eligible, ", "))
	case c.tooDear:
		condition.Reason = ReasonNotAllScheduled
		condition.Message = "nothing is decided anew while the expressions cost too much: PlacementMisconfigured says what to do"
	case len(c.passed) == 0:
		condition.Reason = ReasonNoneMatched
		condition.Message = "no cluster of the sets to choose from passes the filters: fairlead explain placement says which filter removed which cluster"
	case missing > 0:
		condition.Reason = ReasonNotAllScheduled
		condition.Message = fmt.Sprintf("%d cluster decisions unscheduled", missing)
	default:
		condition.Status = metav1.ConditionTrue
		condition.Reason, condition.Message = ReasonAllScheduled, "All cluster decisions scheduled"
	}
	return condition
}

// missing is how many clusters more are wanted than were selected.
func (c *choice) missing() int {
	wanted := len(c.passed)
	if n := c.p.object.Spec.NumberOfClusters; n != nil {
		wanted = int(max(*n, 0))
	}
	return wanted - len(c.selected)
}
