// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

// World is what placements choose from. Objects that are put into it are kept,
// and neither the World nor their owner may change them afterwards. It is not
// safe for concurrent use.
type World struct {
	compiler *compiler
	observer Observer
	budget   int64 // of each placement

	clusters map[string]*cluster
	byID     []*cluster // an ID is a place in the verdicts of every placement
	free     []int

	sets     map[string]*clusterSet
	bindings map[string]map[string]string        // namespace, binding → set
	boundIn  map[string]map[string]int           // set, namespace → bindings
	scores   map[string]map[string]*addOnScore   // cluster, name
	written  map[types.NamespacedName]*written   // by PlacementDecision
	owned    map[types.NamespacedName]tally      // by Placement: its decisions
	decided  tally                               // decisions of all Placements
	places   map[types.NamespacedName]*placement // all Placements
	within   map[string]map[string]*placement    // namespace, name
	dirty    map[types.NamespacedName]*placement
}

// tally counts decisions by cluster.
type tally map[string]int

func (t tally) add(cluster string, n int) {
	t[cluster] += n
	if t[cluster] == 0 {
		delete(t, cluster)
	}
}

// addOnScore is an AddOnPlacementScore, indexed.
type addOnScore struct {
	object *clusterv1alpha1.AddOnPlacementScore
	values map[string]int64
}

// written is a PlacementDecision.
type written struct {
	object *clusterv1beta1.PlacementDecision
	owner  types.NamespacedName
}

// New returns an empty World. It fails if the CEL environment cannot be made,
// which is a fault of the program.
func New() (*World, error) {
	compiler, err := newCompiler()
	if err != nil {
		return nil, err
	}
	return &World{
		compiler: compiler,
		observer: unobserved{},
		budget:   costPerPlacement,
		clusters: map[string]*cluster{},
		sets:     map[string]*clusterSet{},
		bindings: map[string]map[string]string{},
		boundIn:  map[string]map[string]int{},
		scores:   map[string]map[string]*addOnScore{},
		written:  map[types.NamespacedName]*written{},
		owned:    map[types.NamespacedName]tally{},
		decided:  tally{},
		places:   map[types.NamespacedName]*placement{},
		within:   map[string]map[string]*placement{},
		dirty:    map[types.NamespacedName]*placement{},
	}, nil
}

// Dirty takes the placements whose choice may differ from when they were last
// decided, sorted, each once. Two things are left to others: time, for which
// Outcome.Again says when, and decisions of other placements, which count for
// Balance from the next time on that a placement is decided for a reason of its
// own (PL-53); else two placements could chase each other for ever.
func (w *World) Dirty() []types.NamespacedName {
	keys := slices.SortedFunc(maps.Keys(w.dirty), func(a, b types.NamespacedName) int {
		return strings.Compare(a.String(), b.String())
	})
	for _, p := range w.dirty {
		p.dirty = false
	}
	clear(w.dirty)
	return keys
}

// Filter does a part of what Decide has to do first: it evaluates expressions until
// they have cost more than most, in CEL's units (a million take about a tenth of a
// second, and one expression costs no more than that). It says whether Decide has
// nothing of that left to do. So a placement that costs much does not keep others
// waiting, not even one that costs much on each cluster.
func (w *World) Filter(key types.NamespacedName, now time.Time, most int64) (done bool) {
	p, ok := w.places[key]
	return !ok || w.filter(p, now, most)
}

// Observe has the World tell an observer how it spends its time. It is told
// nothing else; the default is nobody.
func (w *World) Observe(observer Observer) { w.observer = observer }

// Decide chooses the clusters of a placement; ok is false if there is none of
// this name. now is the hub's clock.
func (w *World) Decide(key types.NamespacedName, now time.Time) (outcome Outcome, ok bool) {
	p, ok := w.places[key]
	if !ok {
		return Outcome{}, false
	}
	return w.choose(p, now).outcome(), true
}

// mark has a placement decided anew.
func (w *World) mark(p *placement) {
	p.dirty = true
	w.dirty[p.key] = p
}

// PutPlacement keeps a placement and has it decided if its spec or annotations
// are new.
func (w *World) PutPlacement(object *clusterv1beta1.Placement) {
	key := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
	old := w.places[key]
	if old != nil && old.same(object) {
		old.object = object
		return
	}
	p := w.prepare(object)
	w.places[key] = p
	if w.within[key.Namespace] == nil {
		w.within[key.Namespace] = map[string]*placement{}
	}
	w.within[key.Namespace][key.Name] = p
	w.mark(p)
}

