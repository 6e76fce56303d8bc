// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

// verdict is what the filters that know no time say of a cluster. Placements
// keep one for each cluster, so that a change costs what it changes.
type verdict uint8

const (
	outside    verdict = iota // in no set that the placement chooses from
	unknown                   // not filtered yet
	deleting                  // on its way out: never a candidate (PL-12)
	mismatched                // no predicate matches
	matched                   // taints may still be in the way
	verdicts                  // how many there are
)

// placement is a Placement with what was compiled and found out for it.
type placement struct {
	key      types.NamespacedName
	object   *clusterv1beta1.Placement
	rules    *rules
	bound    []string // sets bound to its namespace
	eligible []string // those of them that it chooses from
	filled   bool
	found    []verdict // by ID of the cluster
	count    [verdicts]int
	dirty    bool
}

// same says whether another state of the object is to be decided like this one.
func (p *placement) same(object *clusterv1beta1.Placement) bool {
	return p.object.UID == object.UID && maps.Equal(p.object.Annotations, object.Annotations) &&
		equality.Semantic.DeepEqual(p.object.Spec, object.Spec)
}

func (p *placement) reset(ids int) {
	p.found = make([]verdict, ids)
	p.count = [verdicts]int{}
}

func (p *placement) verdict(c *cluster) verdict {
	if c.id >= len(p.found) {
		return outside
	}
	return p.found[c.id]
}

func (p *placement) set(c *cluster, v verdict) {
	old := p.verdict(c)
	if old == v {
		return
	}
	if c.id >= len(p.found) {
		p.found = append(p.found, make([]verdict, c.id+1-len(p.found))...)
	}
	p.found[c.id] = v
	if old != outside {
		p.count[old]--
	}
	if v != outside {
		p.count[v]++
	}
}

// within says whether a cluster is in a set that the placement chooses from.
func (p *placement) within(c *cluster) bool {
	return slices.ContainsFunc(c.sets, func(set string) bool {
		_, found := slices.BinarySearch(p.eligible, set)
		return found
	})
}

// recheck filters one cluster again and has the placement decided anew if that
// makes a difference. A placement that is to be decided anyway filters then.
func (w *World) recheck(p *placement, c *cluster) {
	switch {
	case !p.dirty:
		w.settle(p, c, w.check(p, c))
	case p.within(c):
		p.set(c, unknown)
	default:
		p.set(c, outside)
	}
}

// settle notes a verdict, and has the placement decided anew if that matters:
// if the cluster comes or goes, or the last candidate does, or the first.
func (w *World) settle(p *placement, c *cluster, v verdict) {
	old, candidates := p.verdict(c), p.candidates()
	p.set(c, v)
	switch {
	case p.dirty, old == v:
	case old == unknown, old == matched, v == matched, (candidates == 0) != (p.candidates() == 0):
		w.mark(p)
	}
}

// candidates is how many clusters there are to filter.
func (p *placement) candidates() int {
	return p.count[mismatched] + p.count[matched] + p.count[unknown]
}

// check filters a cluster.
func (w *World) check(p *placement, c *cluster) verdict {
	switch {
	case !p.within(c):
		return outside
	case c.deleting():
		return deleting
	case p.rules.match(w, c, nil):
		return matched
	default:
		return mismatched
	}
}

// filter gives every cluster that has none its verdict.
func (w *World) filter(p *placement) {
	if p.count[unknown] == 0 {
		return
	}
	for id, v := range p.found {
		if v == unknown {
			p.set(w.byID[id], w.check(p, w.byID[id]))
		}
	}
}
