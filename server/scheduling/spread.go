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
}

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
	for len(c.selected) < n {
		best := next(topologies, buckets)
		if best == nil {
			break
		}
		for k, t := range topologies {
			if d := best.domains[k]; d >= 0 {
				t.chosen[d]++
			}
		}
		c.selected = append(c.selected, c.order[best.ranks[0]])
		best.ranks = best.ranks[1:]
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

// next finds the bucket to take the next cluster from; nil: none may be taken.
func next(topologies []*topology, buckets []*bucket) *bucket {
	floors := make([]int, len(topologies))
	for k, t := range topologies {
		floors[k] = t.floor()
	}
	var best *bucket
	excess, least := make([]int, len(topologies)), make([]int, len(topologies))
	for _, b := range buckets {
		if len(b.ranks) == 0 || !b.measure(topologies, floors, excess) {
			continue
		}
		order := -1
		if best != nil {
			order = cmp.Or(slices.Compare(excess, least), cmp.Compare(b.ranks[0], best.ranks[0]))
		}
		if order < 0 {
			best = b
			copy(least, excess)
		}
	}
	return best
}

// measure finds by how much one more of a bucket would exceed each constraint;
// false if one forbids it.
func (b *bucket) measure(topologies []*topology, floors, excess []int) bool {
	for k, t := range topologies {
		excess[k] = t.excess(b.domains[k], floors[k])
		if t.strict && excess[k] > 0 {
			return false
		}
		if b.kept {
			excess[k] = 0
		}
	}
	return true
}

// floor is the least number of clusters chosen in a domain.
func (t *topology) floor() int {
	least := math.MaxInt
	for _, n := range t.chosen {
		least = min(least, n)
	}
	return least
}

// excess is by how much one more cluster in a domain exceeds maxSkew. A cluster
// without the key is worst: it is in no domain that could be counted.
func (t *topology) excess(domain, floor int) int {
	if domain < 0 {
		return math.MaxInt
	}
	return max(0, t.chosen[domain]+1-floor-t.skew)
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
			t.chosen = append(t.chosen, 0)
			t.names = append(t.names, value)
		}
		t.domains[i] = d
	}
	return t
}

// block notes of the clusters left which constraint forbids them.
func (c *choice) block(topologies []*topology, buckets []*bucket) {
	c.blocked = map[int]string{}
	for _, b := range buckets {
		for k, t := range topologies {
			floor := t.floor()
			if !t.strict || t.excess(b.domains[k], floor) == 0 {
				continue
			}
			for _, rank := range b.ranks {
				c.blocked[c.order[rank]] = fmt.Sprintf("spreadConstraints[%d] forbids it: %s", k, t.describe(b.domains[k], floor))
			}
			break
		}
	}
}

func (t *topology) describe(domain, floor int) string {
	if domain < 0 {
		return fmt.Sprintf("it has no %q", t.key)
	}
	return fmt.Sprintf("%s=%s has %d of the chosen and another only %d (maxSkew %d)", t.key, t.names[domain], t.chosen[domain], floor, t.skew)
}
