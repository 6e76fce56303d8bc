// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"maps"
	"slices"

	"github.com/google/cel-go/common/types/ref"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
)

// cluster is a ManagedCluster as filters and prioritizers see it.
type cluster struct {
	id     int
	name   string
	object *clusterv1.ManagedCluster
	claims map[string]string
	sets   []string // that it is in; a new slice whenever they change
	seen   ref.Val  // what CEL sees; made when first asked for
}

func (c *cluster) deleting() bool { return !c.object.DeletionTimestamp.IsZero() }

// PutCluster keeps a cluster. Each placement that may choose it filters this one
// cluster again; those to whom the difference matters become dirty.
func (w *World) PutCluster(object *clusterv1.ManagedCluster) {
	c := w.clusters[object.Name]
	if c == nil {
		c = &cluster{name: object.Name, id: w.newID()}
		w.clusters[c.name] = c
		w.byID[c.id] = c
	}
	before := *c
	c.object, c.claims, c.seen = object, claimsOf(object), nil
	changed := difference(&before, c)
	if changed.labels {
		for _, s := range w.sets {
			s.enrol(c)
		}
	}
	sets := c.sets
	if changed.labels {
		sets = slices.Compact(slices.Sorted(slices.Values(slices.Concat(before.sets, c.sets))))
	}
	w.choosers(sets, func(p *placement) { w.clusterChanged(p, &before, c, changed) })
}

// clusterChanged has a placement look at what became of a cluster.
func (w *World) clusterChanged(p *placement, before, c *cluster, changed change) {
	if changed.labels || changed.claims || changed.deleting || p.rules.usesCEL {
		w.recheck(p, c)
	}
	if p.dirty || before.object == nil || p.verdict(c) != matched {
		return
	}
	if changed.taints || p.rules.allocatable != nil && changed.resources || (changed.labels || changed.claims) && p.rules.movesIn(before, c) {
		w.mark(p)
	}
}

// RemoveCluster forgets a cluster.
func (w *World) RemoveCluster(name string) {
	c := w.clusters[name]
	if c == nil {
		return
	}
	delete(w.clusters, name)
	sets := c.sets
	for _, set := range sets {
		delete(w.sets[set].members, c)
	}
	c.sets = nil
	w.choosers(sets, func(p *placement) { w.settle(p, c, outside, 0) })
	w.byID[c.id] = nil
	w.free = append(w.free, c.id)
}

func (w *World) newID() int {
	if n := len(w.free); n > 0 {
		id := w.free[n-1]
		w.free = w.free[:n-1]
		return id
	}
	w.byID = append(w.byID, nil)
	return len(w.byID) - 1
}

// change is what differs between two states of a cluster.
type change struct{ labels, claims, taints, deleting, resources bool }

func difference(a, b *cluster) change {
	if a.object == nil {
		return change{true, true, true, true, true}
	}
	return change{
		labels:    !maps.Equal(a.object.Labels, b.object.Labels),
		claims:    !maps.Equal(a.claims, b.claims),
		taints:    !slices.EqualFunc(a.object.Spec.Taints, b.object.Spec.Taints, sameTaint),
		deleting:  a.deleting() != b.deleting(),
		resources: !sameResources(a.object.Status.Allocatable, b.object.Status.Allocatable) || !sameResources(a.object.Status.Capacity, b.object.Status.Capacity),
	}
}

func sameTaint(a, b clusterv1.Taint) bool {
	return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect && a.TimeAdded.Equal(&b.TimeAdded)
}

func sameResources(a, b clusterv1.ResourceList) bool {
	for _, name := range []clusterv1.ResourceName{clusterv1.ResourceCPU, clusterv1.ResourceMemory} {
		x, inA := a[name]
		y, inB := b[name]
		if inA != inB || x.Cmp(y) != 0 {
			return false
		}
	}
	return true
}

func claimsOf(object *clusterv1.ManagedCluster) map[string]string {
	claims := make(map[string]string, len(object.Status.ClusterClaims))
	for _, claim := range object.Status.ClusterClaims {
		claims[claim.Name] = claim.Value
	}
	return claims
}
