// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterprofile

import (
	"context"
	"fmt"
	"log/slog"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	inventoryv1alpha1 "sigs.k8s.io/cluster-inventory-api/apis/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/clusterset"
	"fairlead.dev/fairlead/internal/kube"
)

// profiles is the controller "clusterprofile". A key is a cluster's name in a
// namespace.
type profiles struct {
	client client.Client
	events events.EventRecorder
	log    *slog.Logger
}

// Reconcile makes, updates or removes the profile of one cluster in one namespace.
func (r *profiles) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	cluster, err := r.wanted(ctx, request)
	if err == nil {
		err = r.write(ctx, request, cluster)
	}
	return kube.Settle(0, client.IgnoreNotFound(err))
}

// wanted is the cluster, if a set that is bound in the namespace has it (RC-58,
// RC-60, RC-62), else nil.
func (r *profiles) wanted(ctx context.Context, request reconcile.Request) (*clusterv1.ManagedCluster, error) {
	cluster := &clusterv1.ManagedCluster{}
	err := r.client.Get(ctx, client.ObjectKey{Name: request.Name}, cluster)
	if err != nil || !cluster.DeletionTimestamp.IsZero() {
		return nil, client.IgnoreNotFound(err)
	}
	list := &clusterv1beta2.ManagedClusterSetBindingList{}
	if err := r.client.List(ctx, list, client.InNamespace(request.Namespace)); err != nil {
		return nil, fmt.Errorf("reading the bindings in namespace %q: %w", request.Namespace, err)
	}
	for i := range list.Items {
		binding := &list.Items[i]
		if !binding.DeletionTimestamp.IsZero() || !meta.IsStatusConditionTrue(binding.Status.Conditions, clusterv1beta2.ClusterSetBindingBoundType) {
			continue
		}
		set := &clusterv1beta2.ManagedClusterSet{}
		err := r.client.Get(ctx, client.ObjectKey{Name: binding.Spec.ClusterSet}, set)
		if client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		if err == nil && set.DeletionTimestamp.IsZero() && clusterset.Has(set, cluster.Labels) {
			return cluster, nil
		}
	}
	return nil, nil //nolint:nilnil // none is wanted
}

// write brings the profile in line with its cluster; without one, it goes.
func (r *profiles) write(ctx context.Context, request reconcile.Request, cluster *clusterv1.ManagedCluster) error {
	profile := &inventoryv1alpha1.ClusterProfile{}
	err := r.client.Get(ctx, request.NamespacedName, profile)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return err
	case err == nil && (!ours(profile) || !profile.DeletionTimestamp.IsZero()):
		return nil
	case err == nil && cluster == nil:
		return r.remove(ctx, profile)
	case cluster == nil:
		return nil
	case err != nil:
		if profile, err = r.create(ctx, request, cluster); err != nil || profile == nil {
			return err
		}
	case !looksLike(profile, cluster):
		if profile, err = r.apply(ctx, profile, cluster); err != nil {
			return err
		}
	}
	return r.writeStatus(ctx, profile, cluster)
}

// create makes the profile, and returns nil where it must not be: the namespace is
// terminating, or another cluster manager has a profile of that name.
func (r *profiles) create(ctx context.Context, request reconcile.Request, cluster *clusterv1.ManagedCluster) (*inventoryv1alpha1.ClusterProfile, error) {
	profile := describe(request.Namespace, cluster)
	err := r.client.Create(ctx, profile, client.FieldOwner(FieldManager))
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil, nil //nolint:nilnil // RC-62
	}
	if apierrors.IsAlreadyExists(err) {
		r.log.WarnContext(ctx, "there is a ClusterProfile of this name already; if it is ours, the cache will know soon", "namespace", request.Namespace, "name", request.Name)
		return nil, nil //nolint:nilnil // looked at when the cache has it
	}
	if err != nil {
		return nil, fmt.Errorf("creating ClusterProfile %s: %w", request.NamespacedName, err)
	}
	r.log.InfoContext(ctx, "cluster profile created", "namespace", request.Namespace, "cluster", cluster.Name)
	return profile, nil
}

// apply corrects what a person changed, or what the cluster's labels did.
func (r *profiles) apply(ctx context.Context, profile *inventoryv1alpha1.ClusterProfile, cluster *clusterv1.ManagedCluster) (*inventoryv1alpha1.ClusterProfile, error) {
	wanted := describe(profile.Namespace, cluster)
	labels := map[string]string{}
	maps.Copy(labels, profile.Labels)
	delete(labels, clusterv1beta2.ClusterSetLabel)
	maps.Copy(labels, wanted.Labels)
	before := profile.DeepCopy()
	profile.Labels, profile.Spec.DisplayName = labels, wanted.Spec.DisplayName
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return profile, r.client.Patch(ctx, profile, patch, client.FieldOwner(FieldManager))
}

func (r *profiles) remove(ctx context.Context, profile *inventoryv1alpha1.ClusterProfile) error {
	uid := profile.UID
	if err := r.client.Delete(ctx, profile, client.Preconditions{UID: &uid}); err != nil {
		return err
	}
	r.log.InfoContext(ctx, "cluster profile removed", "namespace", profile.Namespace, "cluster", profile.Name)
	return nil
}

// writeStatus shows the cluster's version, claims and conditions (RC-61).
func (r *profiles) writeStatus(ctx context.Context, profile *inventoryv1alpha1.ClusterProfile, cluster *clusterv1.ManagedCluster) error {
	if reports(profile, cluster) {
		return nil
	}
	before := profile.DeepCopy()
	setStatus(profile, cluster)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, profile, patch, client.FieldOwner(FieldManager)); err != nil {
		return err
	}
	r.events.Eventf(profile, nil, corev1.EventTypeNormal, "ClusterProfileStatusUpdated", "Update", "The status of ClusterProfile %s was updated.", profile.Name)
	return nil
}
