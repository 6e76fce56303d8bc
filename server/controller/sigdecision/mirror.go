// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sigdecision

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	inventoryv1alpha1 "sigs.k8s.io/cluster-inventory-api/apis/v1alpha1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/kube"
)

const (
	// FieldManager owns what the controller writes.
	FieldManager = "fairlead-sigplacementdecision"

	workers = 2
)

// Config is what the controller needs.
type Config struct {
	// Log gets a line for each mirror that comes or goes. Default slog.Default().
	Log *slog.Logger
}

// Setup adds the controller "sigplacementdecision" to mgr. Both kinds of
// PlacementDecisions have to be served.
func Setup(mgr manager.Manager, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	err := ctrl.NewControllerManagedBy(mgr).Named("sigplacementdecision").
		For(&inventoryv1alpha1.PlacementDecision{}).
		Watches(&clusterv1beta1.PlacementDecision{}, &handler.EnqueueRequestForObject{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(&mirrors{client: mgr.GetClient(), log: cfg.Log})
	if err != nil {
		return fmt.Errorf("setting up the controller of SIG Multicluster's placement decisions: %w", err)
	}
	return nil
}

// mirrors is the controller "sigplacementdecision". A key is a decision and its
// mirror, which have the same name.
type mirrors struct {
	client client.Client
	log    *slog.Logger
}

// Reconcile makes, updates or removes the mirror of one decision.
func (r *mirrors) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	source := &clusterv1beta1.PlacementDecision{}
	err := r.client.Get(ctx, request.NamespacedName, source)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, err
	}
	wanted := err == nil && source.DeletionTimestamp.IsZero() && source.Labels[clusterv1beta1.PlacementLabel] != ""
	return kube.Settle(0, client.IgnoreNotFound(r.write(ctx, request, source, wanted)))
}

func (r *mirrors) write(ctx context.Context, request reconcile.Request, source *clusterv1beta1.PlacementDecision, wanted bool) error {
	mirror := &inventoryv1alpha1.PlacementDecision{}
	err := r.client.Get(ctx, request.NamespacedName, mirror)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return err
	case err != nil && wanted:
		return r.create(ctx, source)
	case err != nil || !mirror.DeletionTimestamp.IsZero():
		return nil //nolint:nilerr // none is wanted, or the old one is going
	case !ours(mirror):
		if wanted {
			r.log.WarnContext(ctx, "a PlacementDecision of multicluster.x-k8s.io that is not the hub's has the name of one of OCM's; it is left alone", "decision", request.String())
		}
		return nil
	case !wanted:
		return r.remove(ctx, mirror)
	}
	before := mirror.DeepCopy()
	if describe(mirror, source); equality.Semantic.DeepEqual(before, mirror) {
		return nil
	}
	return r.client.Patch(ctx, mirror, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), client.FieldOwner(FieldManager))
}

func (r *mirrors) create(ctx context.Context, source *clusterv1beta1.PlacementDecision) error {
	mirror := &inventoryv1alpha1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{Namespace: source.Namespace, Name: source.Name}}
	describe(mirror, source)
	err := r.client.Create(ctx, mirror, client.FieldOwner(FieldManager))
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsAlreadyExists(err) {
		return nil // nothing is to be made there; or it is looked at when the cache has it
	}
	if err != nil {
		return fmt.Errorf("creating PlacementDecision %s/%s of multicluster.x-k8s.io: %w", source.Namespace, source.Name, err)
	}
	r.log.InfoContext(ctx, "placement decision shown to SIG Multicluster's tools", "namespace", source.Namespace, "name", source.Name)
	return nil
}

func (r *mirrors) remove(ctx context.Context, mirror *inventoryv1alpha1.PlacementDecision) error {
	uid, version := mirror.UID, mirror.ResourceVersion
	if err := r.client.Delete(ctx, mirror, client.Preconditions{UID: &uid, ResourceVersion: &version}); err != nil {
		return err
	}
	r.log.InfoContext(ctx, "placement decision for SIG Multicluster's tools removed", "namespace", mirror.Namespace, "name", mirror.Name)
	return nil
}
