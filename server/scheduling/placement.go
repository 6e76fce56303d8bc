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
	dear     bool      // a cluster cost more than is spent as soon as one changes
	rest     time.Time // until when nothing is spent again, after it was too much
	half     *cluster  // whose expressions are to be gone on with
	known    []result  // of those
	count    [verdicts]int
	dirty    bool
	reasons  map[*cluster]string // why it does not match, if that will be asked for
}

// same says whether another state of the object is to be decided like this one.
func (p *placement) same(object *clusterv1beta1.Placement) bool {
	return p.object.UID == object.UID && maps.Equal(p.object.Annotations, object.Annotations) &&
		equality.Semantic.DeepEqual(p.object.Spec, object.Spec)
}

func (p *placement) reset(ids int) {
	p.found = make([]verdict, ids)
	p.costs, p.spent, p.dear = nil, 0, false
	p.half, p.known = nil, nil
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
	p.dear = p.dear || cost > costAtOnce
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
	if p.half == c {
		p.half, p.known = nil, nil
	}
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
// does one that spent too much, or much on a cluster.
func (w *World) recheck(p *placement, c *cluster) {
	v, l := unknown, &look{turn: costAtOnce}
	switch wait := p.dirty || w.tooDear(p) || p.count[unknown] > 0 || p.dear; {
	case !wait:
		v = w.check(p, c, l)
	case !p.within(c):
		v = outside
	}
	if v == unknown {
		p.set(c, unknown, 0)
		w.mark(p)
		return
	}
	w.settle(p, c, v, l.cost)
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

// check filters a cluster; unknown: that is to be gone on with.
func (w *World) check(p *placement, c *cluster, l *look) verdict {
	switch {
	case !p.within(c):
		return outside
	case c.deleting():
		return deleting
	}
	var ok bool
	if p.reasons == nil {
		ok = p.rules.match(w, c, l, nil)
	} else {
		ok, p.reasons[c] = w.reasons(p, c, l)
	}
	switch {
	case l.paused:
		return unknown
	case ok:
		return matched
	default:
		return mismatched
	}
}

// filter gives every cluster that has none its verdict. It ends early, with false,
// when that has cost more than most, be it in the middle of a cluster; and when the
// placement has spent too much, which is tried again only after a while.
func (w *World) filter(p *placement, now time.Time, most int64) (done bool) {
	if p.count[unknown] == 0 || w.tooDear(p) || now.Before(p.rest) {
		return true
	}
	defer w.observer.Plugin(PluginFilter, FilterPredicate)()
	for id, v := range p.found {
		if v != unknown {
			continue
		}
		one, l := w.byID[id], &look{turn: most}
		if p.half == one {
			l.known = p.known
		}
		v := w.check(p, one, l)
		if v == unknown {
			p.half, p.known = one, l.known
			return false
		}
		p.set(one, v, l.cost)
		most = l.turn
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
