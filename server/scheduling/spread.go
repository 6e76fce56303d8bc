// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"cmp"
	"fmt"
	"math"

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

// spread selects up to n clusters one by one. Each time it takes, of the clusters
// that no DoNotSchedule constraint forbids, the one that exceeds maxSkew the
// least, by the first constraint, then the second and so on; of equals the best
// by score. As an earlier choice scores higher (Steady), deciding again chooses
// the same.
func (c *choice) spread(n int) {
	topologies := c.topologies()
	left := make([]int, len(c.order))
	copy(left, c.order)
	c.selected = nil
	for len(c.selected) < n {
		best := next(topologies, left)
		if best < 0 {
			break
		}
		i := left[best]
		for _, t := range topologies {
			if d := t.domains[i]; d >= 0 {
				t.chosen[d]++
			}
		}
		c.selected = append(c.selected, i)
		left = append(left[:best], left[best+1:]...)
	}
	c.explainSpread(topologies, left, n)
}

// next finds, among places in the order of their score, the one to take; -1: none may be.
func next(topologies []*topology, left []int) int {
	best := -1
	var least []int
	excess := make([]int, len(topologies))
	floors := make([]int, len(topologies))
	for k, t := range topologies {
		floors[k] = t.floor()
	}
	for at, i := range left {
		if !measure(topologies, floors, i, excess) {
			continue
		}
		if best < 0 || less(excess, least) {
			best = at
			least = append(least[:0], excess...)
		}
		if isZero(least) {
			break
		}
	}
	return best
}

// measure finds by how much a place would exceed each constraint; false if one forbids it.
func measure(topologies []*topology, floors []int, place int, excess []int) bool {
	for k, t := range topologies {
		excess[k] = t.excess(t.domains[place], floors[k])
		if t.strict && excess[k] > 0 {
			return false
		}
	}
	return true
}

func less(a, b []int) bool {
	for k := range a {
		if order := cmp.Compare(a[k], b[k]); order != 0 {
			return order < 0
		}
	}
	return false
}

func isZero(excess []int) bool {
	for _, n := range excess {
		if n != 0 {
			return false
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
		values := one.object.Labels
		if of.TopologyKeyType == clusterv1beta1.TopologyKeyTypeClaim {
			values = one.claims
		}
		value, ok := values[of.TopologyKey]
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

// explainSpread notes of the clusters left why a constraint forbids them, if
// there was a place for them.
func (c *choice) explainSpread(topologies []*topology, left []int, n int) {
	if len(c.selected) >= n {
		return
	}
	c.blocked = map[int]string{}
	for _, i := range left {
		for k, t := range topologies {
			floor := t.floor()
			if !t.strict || t.excess(t.domains[i], floor) == 0 {
				continue
			}
			c.blocked[i] = fmt.Sprintf("spreadConstraints[%d] forbids it: %s", k, t.describe(t.domains[i], floor))
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
