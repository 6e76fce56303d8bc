// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"time"

	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/internal/wire"
)

// Reconcile brings the works of one set in line with it, some at a time, and says
// in its status how they do.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	set := &workv1alpha1.ManifestWorkReplicaSet{}
	err := r.client.Get(ctx, request.NamespacedName, set)
	if err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.forget(LabelValue(request.NamespacedName))
		}
		return kube.Settle(0, client.IgnoreNotFound(err))
	}
	label := LabelValue(request.NamespacedName)
	note := r.note(label, request.NamespacedName)
	if !set.DeletionTimestamp.IsZero() {
		again, err := r.remove(ctx, set, label)
		return kube.Settle(again, client.IgnoreNotFound(err))
	}
	if err := r.hold(ctx, set); err != nil {
		return kube.Settle(0, client.IgnoreNotFound(err))
	}
	works, known := r.cfg.Works.Generated(label)
	behind := r.cfg.Works.HighWater() < note.written && r.cfg.Clock.Since(note.at) < patience
	if !known || behind {
		return reconcile.Result{RequeueAfter: tick}, nil // what was written just now comes back soon
	}
	again, err := r.round(ctx, &round{reconciler: r, set: set, label: label, note: note}, works)
	return kube.Settle(again, client.IgnoreNotFound(err))
}

// hold puts the finalizer onto a set (MH-06), before any work is made for it.
func (r *reconciler) hold(ctx context.Context, set *workv1alpha1.ManifestWorkReplicaSet) error {
	before := set.DeepCopy()
	if !controllerutil.AddFinalizer(set, workv1alpha1.ManifestWorkReplicaSetFinalizer) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Patch(ctx, set, patch, client.FieldOwner(wire.ReplicaSetManager)); err != nil {
		return fmt.Errorf("putting the finalizer onto ManifestWorkReplicaSet %s: %w", client.ObjectKeyFromObject(set), err)
	}
	return nil
}

// round is one look at one set.
type round struct {
	*reconciler
	set   *workv1alpha1.ManifestWorkReplicaSet
	label string
	note  *note

	refs []*ref
	// by maps a cluster to the first ref that chooses it.
	by map[string]*ref
	// works are the sets' works that stay, by cluster; leaving those that are being
	// deleted, and other those that are in the way or of no ref.
	works   map[string]*Work
	leaving map[string]bool
	other   []*Work
	// kept are works of refs whose placement nobody has decided on.
	kept map[string][]*Work

	// template is the spec's canonical form, current which of the works' have it.
	template []byte
	current  map[wire.Digest]bool
	labelled map[string]bool // by placement and labels: whether these are as wanted
	fresh    bool            // a cluster is blocked that was not when this was planned
}

func (r *reconciler) round(ctx context.Context, o *round, works []Work) (again time.Duration, err error) {
	now := r.cfg.Clock.Now()
	if err := o.look(ctx, r.client, works, now); err != nil {
		return 0, err
	}
	if pause := o.pause(now); pause > 0 {
		return pause, nil
	}
	writes := o.writes(ctx)
	removals, err := o.removals(ctx)
	if err != nil {
		return 0, err
	}
	outcome := o.write(ctx, append(writes, removals...))
	if err := o.report(ctx, outcome); err != nil {
		return 0, err
	}
	return o.next(now, outcome), nil
}

// pause is for how long to wait for decisions that are being written, as most are
// for a moment: conditions do not flap, and no other placement takes over. What is
// written leads to another round.
func (o *round) pause(now time.Time) time.Duration {
	if o.writing() == "" {
		o.note.halfway = time.Time{}
		return 0
	}
	if o.note.halfway.IsZero() {
		o.note.halfway = now
	}
	return o.note.halfway.Add(halfway).Sub(now)
}

// look finds out what the set wants of its works, and plans; it writes nothing.
func (o *round) look(ctx context.Context, reader client.Reader, works []Work, now time.Time) (err error) {
	if o.template, err = canonical(&o.set.Spec.ManifestWorkTemplate); err != nil {
		return err
	}
	o.current, o.labelled = map[wire.Digest]bool{}, map[string]bool{}
	if o.refs, err = o.readRefs(ctx, reader, o.set); err != nil {
		return err
	}
	o.by = claim(o.refs)
	if !bytes.Equal(o.note.template, o.template) {
		clear(o.note.blocked)
		o.note.template = o.template
	}
	maps.DeleteFunc(o.note.blocked, func(cluster string, _ obstacle) bool { return o.by[cluster] == nil })
	o.assign(works)
	for _, ref := range o.refs {
		o.plan(ref, now)
	}
	return nil
}

// next is when the set is looked at again though nothing happens.
func (o *round) next(now time.Time, outcome outcome) time.Duration {
	again := time.Duration(0)
	sooner := func(d time.Duration) {
		if again == 0 || d < again {
			again = d
		}
	}
	if outcome.more || o.fresh {
		sooner(time.Millisecond)
	}
	if len(outcome.errors)+len(o.note.blocked) > 0 {
		sooner(retry)
	}
	for _, ref := range o.refs {
		if at := ref.plan.Again; !at.IsZero() {
			sooner(max(time.Millisecond, at.Sub(now)))
		}
	}
	return again
}
