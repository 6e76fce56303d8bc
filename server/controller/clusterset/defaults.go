// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/clusterset"
)

// autoupdate set to "false" leaves default or global to its admin (RC-50).
const autoupdate = "cluster.open-cluster-management.io/autoupdate"

// keptSet is a set that the hub keeps in being, and what its events are called by.
type keptSet struct {
	event    string
	selector clusterv1beta2.ManagedClusterSelector
}

// keptSets are by name.
func keptSets() map[string]keptSet {
	return map[string]keptSet{
		clusterset.Default: {"DefaultManagedClusterSet", clusterv1beta2.ManagedClusterSelector{SelectorType: clusterv1beta2.ExclusiveClusterSetLabel}},
		clusterset.Global: {"GlobalManagedClusterSet", clusterv1beta2.ManagedClusterSelector{
			SelectorType: clusterv1beta2.LabelSelector, LabelSelector: &metav1.LabelSelector{},
		}},
	}
}

// defaults is the controller "defaultclusterset": it keeps the sets default and
// global in being, and their selectors as they are (RC-48 to RC-50).
type defaults struct {
	client client.Client
	events events.EventRecorder
	log    *slog.Logger
}

// Reconcile makes one of the two sets, or rolls its selector back. What else it
// has is its admin's.
func (r *defaults) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	wanted, ok := keptSets()[request.Name]
	if !ok {
		return reconcile.Result{}, nil
	}
	set := &clusterv1beta2.ManagedClusterSet{}
	err := r.client.Get(ctx, client.ObjectKey{Name: request.Name}, set)
	switch {
	case apierrors.IsNotFound(err) && request == missing(request.Name):
		return result(r.create(ctx, request.Name, wanted))
	case err != nil || !set.DeletionTimestamp.IsZero() || leftAlone(set):
		return result(err) // what is going is made anew once it is gone
	case equality.Semantic.DeepEqual(set.Spec.ClusterSelector, wanted.selector):
		return reconcile.Result{}, nil
	}
	set.Spec.ClusterSelector = wanted.selector
	if err := r.client.Update(ctx, set, client.FieldOwner(FieldManager)); err != nil {
		return result(err)
	}
	r.events.Eventf(set, nil, corev1.EventTypeNormal, wanted.event+"SpecRollbacked", "Rollback",
		"The clusterSelector of ManagedClusterSet %s was rolled back; the annotation %s=false would keep a change.", set.Name, autoupdate)
	r.log.InfoContext(ctx, "the selector of a set was rolled back", "set", set.Name)
	return reconcile.Result{}, nil
}

func (r *defaults) create(ctx context.Context, name string, wanted keptSet) error {
	set := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: name}}
	set.Spec.ClusterSelector = wanted.selector
	err := r.client.Create(ctx, set, client.FieldOwner(FieldManager))
	if apierrors.IsAlreadyExists(err) {
		return nil // the cache will know soon, and be looked at then
	}
	if err != nil {
		return fmt.Errorf("creating ManagedClusterSet %q: %w", name, err)
	}
	r.events.Eventf(set, nil, corev1.EventTypeNormal, wanted.event+"Created", "Create", "ManagedClusterSet %s was created.", name)
	r.log.InfoContext(ctx, "set created", "set", name)
	return nil
}

func leftAlone(set client.Object) bool { return set.GetAnnotations()[autoupdate] == "false" }

// kept lets through the two sets while they are not left alone.
func kept() predicate.Predicate {
	known := keptSets()
	return predicate.NewPredicateFuncs(func(o client.Object) bool {
		_, ok := known[o.GetName()]
		return ok && !leftAlone(o)
	})
}

// missing asks for a set to be made if there is none. Only its deletion and the
// start ask for that: what a change has queued may find a set gone that was to be
// left alone meanwhile.
func missing(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "missing", Name: name}} // sets have no namespace
}

// asks queues what happens to the two sets.
func asks() handler.EventHandler {
	changed := handler.EnqueueRequestForObject{}
	return handler.Funcs{
		CreateFunc: changed.Create, UpdateFunc: changed.Update,
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { q.Add(missing(e.Object.GetName())) },
	}
}
