// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"fairlead.dev/fairlead/internal/condition"
	"fairlead.dev/fairlead/internal/kube"
)

const (
	// FieldManager owns what the controllers of this package write.
	FieldManager = "fairlead-clusterset"

	eventSource = "fairlead-hub"
	// gather is how long a set waits for more clusters to come or go before it
	// counts them, so that a fleet that joins costs few counts and few writes.
	gather = 500 * time.Millisecond
	// indexSet finds the bindings of a set.
	indexSet = "spec.clusterSet"
)

type (
	queue    = workqueue.TypedRateLimitingInterface[reconcile.Request]
	requests = []reconcile.Request
)

// Config is what the controllers of this package need.
type Config struct {
	// Clock is the hub's clock. Default the real one.
	Clock clock.PassiveClock
	// Log gets a line for each change. Default slog.Default().
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// SetupSets adds the controller "clusterset" to mgr: the condition of sets.
// ManagedClusters and ManagedClusterSets have to be served.
func SetupSets(mgr manager.Manager, cfg Config) error {
	cfg = cfg.withDefaults()
	r := &sets{
		client:     mgr.GetClient(),
		conditions: condition.Writer{Client: mgr.GetClient(), FieldManager: FieldManager, Clock: cfg.Clock},
	}
	err := ctrl.NewControllerManagedBy(mgr).Named("clusterset").
		For(&clusterv1beta2.ManagedClusterSet{}).
		Watches(&clusterv1.ManagedCluster{}, r.membership(), builder.WithPredicates(relabelled())).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of cluster sets: %w", err)
	}
	return nil
}

// SetupBindings adds the controller "clustersetbinding" to mgr: whether bindings
// have a set. ManagedClusterSets and -Bindings have to be served.
func SetupBindings(ctx context.Context, mgr manager.Manager, cfg Config) error {
	cfg = cfg.withDefaults()
	err := mgr.GetFieldIndexer().IndexField(ctx, &clusterv1beta2.ManagedClusterSetBinding{}, indexSet, func(o client.Object) []string {
		if b, ok := o.(*clusterv1beta2.ManagedClusterSetBinding); ok {
			return []string{b.Spec.ClusterSet}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("indexing ManagedClusterSetBindings by set: %w", err)
	}
	r := &bindings{
		client:     mgr.GetClient(),
		conditions: condition.Writer{Client: mgr.GetClient(), FieldManager: FieldManager, Clock: cfg.Clock},
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("clustersetbinding").
		For(&clusterv1beta2.ManagedClusterSetBinding{}).
		Watches(&clusterv1beta2.ManagedClusterSet{}, handler.EnqueueRequestsFromMapFunc(r.ofSet), builder.WithPredicates(comesOrGoes())).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of bindings of cluster sets: %w", err)
	}
	return nil
}

// SetupDefaults adds the controller "defaultclusterset" to mgr: the sets default
// and global, and that clusters without a set are in the former. ManagedClusters
// and ManagedClusterSets have to be served.
func SetupDefaults(mgr manager.Manager, cfg Config) error {
	cfg = cfg.withDefaults()
	r := &defaults{client: mgr.GetClient(), events: mgr.GetEventRecorder(eventSource), log: cfg.Log}
	err := ctrl.NewControllerManagedBy(mgr).Named("defaultclusterset").
		Watches(&clusterv1beta2.ManagedClusterSet{}, asks(), builder.WithPredicates(kept())).
		WatchesRawSource(source.Func(func(_ context.Context, q queue) error {
			for name := range keptSets() {
				q.Add(missing(name))
			}
			return nil
		})).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of the default cluster sets: %w", err)
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("defaultclusterset-members").
		For(&clusterv1.ManagedCluster{}, builder.WithPredicates(relabelled())).
		Complete(&members{client: mgr.GetClient(), log: cfg.Log})
	if err != nil {
		return fmt.Errorf("setting up the controller of clusters without a set: %w", err)
	}
	return nil
}

// SetupNamespaces adds the controller "managednamespaces" to mgr: the namespaces
// that clusters are to have. ManagedClusters and ManagedClusterSets have to be
// served.
func SetupNamespaces(mgr manager.Manager, cfg Config) error {
	cfg = cfg.withDefaults()
	r := &namespaces{client: mgr.GetClient(), events: mgr.GetEventRecorder(eventSource), log: cfg.Log}
	err := ctrl.NewControllerManagedBy(mgr).Named("managednamespaces").
		For(&clusterv1.ManagedCluster{}, builder.WithPredicates(predicate.Or(relabelled(), namespacesChanged()))).
		Watches(&clusterv1beta2.ManagedClusterSet{}, r.ofSet()).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of managed namespaces: %w", err)
	}
	return nil
}

// relabelled lets through ManagedClusters that come, go or change their labels:
// not the reports and availability that make up most of their updates.
func relabelled() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetUID() != e.ObjectNew.GetUID() || e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero() ||
			!maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels())
	}}
}

// comesOrGoes lets through sets that come, go or begin to go.
func comesOrGoes() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetUID() != e.ObjectNew.GetUID() || e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero()
	}}
}

// result ends a round: what is gone meanwhile needs no other.
func result(err error) (reconcile.Result, error) { return kube.Settle(0, client.IgnoreNotFound(err)) }
