// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/condition"
)

// bindings is the controller "clustersetbinding": it says of a binding whether
// there is such a set (RC-51, RC-52).
type bindings struct {
	client     client.Client
	conditions condition.Writer
}

// Reconcile looks for the set of one binding.
func (r *bindings) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	binding := &clusterv1beta2.ManagedClusterSetBinding{}
	if err := r.client.Get(ctx, request.NamespacedName, binding); err != nil || !binding.DeletionTimestamp.IsZero() {
		return result(err)
	}
	set := &clusterv1beta2.ManagedClusterSet{}
	err := r.client.Get(ctx, client.ObjectKey{Name: binding.Spec.ClusterSet}, set)
	if client.IgnoreNotFound(err) != nil {
		return result(err)
	}
	_, err = r.conditions.Apply(ctx, binding, binding.Status.Conditions, bound(binding.Spec.ClusterSet, err == nil && set.DeletionTimestamp.IsZero()))
	return result(err)
}

func bound(set string, found bool) metav1.Condition {
	if found {
		return metav1.Condition{
			Type: clusterv1beta2.ClusterSetBindingBoundType, Status: metav1.ConditionTrue,
			Reason: "ClusterSetBound", Message: fmt.Sprintf("ManagedClusterSet %q is bound", set),
		}
	}
	return metav1.Condition{
		Type: clusterv1beta2.ClusterSetBindingBoundType, Status: metav1.ConditionFalse,
		Reason: "ClusterSetNotFound", Message: fmt.Sprintf("There is no ManagedClusterSet %q, or it is being deleted", set),
	}
}

// ofSet names the bindings of a set.
func (r *bindings) ofSet(ctx context.Context, set client.Object) requests {
	list := &clusterv1beta2.ManagedClusterSetBindingList{}
	if err := r.client.List(ctx, list, client.MatchingFields{indexSet: set.GetName()}, client.UnsafeDisableDeepCopy); err != nil {
		return nil // the cache is ending
	}
	found := make(requests, 0, len(list.Items))
	for i := range list.Items {
		found = append(found, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return found
}
