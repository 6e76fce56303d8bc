// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/clusterset"
	"fairlead.dev/fairlead/internal/condition"
)

// sets is the controller "clusterset": it says of a set how many clusters it has
// (RC-47).
type sets struct {
	client     client.Client
	conditions condition.Writer
}

// Reconcile counts the clusters of one set.
func (r *sets) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	set := &clusterv1beta2.ManagedClusterSet{}
	if err := r.client.Get(ctx, request.NamespacedName, set); err != nil || !set.DeletionTimestamp.IsZero() {
		return result(err)
	}
	found, err := r.count(ctx, set)
	if err != nil {
		return result(err)
	}
	_, err = r.conditions.Apply(ctx, set, set.Status.Conditions, found)
	return result(err)
}

// count says how many clusters are in the set. They are only looked at, so they
// are not copied. A selector that nobody can read is its author's to mend: the
// set is empty, and says why.
func (r *sets) count(ctx context.Context, set *clusterv1beta2.ManagedClusterSet) (metav1.Condition, error) {
	empty := metav1.Condition{
		Type: clusterv1beta2.ManagedClusterSetConditionEmpty, Status: metav1.ConditionTrue,
		Reason: "NoClusterMatched", Message: "No ManagedCluster selected",
	}
	selector, err := clusterset.Selector(set)
	if err != nil {
		empty.Message += ": " + err.Error()
		return empty, nil //nolint:nilerr // trying again would not help
	}
	clusters := &clusterv1.ManagedClusterList{}
	if err := r.client.List(ctx, clusters, client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy); err != nil {
		return metav1.Condition{}, fmt.Errorf("counting the clusters of ManagedClusterSet %q: %w", set.Name, err)
	}
	if len(clusters.Items) == 0 {
		return empty, nil
	}
	return metav1.Condition{
		Type: clusterv1beta2.ManagedClusterSetConditionEmpty, Status: metav1.ConditionFalse,
		Reason: "ClustersSelected", Message: fmt.Sprintf("%d ManagedClusters selected", len(clusters.Items)),
	}, nil
}

// membership has those sets count again, a little later, that a cluster is in
// after a change and not before, or the other way round.
func (r *sets) membership() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			r.enqueue(ctx, q, func(set *clusterv1beta2.ManagedClusterSet) bool { return clusterset.Has(set, e.Object.GetLabels()) })
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			r.enqueue(ctx, q, func(set *clusterv1beta2.ManagedClusterSet) bool {
				return clusterset.Has(set, e.ObjectOld.GetLabels()) != clusterset.Has(set, e.ObjectNew.GetLabels())
			})
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			r.enqueue(ctx, q, func(set *clusterv1beta2.ManagedClusterSet) bool { return clusterset.Has(set, e.Object.GetLabels()) })
		},
	}
}

func (r *sets) enqueue(ctx context.Context, q queue, concerns func(*clusterv1beta2.ManagedClusterSet) bool) {
	all := &clusterv1beta2.ManagedClusterSetList{}
	if err := r.client.List(ctx, all, client.UnsafeDisableDeepCopy); err != nil {
		return // the cache is ending, or not begun: every set is looked at then
	}
	for i := range all.Items {
		if concerns(&all.Items[i]) {
			q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])}, gather)
		}
	}
}
