// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

// Names of the filters, as PlacementMisconfigured and explanations have them.
const (
	// FilterClusterSet is passed by clusters that are in a set which the
	// placement chooses from, and are not being deleted.
	FilterClusterSet = "ClusterSet"
	// FilterPredicate is passed by clusters that match spec.predicates.
	FilterPredicate = "Predicate"
	// FilterTaintToleration is passed by clusters without a taint that keeps the
	// placement away.
	FilterTaintToleration = "TaintToleration"
)

// rules is a PlacementSpec, compiled. A part that makes no sense is an error
// here, which the placement reports as its PlacementMisconfigured (PL-11).
type rules struct {
	spec          *clusterv1beta1.PlacementSpec
	predicates    []predicate
	predicateErr  error
	tolerationErr error
	prioritizers  []prioritizer
	prioritizeErr error

	usesCEL     bool
	readsScores bool // by CEL
	allocatable []prioritizer
	addOns      map[string]bool // names of AddOnPlacementScores that prioritizers read
}

// predicate is one entry of spec.predicates: all its selectors must match.
type predicate struct {
	labels      labels.Selector
	claims      labels.Selector
	expressions []*expression
}

func (w *World) compile(spec *clusterv1beta1.PlacementSpec) *rules {
	r := &rules{spec: spec}
	r.predicates, r.predicateErr = w.compiler.predicates(spec.Predicates)
	for _, p := range r.predicates {
		for _, e := range p.expressions {
			r.usesCEL = true
			r.readsScores = r.readsScores || e.readsScores
		}
	}
	r.tolerationErr = checkTolerations(spec.Tolerations)
	r.prioritizers, r.prioritizeErr = prioritizersOf(&spec.PrioritizerPolicy)
	r.addOns = map[string]bool{}
	for _, p := range r.prioritizers {
		switch {
		case p.addOn != nil:
			r.addOns[p.addOn.ResourceName] = true
		case p.resource != "":
			r.allocatable = append(r.allocatable, p)
		}
	}
	return r
}

// misconfigured is what PlacementMisconfigured says, or "". The first filter that
// cannot work is what people have to correct first.
func (r *rules) misconfigured() string {
	switch {
	case r.predicateErr != nil:
		return FilterPredicate + ":" + r.predicateErr.Error()
	case r.tolerationErr != nil:
		return FilterTaintToleration + ":" + r.tolerationErr.Error()
	case r.prioritizeErr != nil:
		return r.prioritizeErr.Error()
	default:
		return ""
	}
}

func (r *rules) usesAddOn(name string) bool { return r.addOns[name] }

// spreads says whether spec.spreadPolicy has a say: it divides a number of clusters.
func (r *rules) spreads() bool {
	return r.spec.NumberOfClusters != nil && len(r.spec.SpreadPolicy.SpreadConstraints) > 0
}

func (c *compiler) predicates(from []clusterv1beta1.ClusterPredicate) ([]predicate, error) {
	compiled := make([]predicate, 0, len(from))
	for i := range from {
		p, err := c.predicate(&from[i].RequiredClusterSelector)
		if err != nil {
			return nil, fmt.Errorf("spec.predicates[%d].requiredClusterSelector.%w", i, err)
		}
		compiled = append(compiled, p)
	}
	return compiled, nil
}

func (c *compiler) predicate(from *clusterv1beta1.ClusterSelector) (p predicate, err error) {
	if p.labels, err = metav1.LabelSelectorAsSelector(&from.LabelSelector); err != nil {
		return p, fmt.Errorf("labelSelector: %w", err)
	}
	claims := metav1.LabelSelector{MatchExpressions: from.ClaimSelector.MatchExpressions}
	if p.claims, err = metav1.LabelSelectorAsSelector(&claims); err != nil {
		return p, fmt.Errorf("claimSelector: %w", err)
	}
	for i, text := range from.CelSelector.CelExpressions {
		e, err := c.compile(text)
		if err != nil {
			return p, fmt.Errorf("celSelector.celExpressions[%d]: %w", i, err)
		}
		p.expressions = append(p.expressions, e)
	}
	return p, nil
}

// match says whether any predicate matches a cluster; none at all is as good
// (PL-13). report is told, if it is not nil, what keeps each from matching. Nothing
// is said of a cluster if the look is paused.
func (r *rules) match(w *World, c *cluster, l *look, report func(predicate int, why string)) bool {
	if r.predicateErr != nil {
		return false
	}
	for i := range r.predicates {
		ok, why := r.predicates[i].match(w, c, l)
		if ok || l.paused {
			return ok
		}
		if report != nil {
			report(i, why())
		}
	}
	return len(r.predicates) == 0
}

// match says whether a cluster matches all selectors, and why not.
func (p *predicate) match(w *World, c *cluster, l *look) (ok bool, why func() string) {
	switch {
	case !p.labels.Matches(labels.Set(c.object.Labels)):
		return false, func() string { return "labelSelector wants " + p.labels.String() }
	case !p.claims.Matches(labels.Set(c.claims)):
		return false, func() string { return "claimSelector wants " + p.claims.String() }
	default:
		return w.evaluate(p, c, l)
	}
}
