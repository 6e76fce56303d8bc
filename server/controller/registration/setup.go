// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/condition"
	"fairlead.dev/fairlead/internal/identity"
)

const (
	eventSource = "fairlead-hub"
	workers     = 4
	// enrollmentManager owns what the controller "enrollment" says on ManagedClusters.
	enrollmentManager = "fairlead-enrollment"
)

// SetupClusters adds the controller "registration" to mgr: namespace and access
// rights of ManagedClusters. The ManagedCluster CRD has to be served.
func SetupClusters(mgr manager.Manager, cfg Config) error {
	cfg = cfg.withDefaults()
	known := newLedger(cfg)
	follow, err := newFollower(mgr.GetConfig(), mgr.GetHTTPClient(), known)
	if err != nil {
		return err
	}
	if err := mgr.Add(follow); err != nil {
		return fmt.Errorf("following namespaces and RBAC: %w", err)
	}
	rights := access{applier: applier{client: mgr.GetClient(), live: mgr.GetAPIReader(), ledger: known}, cfg: cfg}
	err = ctrl.NewControllerManagedBy(mgr).Named("registration").
		For(&clusterv1.ManagedCluster{}, builder.WithPredicates(accessChanged())).
		Watches(&clusterv1.ManagedCluster{}, handler.EnqueueRequestsFromMapFunc(sharedRolesKey), builder.WithPredicates(comesOrGoes())).
		WatchesRawSource(known).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(&clusters{
			client: mgr.GetClient(), live: mgr.GetAPIReader(), access: rights,
			shared:     sharedRoles{client: mgr.GetClient(), live: mgr.GetAPIReader(), access: rights},
			conditions: condition.Writer{Client: mgr.GetClient(), FieldManager: FieldManager, Clock: cfg.Clock},
			events:     mgr.GetEventRecorder(eventSource), log: cfg.Log,
		})
	if err != nil {
		return fmt.Errorf("setting up the controller of cluster access: %w", err)
	}
	return nil
}

// SetupEnrollments adds the controller "enrollment" to mgr: acceptance, signing
// and ends of ClusterEnrollments. The CRDs of both kinds have to be served.
func SetupEnrollments(ctx context.Context, mgr manager.Manager, cfg Config) error {
	cfg = cfg.withDefaults()
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.ClusterEnrollment{}, indexCluster, enrolledCluster)
	if err != nil {
		return fmt.Errorf("indexing ClusterEnrollments by cluster: %w", err)
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("enrollment").
		Watches(&v1alpha1.ClusterEnrollment{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return requests(enrolledCluster(o)...)
		})).
		Watches(&clusterv1.ManagedCluster{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&certificatesv1.CertificateSigningRequest{}, handler.EnqueueRequestsFromMapFunc(labelledCluster)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(&enrollments{
			client: mgr.GetClient(), live: mgr.GetAPIReader(), cfg: cfg,
			conditions: condition.Writer{Client: mgr.GetClient(), FieldManager: enrollmentManager, Clock: cfg.Clock},
			events:     mgr.GetEventRecorder(eventSource), log: cfg.Log,
		})
	if err != nil {
		return fmt.Errorf("setting up the controller of enrollments: %w", err)
	}
	return nil
}

func enrolledCluster(o client.Object) []string {
	if e, ok := o.(*v1alpha1.ClusterEnrollment); ok {
		return []string{e.Spec.ClusterName}
	}
	return nil
}

func requests(clusters ...string) []reconcile.Request {
	out := make([]reconcile.Request, 0, len(clusters))
	for _, name := range clusters {
		out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
	}
	return out
}

func labelledCluster(_ context.Context, o client.Object) []reconcile.Request {
	if name := o.GetLabels()[identity.ClusterNameLabel]; name != "" {
		return requests(name)
	}
	return nil
}

func sharedRolesKey(context.Context, client.Object) []reconcile.Request {
	return []reconcile.Request{sharedKey()}
}

// accessChanged lets through what can change a cluster's access: not the
// reports and availability that make up most updates of a ManagedCluster.
func accessChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*clusterv1.ManagedCluster)
		after, same := e.ObjectNew.(*clusterv1.ManagedCluster)
		if !ok || !same {
			return true
		}
		kind := clusterv1.ManagedClusterConditionHubAccepted
		return before.Generation != after.Generation || before.UID != after.UID ||
			!equality.Semantic.DeepEqual(before.Finalizers, after.Finalizers) ||
			!equality.Semantic.DeepEqual(meta.FindStatusCondition(before.Status.Conditions, kind), meta.FindStatusCondition(after.Status.Conditions, kind))
	}}
}

func comesOrGoes() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }}
}
