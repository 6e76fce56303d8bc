// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package taint

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/kube"
)

const (
	eventSource  = "fairlead-hub"
	fieldManager = "fairlead-taint"
	workers      = 4
)

// Config is what the controller needs.
type Config struct {
	// Clock is the hub's clock, for timeAdded where no webhook fills it in.
	// Default the real one.
	Clock clock.PassiveClock
	// Log gets one line for each change. Default slog.Default().
	Log *slog.Logger
}

// Setup adds the controller "taint" to mgr. The ManagedCluster CRD has to be
// served.
func Setup(mgr manager.Manager, cfg Config) error {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	c := &controller{client: mgr.GetClient(), clock: cfg.Clock, events: mgr.GetEventRecorder(eventSource), log: cfg.Log}
	err := ctrl.NewControllerManagedBy(mgr).Named("taint").
		For(&clusterv1.ManagedCluster{}, builder.WithPredicates(predicate.Funcs{
			UpdateFunc: matters,
			DeleteFunc: func(event.DeleteEvent) bool { return false },
		})).
		WithOptions(ctrlcontroller.Options{MaxConcurrentReconciles: workers}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("setting up the controller of taints: %w", err)
	}
	return nil
}

// matters says whether a change of a ManagedCluster can change its health taints.
func matters(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*clusterv1.ManagedCluster)
	after, same := e.ObjectNew.(*clusterv1.ManagedCluster)
	return !ok || !same || before.UID != after.UID || health(before) != health(after) ||
		!equality.Semantic.DeepEqual(before.Spec.Taints, after.Spec.Taints)
}

type controller struct {
	client client.Client
	clock  clock.PassiveClock
	events events.EventRecorder
	log    *slog.Logger
}

// Reconcile brings the health taints of one cluster up to date. A cluster that
// is being deleted keeps what it has (RC-42).
func (c *controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	cluster := &clusterv1.ManagedCluster{}
	err := c.client.Get(ctx, request.NamespacedName, cluster)
	if err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !cluster.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil
	}
	return kube.Settle(0, client.IgnoreNotFound(c.write(ctx, cluster)))
}

// health is the key of the taint that a cluster should have, empty for none
// (RC-41).
func health(cluster *clusterv1.ManagedCluster) string {
	available := meta.FindStatusCondition(cluster.Status.Conditions, clusterv1.ManagedClusterConditionAvailable)
	switch {
	case available == nil || available.Status == metav1.ConditionUnknown:
		return clusterv1.ManagedClusterTaintUnreachable
	case available.Status == metav1.ConditionFalse:
		return clusterv1.ManagedClusterTaintUnavailable
	}
	return ""
}

// tainted is what the taints should be, nil if they are that. One that is there
// keeps its time.
func tainted(have []clusterv1.Taint, key string) []clusterv1.Taint {
	wanted, found := []clusterv1.Taint{}, key == ""
	for _, t := range have {
		if !kube.HealthTaint(t) {
			wanted = append(wanted, t)
			continue
		}
		if t.Key == key && t.Value == "" && t.Effect == clusterv1.TaintEffectNoSelect && !found {
			found = true
			wanted = append(wanted, t)
		}
	}
	if !found {
		wanted = append(wanted, clusterv1.Taint{Key: key, Effect: clusterv1.TaintEffectNoSelect})
	}
	if len(wanted) == len(have) && equality.Semantic.DeepEqual(wanted, have) || len(wanted)+len(have) == 0 {
		return nil
	}
	return wanted
}

// write changes the taints of exactly the cluster that was read. Admission gives
// a new taint its time, and lets nobody else do so; where it is not in place, a
// second write does.
func (c *controller) write(ctx context.Context, cluster *clusterv1.ManagedCluster) error {
	if wanted := tainted(cluster.Spec.Taints, health(cluster)); wanted != nil {
		if err := c.patch(ctx, cluster, wanted); err != nil {
			return err
		}
		c.tell(ctx, cluster)
	}
	undated := func(t clusterv1.Taint) bool { return kube.HealthTaint(t) && t.TimeAdded.IsZero() }
	i := slices.IndexFunc(cluster.Spec.Taints, undated)
	if i < 0 {
		return nil
	}
	dated := slices.Clone(cluster.Spec.Taints)
	dated[i].TimeAdded = metav1.NewTime(c.clock.Now())
	return c.patch(ctx, cluster, dated)
}

func (c *controller) patch(ctx context.Context, cluster *clusterv1.ManagedCluster, taints []clusterv1.Taint) error {
	before := cluster.DeepCopy()
	cluster.Spec.Taints = taints
	err := c.client.Patch(ctx, cluster, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), client.FieldOwner(fieldManager))
	if err != nil {
		return fmt.Errorf("writing the taints of cluster %q: %w", cluster.Name, err)
	}
	return nil
}

// tell makes the line and the event (RC-43), in the cluster's namespace if there
// is one.
func (c *controller) tell(ctx context.Context, cluster *clusterv1.ManagedCluster) {
	taints := make([]string, 0, len(cluster.Spec.Taints))
	for _, t := range cluster.Spec.Taints {
		taints = append(taints, fmt.Sprintf("%s=%s:%s", t.Key, t.Value, t.Effect))
	}
	c.log.InfoContext(ctx, "taints changed with the cluster's health", "cluster", cluster.Name, "taints", taints)
	regarding := &corev1.ObjectReference{APIVersion: clusterv1.GroupVersion.String(), Kind: "ManagedCluster", Name: cluster.Name, UID: cluster.UID}
	if meta.FindStatusCondition(cluster.Status.Conditions, clusterv1.ManagedClusterConditionHubAccepted) != nil {
		regarding.Namespace = cluster.Name
	}
	c.events.Eventf(regarding, nil, corev1.EventTypeNormal, "ManagedClusterConditionAvailableUpdated", "Taint",
		"The taints of the cluster are now [%s].", strings.Join(taints, ", "))
}
