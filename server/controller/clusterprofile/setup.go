// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterprofile

import (
	"context"
	"fmt"
	"log/slog"
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	inventoryv1alpha1 "sigs.k8s.io/cluster-inventory-api/apis/v1alpha1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/clusterset"
)

const (
	// FieldManager owns what the controller writes.
	FieldManager = "fairlead-clusterprofile"

	eventSource = "fairlead-hub"
	workers     = 4
)

// Config is what the controller needs.
type Config struct {
	// Log gets a line for each profile that comes or goes. Default slog.Default().
	Log *slog.Logger
}

// Setup adds the controller "clusterprofile" to mgr. ManagedClusters, their sets
// and bindings, and ClusterProfiles have to be served.
func Setup(mgr manager.Manager, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	r := &profiles{client: mgr.GetClient(), events: mgr.GetEventRecorder(eventSource), log: cfg.Log}
	err := ctrl.NewControllerManagedBy(mgr).Named("clusterprofile").
		For(&inventoryv1alpha1.ClusterProfile{}).
		Watches(&clusterv1.ManagedCluster{}, handler.EnqueueRequestsFromMapFunc(r.ofCluster), builder.WithPredicates(predicate.Funcs{UpdateFunc: shows})).
		Watches(&clusterv1beta2.ManagedClusterSetBinding{}, handler.EnqueueRequestsFromMapFunc(r.ofBinding)).
		Watches(&clusterv1beta2.ManagedClusterSet{}, handler.EnqueueRequestsFromMapFunc(r.ofSet), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of cluster profiles: %w", err)
	}
	return nil
}

// shows says whether a change of a ManagedCluster can show in its profiles.
func shows(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*clusterv1.ManagedCluster)
	after, same := e.ObjectNew.(*clusterv1.ManagedCluster)
	if !ok || !same || before.UID != after.UID || before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero() ||
		!maps.Equal(before.Labels, after.Labels) || before.Status.Version != after.Status.Version ||
		!equality.Semantic.DeepEqual(before.Status.ClusterClaims, after.Status.ClusterClaims) {
		return true
	}
	for source := range shownConditions() {
		if !equality.Semantic.DeepEqual(meta.FindStatusCondition(before.Status.Conditions, source), meta.FindStatusCondition(after.Status.Conditions, source)) {
			return true
		}
	}
	return false
}

// keys are requests, each once.
type keys map[types.NamespacedName]bool

func (k keys) requests() []reconcile.Request {
	all := make([]reconcile.Request, 0, len(k))
	for name := range k {
		all = append(all, reconcile.Request{NamespacedName: name})
	}
	return all
}

// ofCluster names the cluster's profile in each namespace that has bindings.
func (r *profiles) ofCluster(ctx context.Context, cluster client.Object) []reconcile.Request {
	found := keys{}
	for _, binding := range r.bindings(ctx) {
		found[types.NamespacedName{Namespace: binding.Namespace, Name: cluster.GetName()}] = true
	}
	return found.requests()
}

// ofBinding names the profiles that a binding's namespace has or is to have.
func (r *profiles) ofBinding(ctx context.Context, o client.Object) []reconcile.Request {
	found := keys{}
	if binding, ok := o.(*clusterv1beta2.ManagedClusterSetBinding); ok {
		r.add(ctx, found, binding.Namespace, binding.Spec.ClusterSet)
	}
	return found.requests()
}

// ofSet names those of all namespaces where a set is bound.
func (r *profiles) ofSet(ctx context.Context, set client.Object) []reconcile.Request {
	found := keys{}
	for _, binding := range r.bindings(ctx) {
		if binding.Spec.ClusterSet == set.GetName() {
			r.add(ctx, found, binding.Namespace, set.GetName())
		}
	}
	return found.requests()
}

// bindings are all that there are; none if the cache is ending.
func (r *profiles) bindings(ctx context.Context, in ...client.ListOption) []clusterv1beta2.ManagedClusterSetBinding {
	list := &clusterv1beta2.ManagedClusterSetBindingList{}
	if err := r.client.List(ctx, list, append(in, client.UnsafeDisableDeepCopy)...); err != nil {
		return nil
	}
	return list.Items
}

// add adds the profiles that are in a namespace, and those of a set's clusters.
func (r *profiles) add(ctx context.Context, found keys, namespace, name string) {
	existing := &inventoryv1alpha1.ClusterProfileList{}
	if err := r.client.List(ctx, existing, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err == nil {
		for i := range existing.Items {
			found[client.ObjectKeyFromObject(&existing.Items[i])] = true
		}
	}
	set := &clusterv1beta2.ManagedClusterSet{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: name}, set); err != nil {
		return // the set is gone, or the cache is ending
	}
	selector, err := clusterset.Selector(set)
	if err != nil {
		return // it selects none
	}
	clusters := &clusterv1.ManagedClusterList{}
	if err := r.client.List(ctx, clusters, client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy); err != nil {
		return
	}
	for i := range clusters.Items {
		found[types.NamespacedName{Namespace: namespace, Name: clusters.Items[i].Name}] = true
	}
}
