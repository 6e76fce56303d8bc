// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

// topology is one spread constraint with the clusters chosen so far.
type topology struct {
	key     string
	skew    int
	strict  bool
	domains []int // by place in passed: which domain it is in, -1 for none
	names   []string
	chosen  []int // by domain
	left    []int // by domain: candidates that are not chosen
	floor   int   // the least of chosen
	lowest  int   // no domain with candidates left has fewer chosen
	sizes   []tier
}

// tier counts the domains with so many chosen: all, and those with candidates left.
type tier struct{ all, left int }

// domain is the value of a constraint's key that a cluster has.
func domain(of *clusterv1beta1.SpreadConstraintsTerm, c *cluster) (value string, ok bool) {
	if of.TopologyKeyType == clusterv1beta1.TopologyKeyTypeClaim {
		value, ok = c.claims[of.TopologyKey]
		return value, ok
	}
	value, ok = c.object.Labels[of.TopologyKey]
	return value, ok
}

// movesIn says whether a cluster went from one domain to another.
func (r *rules) movesIn(before, after *cluster) bool {
	return r.spreads() && slices.ContainsFunc(r.spec.SpreadPolicy.SpreadConstraints, func(of clusterv1beta1.SpreadConstraintsTerm) bool {
		was, had := domain(&of, before)
		is, has := domain(&of, after)
		return was != is || had != has
	})
}

// bucket has the clusters that no constraint tells apart, best first.
type bucket struct {
	domains []int // by constraint; -1: the clusters lack its key
	kept    bool  // the placement chose them before, and has reason to keep them
	ranks   []int // places in choice.order
}

// spread selects up to n clusters one by one. Each time it takes, of the clusters
// that no DoNotSchedule constraint forbids, the one that exceeds maxSkew the
// least, by the first constraint, then the second and so on; of equals the best
// by score. Where Steady counts, ScheduleAnyway is no reason to leave a cluster
// that was chosen before: it guides new choices only.
func (c *choice) spread(n int) {
	topologies := c.topologies()
	buckets := c.buckets(topologies)
	c.selected = nil
	kept := slices.ContainsFunc(buckets, func(b *bucket) bool { return b.kept })
	for len(c.selected) < n {
		best := next(topologies, buckets, kept)
		if best == nil {
			break
		}
		for k, t := range topologies {
			t.take(best.domains[k])
		}
		c.selected = append(c.selected, c.order[best.ranks[0]])
		buckets = best.shift(buckets)
	}
	if len(c.selected) < n {
		c.block(topologies, buckets)
	}
	slices.SortFunc(c.selected, c.better)
}

// buckets sorts the candidates by what constraints see of them.
func (c *choice) buckets(topologies []*topology) []*bucket {
	steady := slices.ContainsFunc(c.p.rules.prioritizers, func(p prioritizer) bool { return p.name == PrioritizerSteady && p.weight > 0 })
	var all []*bucket
	known := map[string]*bucket{}
	var key []byte
	for rank, i := range c.order {
		kept := steady && c.had[c.passed[i].name] > 0
		key = strconv.AppendBool(key[:0], kept)
		for _, t := range topologies {
			key = strconv.AppendInt(append(key, ' '), int64(t.domains[i]), 10)
		}
		b := known[string(key)]
		if b == nil {
			b = &bucket{kept: kept}
			for _, t := range topologies {
				b.domains = append(b.domains, t.domains[i])
			}
			known[string(key)] = b
			all = append(all, b)
		}
		b.ranks = append(b.ranks, rank)
	}
	return all
}

// shift drops the best cluster of a bucket, and keeps the buckets in the order of the
// best that each has left.
func (b *bucket) shift(all []*bucket) []*bucket {
	byRank := func(b *bucket, rank int) int { return cmp.Compare(b.ranks[0], rank) }
	at, _ := slices.BinarySearchFunc(all, b.ranks[0], byRank)
	if b.ranks = b.ranks[1:]; len(b.ranks) == 0 {
		return slices.Delete(all, at, at+1)
	}
	end, _ := slices.BinarySearchFunc(all[at+1:], b.ranks[0], byRank)
	copy(all[at:], all[at+1:at+1+end])
	all[at+end] = b
	return all
}

