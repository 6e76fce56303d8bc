// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"fairlead.dev/fairlead/internal/condition"
	"fairlead.dev/fairlead/internal/identity"
)

const (
	// FieldManager owns the condition and the Leases that this package writes.
	FieldManager = "fairlead-lease"
	// ClockManager owns the condition about the agent's clock.
	ClockManager = "fairlead-clock"

	// DefaultRefresh is how often the Lease of a living cluster is renewed.
	DefaultRefresh = time.Hour

	eventSource = "fairlead-hub"
	workers     = 4
)

// Config is what the controller needs.
type Config struct {
	// HubNamespace is where the Leases of sessions and replicas are. Default
	// identity.HubNamespace.
	HubNamespace string
	// Refresh is how often managed-cluster-lease of a living cluster is renewed.
	// Default DefaultRefresh.
	Refresh time.Duration
	// Clock is the hub's clock. Default the real one.
	Clock clock.PassiveClock
	// Log gets one line for each transition. Default slog.Default().
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.HubNamespace == "" {
		c.HubNamespace = identity.HubNamespace
	}
	if c.Refresh == 0 {
		c.Refresh = DefaultRefresh
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// CacheOptions keeps Leases of clusters' namespaces out of memory.
func CacheOptions(hubNamespace string) map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		// By field, since with Namespaces every Get asks for the kind's mapping first.
		&coordinationv1.Lease{}: {Field: fields.OneTermEqualSelector("metadata.namespace", hubNamespace)},
	}
}

// Setup adds the controller "lease" to mgr. The ManagedCluster CRD has to be
// served.
func Setup(mgr manager.Manager, cfg Config) error {
	cfg = cfg.withDefaults()
	c := newController(mgr, cfg)
	if err := mgr.Add(c.replicas); err != nil {
		return fmt.Errorf("adding the watch over replicas: %w", err)
	}
	err := ctrl.NewControllerManagedBy(mgr).Named("lease").
		For(&clusterv1.ManagedCluster{}, builder.WithPredicates(predicate.Funcs{UpdateFunc: matters})).
		Watches(&coordinationv1.Lease{}, handler.EnqueueRequestsFromMapFunc(sessionCluster), builder.WithPredicates(predicate.Funcs{UpdateFunc: moved})).
		WatchesRawSource(source.Channel(c.replicas.wake, handler.EnqueueRequestsFromMapFunc(sessionCluster))).
		WithOptions(ctrlcontroller.Options{MaxConcurrentReconciles: workers}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("setting up the controller of availability: %w", err)
	}
	return nil
}

func newController(mgr manager.Manager, cfg Config) *controller {
	return &controller{
		client: mgr.GetClient(), live: mgr.GetAPIReader(), namespace: cfg.HubNamespace,
		replicas: &replicas{
			live: mgr.GetAPIReader(), cached: mgr.GetClient(), namespace: cfg.HubNamespace, clock: cfg.Clock, log: cfg.Log,
			wake: make(chan event.GenericEvent), known: map[string]observation{},
		},
		leases:     &clusterLeases{client: mgr.GetClient(), refresh: cfg.Refresh, written: map[string]time.Time{}},
		flaps:      &flaps{of: map[string]*flapping{}},
		conditions: condition.Writer{Client: mgr.GetClient(), FieldManager: FieldManager, Clock: cfg.Clock},
		clocks:     condition.Writer{Client: mgr.GetClient(), FieldManager: ClockManager, Clock: cfg.Clock},
		clock:      cfg.Clock, events: mgr.GetEventRecorder(eventSource), log: cfg.Log,
	}
}

// sessionCluster names the cluster of a session Lease.
func sessionCluster(_ context.Context, o client.Object) []reconcile.Request {
	name := o.GetLabels()[identity.ClusterNameLabel]
	if o.GetLabels()[KindLabel] != KindSession || name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: name}}}
}

// matters says whether a change of a ManagedCluster can change the verdict.
func matters(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*clusterv1.ManagedCluster)
	after, same := e.ObjectNew.(*clusterv1.ManagedCluster)
	if !ok || !same || before.Generation != after.Generation || before.UID != after.UID ||
		before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero() ||
		before.Annotations[SkipClockAnnotation] != after.Annotations[SkipClockAnnotation] {
		return true
	}
	for _, kind := range []string{clusterv1.ManagedClusterConditionHubAccepted, clusterv1.ManagedClusterConditionAvailable, identity.ConditionDetached} {
		if !equality.Semantic.DeepEqual(meta.FindStatusCondition(before.Status.Conditions, kind), meta.FindStatusCondition(after.Status.Conditions, kind)) {
			return true
		}
	}
	return false
}

// moved says whether a change of a Lease can change the verdict. Renewals alone
// cannot: replicas are looked at on their own.
func moved(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*coordinationv1.Lease)
	after, same := e.ObjectNew.(*coordinationv1.Lease)
	if !ok || !same {
		return true
	}
	return holder(before) != holder(after) ||
		before.Annotations[LastSeenAnnotation] != after.Annotations[LastSeenAnnotation] ||
		before.Annotations[SpokeHealthyAnnotation] != after.Annotations[SpokeHealthyAnnotation] ||
		before.Annotations[ClockOffsetAnnotation] != after.Annotations[ClockOffsetAnnotation]
}
