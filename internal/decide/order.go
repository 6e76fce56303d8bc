// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package decide

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"
)

// step makes one object have these clusters.
type step struct {
	object   string
	clusters sets.Set[string]
	// remove deletes the object instead.
	remove bool
	// spare says that the object is for the time of the change only, with the
	// labels of this other one.
	spare string
}

// change is contents of objects by name, as they are and as they are to be, and in
// which order one becomes the other.
type change struct {
	have, want map[string]sets.Set[string]
	// visit are the objects that need a step, though their clusters may be right.
	visit map[string]bool
	// spare makes a name that no object has.
	spare func() string

	holders map[string]int // by cluster: how many objects have it
	kept    map[string]bool
	done    []step
}

// steps orders the changes so that at no moment a cluster that is kept is in none
// of the objects, and none has more than MaxClusters. Objects of want come to be,
// those only in have are removed.
func (c *change) steps() []step {
	c.holders, c.kept, c.done = map[string]int{}, map[string]bool{}, nil
	for _, clusters := range c.have {
		for cluster := range clusters {
			c.holders[cluster]++
		}
	}
	for _, clusters := range c.want {
		for cluster := range clusters {
			c.kept[cluster] = c.holders[cluster] > 0
		}
	}
	c.have = maps.Clone(c.have)
	pending := slices.Sorted(maps.Keys(c.visit))
	var spares []string
	for len(pending) > 0 {
		if i := slices.IndexFunc(pending, func(object string) bool { return len(c.stuck(object)) == 0 }); i >= 0 {
			c.finish(pending[i])
			pending = slices.Delete(pending, i, i+1)
			continue
		}
		if spare := c.untie(pending); spare != "" {
			spares = append(spares, spare)
		}
	}
	for _, spare := range spares {
		c.finish(spare)
	}
	return c.done
}

// stuck are the clusters that nobody would have if this object became as it is to
// be now.
func (c *change) stuck(object string) []string {
	var stuck []string
	for cluster := range c.have[object] {
		if c.kept[cluster] && !c.want[object].Has(cluster) && c.holders[cluster] < 2 {
			stuck = append(stuck, cluster)
		}
	}
	return stuck
}

func (c *change) finish(object string) {
	want, stays := c.want[object]
	c.put(step{object: object, clusters: want, remove: !stays})
}

// untie helps where each object waits for another: one gets all that it is to have
// besides what it has; or, where that is too much, a spare object gets what it is
// to lose, and is named.
func (c *change) untie(pending []string) (spare string) {
	size := func(object string) int { return len(c.want[object]) + len(c.stuck(object)) }
	least := slices.MinFunc(pending, func(a, b string) int { return size(a) - size(b) })
	if stuck := c.stuck(least); size(least) > MaxClusters || c.have[least].IsSuperset(c.want[least]) {
		spare = c.spare()
		c.put(step{object: spare, clusters: sets.New(stuck...), spare: least})
		return spare
	}
	c.put(step{object: least, clusters: c.want[least].Union(sets.New(c.stuck(least)...))})
	return ""
}

func (c *change) put(s step) {
	for cluster := range c.have[s.object] {
		c.holders[cluster]--
	}
	for cluster := range s.clusters {
		c.holders[cluster]++
	}
	if s.remove {
		delete(c.have, s.object)
	} else {
		c.have[s.object] = s.clusters
	}
	c.done = append(c.done, s)
}
