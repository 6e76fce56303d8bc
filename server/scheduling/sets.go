// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"

	"fairlead.dev/fairlead/internal/clusterset"
)

// clusterSet is a ManagedClusterSet with the clusters in it.
type clusterSet struct {
	name     string
	spec     *clusterv1beta2.ManagedClusterSelector
	selector labels.Selector
	members  map[*cluster]struct{}
}

// PutSet keeps a set; clusters join and leave it as its selector says. A set
// whose selector cannot be read has no clusters.
func (w *World) PutSet(object *clusterv1beta2.ManagedClusterSet) {
	s := w.sets[object.Name]
	if s != nil && equality.Semantic.DeepEqual(s.spec, &object.Spec.ClusterSelector) {
		s.spec = &object.Spec.ClusterSelector
		return
	}
	isNew := s == nil
	if isNew {
		s = &clusterSet{name: object.Name, members: map[*cluster]struct{}{}}
		w.sets[object.Name] = s
	}
	s.spec = &object.Spec.ClusterSelector
	s.selector, _ = clusterset.Selector(object) // nothing, if it cannot be read
	for _, c := range w.clusters {
		if s.enrol(c) && !isNew {
			w.eachBound(s.name, func(p *placement) { w.recheck(p, c) })
		}
	}
	if isNew {
		w.refreshBound(s.name)
	}
}

// RemoveSet forgets a set, and with it what is bound by its name.
func (w *World) RemoveSet(name string) {
	s := w.sets[name]
	if s == nil {
		return
	}
	delete(w.sets, name)
	for c := range s.members {
		c.sets = without(c.sets, name)
	}
	w.refreshBound(name)
}

// PutBinding keeps a binding. It counts from when the set that it names exists,
// whatever its conditions say (PL-03).
func (w *World) PutBinding(object *clusterv1beta2.ManagedClusterSetBinding) {
	of := w.bindings[object.Namespace]
	if of == nil {
		of = map[string]string{}
		w.bindings[object.Namespace] = of
	}
	old, had := of[object.Name]
	if had && old == object.Spec.ClusterSet {
		return
	}
	if had {
		w.unbind(object.Namespace, old)
	}
	of[object.Name] = object.Spec.ClusterSet
	if w.boundIn[object.Spec.ClusterSet] == nil {
		w.boundIn[object.Spec.ClusterSet] = map[string]int{}
	}
	w.boundIn[object.Spec.ClusterSet][object.Namespace]++
	w.refreshNamespace(object.Namespace)
}

// RemoveBinding forgets a binding.
func (w *World) RemoveBinding(namespace, name string) {
	set, had := w.bindings[namespace][name]
	if !had {
		return
	}
	delete(w.bindings[namespace], name)
	if len(w.bindings[namespace]) == 0 {
		delete(w.bindings, namespace)
	}
	w.unbind(namespace, set)
	w.refreshNamespace(namespace)
}

func (w *World) unbind(namespace, set string) {
	of := w.boundIn[set]
	if of[namespace]--; of[namespace] == 0 {
		delete(of, namespace)
	}
	if len(of) == 0 {
		delete(w.boundIn, set)
	}
}

// bound are the sets that bindings of a namespace name and that exist, sorted.
func (w *World) bound(namespace string) []string {
	var names []string
	for _, set := range w.bindings[namespace] {
		if w.sets[set] != nil {
			names = append(names, set)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// eachBound visits the placements of the namespaces that a set is bound to.
func (w *World) eachBound(set string, visit func(*placement)) {
	for namespace := range w.boundIn[set] {
		for _, p := range w.within[namespace] {
			visit(p)
		}
	}
}

// choosers visits, once each, the placements that may choose from these sets.
func (w *World) choosers(sets []string, visit func(*placement)) {
	if len(sets) == 1 {
		w.eachBound(sets[0], visit)
		return
	}
	seen := map[string]bool{}
	for _, set := range sets {
		for namespace := range w.boundIn[set] {
			if seen[namespace] {
				continue
			}
			seen[namespace] = true
			for _, p := range w.within[namespace] {
				visit(p)
			}
		}
	}
}

func (w *World) refreshBound(set string) {
	for namespace := range w.boundIn[set] {
		w.refreshNamespace(namespace)
	}
}

func (w *World) refreshNamespace(namespace string) {
	for _, p := range w.within[namespace] {
		if w.refresh(p) {
			w.mark(p)
		}
	}
}

// refresh finds the sets that a placement chooses from anew, and says whether
// they differ; if so, all its clusters are to be filtered again.
func (w *World) refresh(p *placement) bool {
	bound := w.bound(p.key.Namespace)
	eligible := bound
	if named := p.object.Spec.ClusterSets; len(named) > 0 {
		eligible = slices.DeleteFunc(slices.Clone(bound), func(set string) bool { return !slices.Contains(named, set) })
	}
	if slices.Equal(bound, p.bound) && slices.Equal(eligible, p.eligible) && p.filled {
		return false
	}
	p.bound, p.eligible, p.filled = bound, eligible, true
	p.reset(len(w.byID))
	for _, name := range eligible {
		for c := range w.sets[name].members {
			p.set(c, unknown, 0)
		}
	}
	return true
}

// enrol puts a cluster into the set or takes it out, and says whether that is news.
func (s *clusterSet) enrol(c *cluster) bool {
	in := s.selector.Matches(labels.Set(c.object.Labels))
	_, was := s.members[c]
	if in == was {
		return false
	}
	if in {
		s.members[c] = struct{}{}
		c.sets = append(without(c.sets, s.name), s.name)
		return true
	}
	delete(s.members, c)
	c.sets = without(c.sets, s.name)
	return true
}

// without returns the names but one, in an array of its own.
func without(names []string, name string) []string {
	kept := make([]string, 0, len(names)+1)
	for _, n := range names {
		if n != name {
			kept = append(kept, n)
		}
	}
	return kept
}
