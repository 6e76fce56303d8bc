// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

const (
	// longest bounds one wait: what is due later is looked at again.
	longest = 24 * time.Hour
	// conflictDelay is before a work is read again that changed meanwhile.
	conflictDelay = time.Second
	workers       = 2
)

// Works tells which works may be complete and end by themselves. It may name too
// many, and the same one often.
type Works interface {
	// WatchExpiring has call called for each that comes to be one, until cancel.
	// call does not block.
	WatchExpiring(call func(work types.NamespacedName)) (cancel func())
	// Expiring names those that there are.
	Expiring() []types.NamespacedName
}

// Config is what the controller needs.
type Config struct {
	Works Works
	// Clock is the hub's clock. Default the real one.
	Clock clock.PassiveClock
	// Log gets a line for each work that is deleted. Default slog.Default().
	Log *slog.Logger
}

// SetupTTL adds the controller "workttl" to mgr, which runs it on the leader
// only. The CRD of ManifestWork has to be served.
func SetupTTL(mgr manager.Manager, cfg Config) error {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	err := ctrl.NewControllerManagedBy(mgr).Named("workttl").
		WatchesRawSource(source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			add := func(work types.NamespacedName) { queue.Add(reconcile.Request{NamespacedName: work}) }
			cancel := cfg.Works.WatchExpiring(add) // first, so that none is missed in between
			context.AfterFunc(ctx, cancel)
			for _, work := range cfg.Works.Expiring() {
				add(work)
			}
			return nil
		})).
		WithOptions(ctrlcontroller.Options{MaxConcurrentReconciles: workers}).
		Complete(&ttl{live: mgr.GetAPIReader(), client: mgr.GetClient(), clock: cfg.Clock, log: cfg.Log})
	if err != nil {
		return fmt.Errorf("setting up the end of completed works: %w", err)
	}
	return nil
}

// ttl deletes works whose time is over.
type ttl struct {
	live   client.Reader
	client client.Client
	clock  clock.PassiveClock
	log    *slog.Logger
}

// Reconcile deletes one work, or comes back when it is due.
func (t *ttl) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	work := &workv1.ManifestWork{}
	err := t.live.Get(ctx, request.NamespacedName, work)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading ManifestWork %s: %w", request, err)
	}
	left, ends := remaining(work, t.clock.Now())
	if !ends {
		return reconcile.Result{}, nil
	}
	if left > 0 {
		return reconcile.Result{RequeueAfter: min(left, longest)}, nil
	}
	uid, version := work.UID, work.ResourceVersion
	err = t.client.Delete(ctx, work, client.Preconditions{UID: &uid, ResourceVersion: &version})
	switch {
	case apierrors.IsNotFound(err):
		return reconcile.Result{}, nil
	case apierrors.IsConflict(err):
		return reconcile.Result{RequeueAfter: conflictDelay}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("deleting the completed ManifestWork %s: %w", request, err)
	}
	t.log.InfoContext(ctx, "work deleted, since it was complete for as long as it says", "cluster", work.Namespace, "work", work.Name,
		"ttlSecondsAfterFinished", *work.Spec.DeleteOption.TTLSecondsAfterFinished)
	return reconcile.Result{}, nil
}

// remaining is for how long a work is to stay, if it ends by itself at all.
func remaining(work *workv1.ManifestWork, now time.Time) (left time.Duration, ends bool) {
	option := work.Spec.DeleteOption
	if option == nil || option.TTLSecondsAfterFinished == nil || !work.DeletionTimestamp.IsZero() {
		return 0, false
	}
	if _, generated := work.Labels[workv1alpha1.ManifestWorkReplicaSetControllerNameLabelKey]; generated {
		return 0, false // or it would be made again for ever
	}
	complete := meta.FindStatusCondition(work.Status.Conditions, workv1.WorkComplete)
	if complete == nil || complete.Status != metav1.ConditionTrue {
		return 0, false
	}
	seconds := *option.TTLSecondsAfterFinished
	if seconds > math.MaxInt64/int64(time.Second) {
		return longest, true // longer than time can be counted
	}
	return time.Duration(seconds)*time.Second - now.Sub(complete.LastTransitionTime.Time), true
}
