// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"maps"
	"slices"
	"time"

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
	costs    []int64   // of the verdicts, by ID of the cluster; nil: they cost nothing
	spent    int64     // sum of costs
	rest     time.Time // until when nothing is spent again, after it was too much
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
	p.costs, p.spent = nil, 0
	p.count = [verdicts]int{}
}

func (p *placement) verdict(c *cluster) verdict {
	if c.id >= len(p.found) {
		return outside
	}
	return p.found[c.id]
}

// charge notes what the verdict on a cluster cost, instead of what it cost before.
func (p *placement) charge(c *cluster, cost int64) {
	p.spent += cost - p.cost(c)
	if cost == p.cost(c) {
		return
	}
	if c.id >= len(p.costs) {
		p.costs = append(p.costs, make([]int64, max(c.id+1, len(p.found))-len(p.costs))...)
	}
	p.costs[c.id] = cost
}

func (p *placement) cost(c *cluster) int64 {
	if c.id >= len(p.costs) {
		return 0
	}
	return p.costs[c.id]
}

// tooDear says whether expressions cost more than the placement may spend. All
// costs count, in whatever order they come.
func (w *World) tooDear(p *placement) bool { return p.spent > w.budget }

// set keeps a verdict and what it cost.
func (p *placement) set(c *cluster, v verdict, cost int64) {
	p.charge(c, cost)
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
// makes a difference. A placement that is to be decided anyway filters then, and so
// does one that spent too much, or much on this cluster.
func (w *World) recheck(p *placement, c *cluster) {
	wait := p.dirty || w.tooDear(p) || p.count[unknown] > 0 || p.cost(c) > costAtOnce
	switch {
	case !wait:
		v, cost := w.check(p, c)
		w.settle(p, c, v, cost)
	case p.within(c):
		p.set(c, unknown, 0)
		w.mark(p)
	default:
		w.settle(p, c, outside, 0)
	}
}

// settle notes a verdict, and has the placement decided anew if that matters:
// if the cluster comes or goes, or the last candidate does, or the first, or if
// more is spent than may be, or was. A decided cluster that goes matters even if it
// does not match: decisions that are kept must lose it.
func (w *World) settle(p *placement, c *cluster, v verdict, cost int64) {
	old, candidates, dear := p.verdict(c), p.candidates(), w.tooDear(p)
	p.set(c, v, cost)
	switch {
	case p.dirty:
	case dear, w.tooDear(p):
		w.mark(p)
	case old == v:
	case v < mismatched && w.owned[p.key][c.name] > 0:
		w.mark(p)
	case old == unknown, old == matched, v == matched, (candidates == 0) != (p.candidates() == 0):
		w.mark(p)
	}
}

// candidates is how many clusters there are to filter.
func (p *placement) candidates() int {
	return p.count[mismatched] + p.count[matched] + p.count[unknown]
}

// check filters a cluster, and says what that cost.
func (w *World) check(p *placement, c *cluster) (v verdict, cost int64) {
	switch {
	case !p.within(c):
		return outside, 0
	case c.deleting():
		return deleting, 0
	}
	ok, cost := p.rules.match(w, c, nil)
	if ok {
		return matched, cost
	}
	return mismatched, cost
}

// filter gives every cluster that has none its verdict. It ends early, with false,
// when that has cost more than most; and when the placement has spent too much, which
// is tried again only after a while.
func (w *World) filter(p *placement, now time.Time, most int64) (done bool) {
	if p.count[unknown] == 0 || w.tooDear(p) || now.Before(p.rest) {
		return true
	}
	defer w.observer.Plugin(PluginFilter, FilterPredicate)()
	for id, v := range p.found {
		if v != unknown {
			continue
		}
		if most < 0 {
			return false
		}
		found, cost := w.check(p, w.byID[id])
		p.set(w.byID[id], found, cost)
		most -= cost
		if w.tooDear(p) {
			p.rest = now.Add(restAfter)
			return true
		}
	}
	return true
}

// restAfter is how long a placement that spent too much is left alone, whatever
// becomes of its clusters.
const restAfter = time.Minute
