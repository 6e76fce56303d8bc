// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/condition"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/kube"
)

// clusters is the controller "registration": it gives an accepted cluster its
// namespace and access, and takes the access away again. One key besides stands
// for the roles that all clusters share.
type clusters struct {
	client     client.Client
	live       client.Reader
	access     access
	shared     sharedRoles
	conditions condition.Writer
	events     events.EventRecorder
	log        *slog.Logger
}

// Reconcile brings one cluster's access in line with its ManagedCluster.
func (r *clusters) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if request == sharedKey() {
		return kube.Settle(0, r.shared.reconcile(ctx))
	}
	cluster := &clusterv1.ManagedCluster{}
	err := r.client.Get(ctx, request.NamespacedName, cluster)
	var again time.Duration
	switch {
	case apierrors.IsNotFound(err):
		again, err = r.removeLeftovers(ctx, request.Name)
	case err != nil:
	case !cluster.DeletionTimestamp.IsZero():
		again, err = r.remove(ctx, cluster)
	case cluster.Spec.HubAcceptsClient:
		again, err = r.accept(ctx, cluster)
	case decidedBefore(cluster):
		again, err = r.deny(ctx, cluster)
	default: // never accepted: nothing is made, and nothing of a namesake stays
		again, err = r.access.remove(ctx, cluster.Name)
	}
	return kube.Settle(again, err)
}

// accept gives access. The finalizer comes first, so that nothing is left over.
func (r *clusters) accept(ctx context.Context, cluster *clusterv1.ManagedCluster) (time.Duration, error) {
	before := cluster.DeepCopy()
	if controllerutil.AddFinalizer(cluster, identity.ManagedClusterFinalizer) {
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if err := r.client.Patch(ctx, cluster, patch, client.FieldOwner(FieldManager)); err != nil {
			return 0, fmt.Errorf("adding the finalizer to ManagedCluster %q: %w", cluster.Name, err)
		}
	}
	again, problem := r.access.grant(ctx, cluster.Name)
	if ctx.Err() != nil || apierrors.IsConflict(problem) {
		return 0, problem // shutting down, or a stale cache, is no finding about the cluster
	}
	changed, err := r.conditions.Apply(ctx, cluster, before.Status.Conditions, accepted(problem))
	if changed && problem == nil {
		r.events.Eventf(cluster, nil, corev1.EventTypeNormal, "ManagedClusterAccepted", "Accept",
			"Cluster %s has its namespace and access rights.", cluster.Name)
		r.log.InfoContext(ctx, "cluster accepted", "cluster", cluster.Name)
	}
	if errors.Is(problem, errNamespaceEnding) {
		problem = nil // not an error of ours: wait for the namespace
	}
	return again, errors.Join(problem, err)
}

// deny takes access away and keeps namespace and content, so that accepting
// again restores everything.
func (r *clusters) deny(ctx context.Context, cluster *clusterv1.ManagedCluster) (time.Duration, error) {
	again, problem := r.access.deny(ctx, cluster.Name)
	changed, err := r.conditions.Apply(ctx, cluster, cluster.Status.Conditions, denied())
	if changed {
		r.events.Eventf(cluster, nil, corev1.EventTypeNormal, "ManagedClusterDenied", "Deny",
			"Cluster %s was denied by a hub cluster admin; its namespace is kept.", cluster.Name)
		r.log.InfoContext(ctx, "cluster denied", "cluster", cluster.Name)
	}
	return again, errors.Join(problem, err)
}

// remove follows the deletion of a ManagedCluster: the access first, of which
// the part that the clean-up of works needs stays until the last work is gone;
// then the finalizer, when the add-ons are gone too: with gate ResourceCleanup
// off it is the user who deletes both (RC-69). The namespace stays.
func (r *clusters) remove(ctx context.Context, cluster *clusterv1.ManagedCluster) (time.Duration, error) {
	again, err := r.access.remove(ctx, cluster.Name)
	if err != nil || again > 0 {
		return again, err
	}
	if left, err := r.access.addOns(ctx, cluster.Name); err != nil || left != none {
		return worksRecheck, err
	}
	before := cluster.DeepCopy()
	if !controllerutil.RemoveFinalizer(cluster, identity.ManagedClusterFinalizer) {
		return 0, nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Patch(ctx, cluster, patch, client.FieldOwner(FieldManager)); client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("taking the finalizer off ManagedCluster %q: %w", cluster.Name, err)
	}
	r.log.InfoContext(ctx, "cluster removed", "cluster", cluster.Name)
	return 0, nil
}

// removeLeftovers cleans up after a ManagedCluster that went without its
// finalizer being honoured. A cache must not be the witness of its absence.
func (r *clusters) removeLeftovers(ctx context.Context, name string) (time.Duration, error) {
	if !r.access.leftovers(name) {
		return 0, nil
	}
	err := r.live.Get(ctx, client.ObjectKey{Name: name}, &clusterv1.ManagedCluster{})
	if err == nil {
		return kube.ConflictDelay, nil // the cache will know soon
	}
	if !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("looking for ManagedCluster %q: %w", name, err)
	}
	return r.access.remove(ctx, name)
}

// decidedBefore says whether a cluster that is not accepted now was once, or
// was denied: then hubAcceptsClient=false is somebody's decision.
func decidedBefore(cluster *clusterv1.ManagedCluster) bool {
	return controllerutil.ContainsFinalizer(cluster, identity.ManagedClusterFinalizer) ||
		meta.FindStatusCondition(cluster.Status.Conditions, clusterv1.ManagedClusterConditionHubAccepted) != nil
}
