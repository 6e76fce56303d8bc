// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work"
)

// cluster is what is applied on the spoke; it outlives the agent's processes.
type cluster struct {
	w *World
	// works has the inventory of each work: what may be applied of it.
	works map[string]*inventory
}

// inventory is the model of an AppliedManifestWork and its objects.
type inventory struct {
	objects map[string]applied
}

// applied is one object on the spoke. Until it is written its uid is empty.
type applied struct {
	uid        string // of the work that wrote it last
	generation int64
	value      string
	lingering  int // a finalizer of somebody else: passes until it goes
}

func newCluster(w *World) *cluster { return &cluster{w: w, works: map[string]*inventory{}} }

// executor is the model of agent/work: passes over works, one at a time of each,
// over what the store says when the pass begins.
type executor struct {
	p        *process
	queued   map[string]bool // also while a pass runs
	running  map[string]bool
	reported map[string]string
}

func newExecutor(p *process) *executor {
	return &executor{p: p, queued: map[string]bool{}, running: map[string]bool{}, reported: map[string]string{}}
}

func (x *executor) startAll() {
	for _, name := range x.p.steps.Works().Names() {
		x.enqueue(name)
	}
	x.p.w.after(10*time.Minute, x.p.life, x.startAll) // drift, by and by
}

// resend reports every work again.
func (x *executor) resend() {
	clear(x.reported)
	for _, name := range x.p.steps.Works().Names() {
		x.enqueue(name)
	}
}

// enqueue asks for a pass.
func (x *executor) enqueue(name string) { x.enqueueIn(name, 50*time.Millisecond) }

func (x *executor) enqueueIn(name string, d time.Duration) {
	if x.queued[name] {
		return
	}
	x.queued[name] = true
	if !x.running[name] {
		x.p.w.after(d, x.p.life, func() { x.begin(name) })
	}
}

// begin reads what is wanted; what comes of it is seen a little later.
func (x *executor) begin(name string) {
	if x.running[name] {
		return
	}
	x.queued[name], x.running[name] = false, true
	desired, ok := x.p.steps.Works().Get(name)
	x.p.w.after(x.p.dice.between(5*time.Millisecond, x.p.w.plan.ApplyTime), x.p.life, func() {
		x.running[name] = false
		again := false
		if ok {
			x.p.guard(func() { again = x.pass(name, desired) })
		}
		switch {
		case x.queued[name]:
			x.queued[name] = false
			x.enqueueIn(name, 50*time.Millisecond)
		case again:
			x.enqueueIn(name, time.Second)
		}
	})
}

// pass makes one pass; it tells whether something is left to be done.
func (x *executor) pass(name string, desired work.Desired) (again bool) {
	w := x.p.w
	if desired.Delete == work.DeleteHeld && w.breaks("holds are ignored") {
		return x.finalize(name, desired)
	}
	if desired.Delete == work.DeleteRequested || desired.Delete == work.DeleteOrphaned {
		return x.finalize(name, desired)
	}
	wanted, generation := manifestsOf(desired.Work)
	uid, c := string(desired.Work.UID), x.p.spoke.cluster
	if c.works[name] == nil {
		c.works[name] = &inventory{objects: map[string]applied{}}
	}
	have := c.works[name].objects
	for _, object := range slices.Sorted(maps.Keys(wanted)) {
		old := have[object]
		if old.uid == uid && old.generation == generation && old.value == wanted[object] {
			continue
		}
		have[object] = applied{uid: uid, generation: generation, value: wanted[object]}
		w.check.applied(name, uid, generation, desired.Digest)
		w.notef(name, "spoke", "applies %s/%s = %s of %s/%d", name, object, wanted[object], uid, generation)
	}
	if !desired.HoldPrune || w.breaks("prunes are not held") {
		for _, object := range slices.Sorted(maps.Keys(have)) {
			if _, still := wanted[object]; !still {
				w.notef(name, "spoke", "prunes %s/%s, which %s/%d has no more", name, object, uid, generation)
				w.check.pruned(name, object, have[object], uid, generation)
				delete(have, object)
			}
		}
	}
	x.report(desired, generation, fmt.Sprint(wanted))
	return false
}

// finalize removes what is in the inventory, then the inventory, and then says
// that nothing is left.
func (x *executor) finalize(name string, desired work.Desired) (again bool) {
	c, w, uid := x.p.spoke.cluster, x.p.w, string(desired.Work.UID)
	if have := c.works[name]; have != nil {
		for _, object := range slices.Sorted(maps.Keys(have.objects)) {
			o := have.objects[object]
			if o.lingering == 0 && x.p.dice.chance(0.1) {
				o.lingering = 2
			}
			if o.lingering > 1 {
				o.lingering--
				have.objects[object] = o
				continue
			}
			w.notef(name, "spoke", "removes %s/%s of %s, since %s is to be deleted", name, object, o.uid, uid)
			w.check.removed(name, o, desired)
			delete(have.objects, object)
		}
		if len(have.objects) > 0 {
			x.report(desired, desired.Work.Generation, "deleting")
			return true
		}
		delete(c.works, name)
	}
	w.notef(name, "spoke", "has nothing left of %s", uid)
	w.check.finalized(uid)
	if w.breaks("a removed work is not forgotten") {
		return false
	}
	delete(x.reported, name)
	x.p.steps.Report(work.Report{
		Name: name, UID: uid, ObservedGeneration: desired.Work.Generation, Digest: desired.Digest, Finalized: true,
	})
	x.p.dropSoon()
	x.p.pumpSoon()
	return false
}

// report hands on a status unless it is the last one.
func (x *executor) report(desired work.Desired, generation int64, message string) {
	uid := string(desired.Work.UID)
	text := fmt.Sprint(uid, generation, string(desired.Digest), message)
	if x.reported[desired.Work.Name] == text {
		return
	}
	x.reported[desired.Work.Name] = text
	x.p.steps.Report(work.Report{
		Name: desired.Work.Name, UID: uid, ObservedGeneration: generation, Digest: desired.Digest,
		Status: &workv1.ManifestWorkStatus{Conditions: []metav1.Condition{{
			Type: workv1.WorkApplied, Status: metav1.ConditionTrue, ObservedGeneration: generation, Reason: uid, Message: message,
		}}},
	})
	x.p.pumpSoon()
}

// manifestsOf decodes what is to be applied, by name.
func manifestsOf(w *workv1.ManifestWork) (wanted map[string]string, generation int64) {
	wanted = map[string]string{}
	for _, manifest := range w.Spec.Workload.Manifests {
		var o struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
			Data map[string]string `json:"data"`
		}
		if json.Unmarshal(manifest.Raw, &o) == nil {
			wanted[o.Metadata.Name] = o.Data["v"]
		}
	}
	return wanted, w.Generation
}
