// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/tools/events"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/clusterset"
)

// namespaces is the controller "managednamespaces": it writes which namespaces a
// cluster is to have because of the sets it is in (RC-53, RC-54).
type namespaces struct {
	client client.Client
	events events.EventRecorder
	log    *slog.Logger
}

// Reconcile brings the list of one cluster up to date.
func (r *namespaces) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	cluster := &clusterv1.ManagedCluster{}
	if err := r.client.Get(ctx, request.NamespacedName, cluster); err != nil || !cluster.DeletionTimestamp.IsZero() {
		return result(err)
	}
	all := &clusterv1beta2.ManagedClusterSetList{}
	if err := r.client.List(ctx, all, client.UnsafeDisableDeepCopy); err != nil {
		return result(fmt.Errorf("reading ManagedClusterSets: %w", err))
	}
	wanted := union(cluster, all.Items)
	if equality.Semantic.DeepEqual(wanted, cluster.Status.ManagedNamespaces) {
		return reconcile.Result{}, nil
	}
	before := cluster.DeepCopy()
	cluster.Status.ManagedNamespaces = wanted
	// A merge patch takes the list whole: who reports conditions owns parts of its
	// entries, and would keep those alive that are not wanted any more.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, cluster, patch, client.FieldOwner(FieldManager)); err != nil {
		return result(err)
	}
	r.events.Eventf(cluster, nil, corev1.EventTypeNormal, "ManagedNamespacesUpdated", "Update",
		"Cluster %s has %d managed namespaces of its sets.", cluster.Name, len(wanted))
	r.log.InfoContext(ctx, "managed namespaces changed", "cluster", cluster.Name, "namespaces", len(wanted))
	return reconcile.Result{}, nil
}

// union is what the sets of a cluster ask for, in the order of set and name, each
// with the conditions that it has.
func union(cluster *clusterv1.ManagedCluster, sets []clusterv1beta2.ManagedClusterSet) []clusterv1.ClusterSetManagedNamespaceConfig {
	var all []clusterv1.ClusterSetManagedNamespaceConfig
	for i := range sets {
		set := &sets[i]
		if len(set.Spec.ManagedNamespaces) == 0 || !set.DeletionTimestamp.IsZero() || !clusterset.Has(set, cluster.Labels) {
			continue
		}
		for _, namespace := range set.Spec.ManagedNamespaces {
			all = append(all, entry(cluster, set.Name, namespace))
		}
	}
	slices.SortFunc(all, func(a, b clusterv1.ClusterSetManagedNamespaceConfig) int {
		return cmp.Or(cmp.Compare(a.ClusterSet, b.ClusterSet), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// entry is one namespace of a set, with the conditions that the cluster has of it.
func entry(cluster *clusterv1.ManagedCluster, set string, namespace clusterv1.ManagedNamespaceConfig) clusterv1.ClusterSetManagedNamespaceConfig {
	for _, have := range cluster.Status.ManagedNamespaces {
		if have.ClusterSet == set && have.Name == namespace.Name {
			return have
		}
	}
	return clusterv1.ClusterSetManagedNamespaceConfig{ManagedNamespaceConfig: namespace, ClusterSet: set}
}

// namespacesChanged lets through ManagedClusters whose list was written.
func namespacesChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*clusterv1.ManagedCluster)
		after, same := e.ObjectNew.(*clusterv1.ManagedCluster)
		return !ok || !same || !equality.Semantic.DeepEqual(before.Status.ManagedNamespaces, after.Status.ManagedNamespaces)
	}}
}

// ofSet has those clusters looked at that a change of a set can concern. Of a set
// that neither had nor has namespaces there are none.
func (r *namespaces) ofSet() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { r.enqueue(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if comesOrGoes().Update(e) || e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() {
				r.enqueue(ctx, q, e.ObjectOld, e.ObjectNew)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { r.enqueue(ctx, q, e.Object) },
	}
}

// enqueue adds the clusters that were, or are, in a set with namespaces.
func (r *namespaces) enqueue(ctx context.Context, q queue, versions ...client.Object) {
	versions = slices.DeleteFunc(versions, func(o client.Object) bool {
		set, ok := o.(*clusterv1beta2.ManagedClusterSet)
		return !ok || len(set.Spec.ManagedNamespaces) == 0
	})
	if len(versions) == 0 {
		return
	}
	clusters := &clusterv1.ManagedClusterList{}
	if err := r.client.List(ctx, clusters, client.UnsafeDisableDeepCopy); err != nil {
		return // the cache is ending
	}
	for i := range clusters.Items {
		in := func(o client.Object) bool {
			set, ok := o.(*clusterv1beta2.ManagedClusterSet)
			return ok && clusterset.Has(set, clusters.Items[i].Labels)
		}
		if slices.ContainsFunc(versions, in) {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&clusters.Items[i])})
		}
	}
}
