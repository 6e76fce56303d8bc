// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"context"
	"log/slog"

	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/clusterset"
)

// members is a part of the controller "defaultclusterset": a cluster without a set
// is one of the set default (WH-04). Where webhooks are served, admission has seen
// to that before; this is for hubs without, and for clusters older than they are.
type members struct {
	client client.Client
	log    *slog.Logger
}

// Reconcile labels one cluster.
func (r *members) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	cluster := &clusterv1.ManagedCluster{}
	if err := r.client.Get(ctx, request.NamespacedName, cluster); err != nil {
		return result(err)
	}
	if !cluster.DeletionTimestamp.IsZero() || cluster.Labels[clusterv1beta2.ClusterSetLabel] != "" {
		return reconcile.Result{}, nil
	}
	before := cluster.DeepCopy()
	if cluster.Labels == nil {
		cluster.Labels = map[string]string{}
	}
	cluster.Labels[clusterv1beta2.ClusterSetLabel] = clusterset.Default
	// Somebody who puts it into another set at this moment is not overruled.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Patch(ctx, cluster, patch, client.FieldOwner(FieldManager)); err != nil {
		return result(err)
	}
	r.log.InfoContext(ctx, "a cluster without a set is in the set default now", "cluster", cluster.Name)
	return reconcile.Result{}, nil
}
