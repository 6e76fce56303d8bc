// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cleanup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"fairlead.dev/fairlead/internal/condition"
)

const (
	// FieldManager owns the condition, the finalizer and the label that this
	// package writes.
	FieldManager = "fairlead-cleanup"

	eventSource = "fairlead-hub"
	workers     = 4
)

// Config is what the controller needs.
type Config struct {
	// Enabled is gate ResourceCleanup. Without it nothing is deleted, and clusters
	// that leave are let go of.
	Enabled bool
	// Resources are deleted in this order. Default DefaultResources.
	Resources []schema.GroupVersionResource
	// Clock is the hub's clock. Default the real one.
	Clock clock.PassiveClock
	// Log gets a line for each cluster that is emptied. Default slog.Default().
	Log *slog.Logger
}

// DefaultResources is --gc-resource-list where it is not set, as in OCM: add-ons
// before works, since add-ons may need works to clean up.
func DefaultResources() []string {
	return []string{"addon.open-cluster-management.io/v1alpha1/managedclusteraddons", "work.open-cluster-management.io/v1/manifestworks"}
}

// ParseResources reads group/version/resource, in the order in which they are to
// be deleted; the core group is empty, as in /v1/secrets. It reports everything
// that is wrong.
func ParseResources(texts []string) ([]schema.GroupVersionResource, error) {
	var out []schema.GroupVersionResource
	var problems []error
	for _, text := range texts {
		parts := strings.Split(text, "/")
		if len(parts) != 3 || parts[1] == "" || parts[2] == "" {
			problems = append(problems, fmt.Errorf("%q is not group/version/resource, such as %s", text, DefaultResources()[1]))
			continue
		}
		out = append(out, schema.GroupVersionResource{Group: parts[0], Version: parts[1], Resource: parts[2]})
	}
	return out, errors.Join(problems...)
}

// Setup adds the controller "cleanup" to mgr. The ManagedCluster CRD has to be
// served.
func Setup(mgr manager.Manager, cfg Config) error {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Resources == nil {
		cfg.Resources, _ = ParseResources(DefaultResources()) // they are ours
	}
	objects, err := metadata.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("making a client for what is in clusters' namespaces: %w", err)
	}
	c := &controller{
		client: mgr.GetClient(), live: mgr.GetAPIReader(), objects: objects, cfg: cfg, removed: newRemovals(),
		conditions: condition.Writer{Client: mgr.GetClient(), FieldManager: FieldManager, Clock: cfg.Clock},
		events:     mgr.GetEventRecorder(eventSource),
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("cleanup").
		Watches(&clusterv1.ManagedCluster{}, c.handler()).
		WatchesRawSource(source.Func(c.unfinished)).
		WithOptions(ctrlcontroller.Options{MaxConcurrentReconciles: workers}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("setting up the clean-up of clusters that leave: %w", err)
	}
	return nil
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// handler lets through what begins or ends a cluster, and not its reports. A
// delete that was watched is written down: it is the one proof there may be.
func (c *controller) handler() handler.EventHandler {
	add := func(o client.Object, q queue) {
		q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: o.GetName()}})
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { add(e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			before, now := e.ObjectOld, e.ObjectNew
			if before.GetUID() != now.GetUID() || before.GetDeletionTimestamp().IsZero() != now.GetDeletionTimestamp().IsZero() ||
				!equality.Semantic.DeepEqual(before.GetFinalizers(), now.GetFinalizers()) {
				add(now, q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			if !e.DeleteStateUnknown { // a list that lacks it proves nothing
				c.removed.add(e.Object.GetName(), e.Object.GetUID())
			}
			add(e.Object, q)
		},
	}
}

// unfinished adds the namespaces whose clean-up another term has begun. What it
// lists is small: namespaces of clusters that are leaving.
func (c *controller) unfinished(ctx context.Context, q queue) error {
	list := namespaceList()
	if err := c.live.List(ctx, list, client.HasLabels{LeavingLabel}); err != nil {
		return fmt.Errorf("listing the namespaces of clusters that are leaving: %w", err)
	}
	for i := range list.Items {
		q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: list.Items[i].Name}})
	}
	return nil
}

// pause is how soon a namespace is looked at again: often at first, as most are
// clean in a moment, and every 5 s from then on (RC-67).
func (c *controller) pause(since time.Time) time.Duration {
	return min(max(c.cfg.Clock.Since(since)/10, pollFirst), pollMax)
}