// next finds the bucket to take the next cluster from; nil: none may be taken. It
// looks no further than to one that nothing can be better than: a fleet has many.
func next(topologies []*topology, buckets []*bucket, kept bool) *bucket {
	lowest := make([]int, len(topologies))
	for k, t := range topologies {
		if !kept {
			lowest[k] = t.lowestExcess()
		}
	}
	var best *bucket
	excess, least := make([]int, len(topologies)), make([]int, len(topologies))
	for _, b := range buckets {
		if !b.measure(topologies, excess) || best != nil && slices.Compare(excess, least) >= 0 {
			continue
		}
		best = b
		copy(least, excess)
		if slices.Compare(least, lowest) <= 0 {
			break
		}
	}
	return best
}

// measure finds by how much one more of a bucket would exceed each constraint;
// false if one forbids it.
func (b *bucket) measure(topologies []*topology, excess []int) bool {
	for k, t := range topologies {
		excess[k] = t.excess(b.domains[k])
		if t.strict && excess[k] > 0 {
			return false
		}
		if b.kept {
			excess[k] = 0
		}
	}
	return true
}

// add counts a candidate in a domain, before any is chosen.
func (t *topology) add(domain int) {
	t.left[domain]++
	t.sizes = []tier{{len(t.left), len(t.left)}}
}

// take counts one more chosen in a domain.
func (t *topology) take(domain int) {
	if domain < 0 {
		return
	}
	n := t.chosen[domain]
	t.chosen[domain]++
	t.left[domain]--
	if n+1 == len(t.sizes) {
		t.sizes = append(t.sizes, tier{})
	}
	t.sizes[n].all--
	t.sizes[n].left--
	t.sizes[n+1].all++
	t.sizes[n+1].left++
	if t.left[domain] == 0 {
		t.sizes[n+1].left--
	}
	for t.sizes[t.floor].all == 0 {
		t.floor++
	}
	for t.lowest < len(t.sizes) && t.sizes[t.lowest].left == 0 {
		t.lowest++
	}
}

// lowestExcess is what no candidate that is left can be below.
func (t *topology) lowestExcess() int {
	if t.lowest == len(t.sizes) {
		return math.MaxInt
	}
	return t.over(t.lowest)
}

func (t *topology) over(chosen int) int { return max(0, chosen+1-t.floor-t.skew) }

// excess is by how much one more cluster in a domain exceeds maxSkew. A cluster
// without the key is worst: it is in no domain that could be counted.
func (t *topology) excess(domain int) int {
	if domain < 0 {
		return math.MaxInt
	}
	return t.over(t.chosen[domain])
}

func (c *choice) topologies() []*topology {
	constraints := c.p.rules.spec.SpreadPolicy.SpreadConstraints
	all := make([]*topology, 0, len(constraints))
	for i := range constraints {
		all = append(all, c.topology(&constraints[i]))
	}
	return all
}

func (c *choice) topology(of *clusterv1beta1.SpreadConstraintsTerm) *topology {
	t := &topology{
		key: of.TopologyKey, skew: max(int(of.MaxSkew), 1),
		strict:  of.WhenUnsatisfiable == clusterv1beta1.DoNotSchedule,
		domains: make([]int, len(c.passed)),
	}
	known := map[string]int{}
	for i, one := range c.passed {
		value, ok := domain(of, one)
		if !ok {
			t.domains[i] = -1
			continue
		}
		d, ok := known[value]
		if !ok {
			d = len(t.chosen)
			known[value] = d
			t.chosen, t.left = append(t.chosen, 0), append(t.left, 0)
			t.names = append(t.names, value)
		}
		t.domains[i] = d
		t.add(d)
	}
	return t
}

// block notes of the clusters left which constraint forbids them.
func (c *choice) block(topologies []*topology, buckets []*bucket) {
	c.blocked = map[int]string{}
	for _, b := range buckets {
		for k, t := range topologies {
			if !t.strict || t.excess(b.domains[k]) == 0 {
				continue
			}
			for _, rank := range b.ranks {
				c.blocked[c.order[rank]] = fmt.Sprintf("spreadConstraints[%d] forbids it: %s", k, t.describe(b.domains[k]))
			}
			break
		}
	}
}

func (t *topology) describe(domain int) string {
	if domain < 0 {
		return fmt.Sprintf("it has no %q", t.key)
	}
	return fmt.Sprintf("%s=%s has %d of the chosen and another only %d (maxSkew %d)", t.key, t.names[domain], t.chosen[domain], t.floor, t.skew)
}