// prepare compiles a placement and finds its candidates, without keeping it.
func (w *World) prepare(object *clusterv1beta1.Placement) *placement {
	p := &placement{
		key:    types.NamespacedName{Namespace: object.Namespace, Name: object.Name},
		object: object,
		rules:  w.compile(&object.Spec),
	}
	w.refresh(p)
	return p
}

// RemovePlacement forgets a placement; its decisions stay until RemoveDecision.
func (w *World) RemovePlacement(key types.NamespacedName) {
	delete(w.places, key)
	delete(w.dirty, key)
	delete(w.within[key.Namespace], key.Name)
	if len(w.within[key.Namespace]) == 0 {
		delete(w.within, key.Namespace)
	}
}

// PutScore keeps scores of a cluster, which is named by their namespace.
func (w *World) PutScore(object *clusterv1alpha1.AddOnPlacementScore) {
	values := make(map[string]int64, len(object.Status.Scores))
	for _, item := range object.Status.Scores {
		values[item.Name] = int64(item.Value)
	}
	of := w.scores[object.Namespace]
	if of == nil {
		of = map[string]*addOnScore{}
		w.scores[object.Namespace] = of
	}
	old := of[object.Name]
	of[object.Name] = &addOnScore{object: object, values: values}
	if old == nil || !maps.Equal(old.values, values) || !old.object.Status.ValidUntil.Equal(object.Status.ValidUntil) {
		w.scoreChanged(object.Namespace, object.Name)
	}
}

// RemoveScore forgets the scores of a cluster that have this name.
func (w *World) RemoveScore(cluster, name string) {
	if _, ok := w.scores[cluster][name]; !ok {
		return
	}
	delete(w.scores[cluster], name)
	if len(w.scores[cluster]) == 0 {
		delete(w.scores, cluster)
	}
	w.scoreChanged(cluster, name)
}

func (w *World) scoreChanged(cluster, name string) {
	c := w.clusters[cluster]
	if c == nil {
		return
	}
	w.choosers(c.sets, func(p *placement) {
		if p.rules.readsScores {
			w.recheck(p, c)
		}
		if p.verdict(c) == matched && p.rules.usesAddOn(name) {
			w.mark(p)
		}
	})
}

// PutDecision keeps a PlacementDecision: it tells what its placement decided
// before (Steady, NoSelectIfNew), and counts for Balance of others.
func (w *World) PutDecision(object *clusterv1beta1.PlacementDecision) {
	key := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
	d := &written{object: object, owner: ownerOf(object)}
	old := w.written[key]
	if old != nil && old.owner == d.owner && slices.EqualFunc(old.object.Status.Decisions, object.Status.Decisions, sameDecision) {
		w.written[key] = d
		return
	}
	w.forget(old)
	w.written[key] = d
	if w.owned[d.owner] == nil {
		w.owned[d.owner] = tally{}
	}
	for _, one := range object.Status.Decisions {
		w.owned[d.owner].add(one.ClusterName, 1)
		w.decided.add(one.ClusterName, 1)
	}
	w.decisionChanged(d)
}

// RemoveDecision forgets a PlacementDecision.
func (w *World) RemoveDecision(key types.NamespacedName) {
	w.forget(w.written[key])
	delete(w.written, key)
}

func (w *World) forget(d *written) {
	if d == nil {
		return
	}
	for _, one := range d.object.Status.Decisions {
		w.owned[d.owner].add(one.ClusterName, -1)
		w.decided.add(one.ClusterName, -1)
	}
	if len(w.owned[d.owner]) == 0 {
		delete(w.owned, d.owner)
	}
	w.decisionChanged(d)
}

func (w *World) decisionChanged(d *written) {
	if p := w.places[d.owner]; p != nil {
		w.mark(p)
	}
}

// ownerOf is the placement that a PlacementDecision is labelled with.
func ownerOf(d *clusterv1beta1.PlacementDecision) types.NamespacedName {
	return types.NamespacedName{Namespace: d.Namespace, Name: d.Labels[clusterv1beta1.PlacementLabel]}
}

func sameDecision(a, b clusterv1beta1.ClusterDecision) bool { return a.ClusterName == b.ClusterName }
