// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"fairlead.dev/fairlead/internal/wire"
)

const (
	workers = 4
	// DefaultSettle is Config.Settle.
	DefaultSettle = 500 * time.Millisecond
	// tick is how often works are asked for that are not known yet.
	tick = 50 * time.Millisecond
	// patience is for how long what was written is waited for to be known.
	patience = 10 * time.Second
	// halfway is for how long a round waits for decisions that are being written.
	halfway = 2 * time.Second
	// retry is after what time writes are tried again that failed.
	retry = 15 * time.Second
	// batch is how many writes there are between two statuses.
	batch = 500
	// parallel is how many are on their way at a time.
	parallel = 16
)

// Work is what is known of a work of a replica set.
type Work struct {
	Cluster, Name, UID string
	Generation         int64
	Deleting           bool
	// Spec identifies its spec: equal ones are equal to the byte.
	Spec wire.Digest
	wire.Generated
}

// Works tells which works replica sets have.
type Works interface {
	// WatchGenerated has call called with a set's label whenever one of its works
	// has changed, until cancel. call does not block.
	WatchGenerated(call func(set string)) (cancel func())
	// Generated are the works with that label; false if they are not known yet.
	Generated(set string) ([]Work, bool)
	// Spec is the JSON of a work's spec; false if it is another by now.
	Spec(cluster, name string, digest wire.Digest) ([]byte, bool)
	// HighWater is the resourceVersion up to which works are known.
	HighWater() uint64
}

// Config is what the controller needs.
type Config struct {
	Works Works
	// Settle is for how long changes of works are gathered before a set is looked
	// at, so that a burst of statuses is one write. Default DefaultSettle.
	Settle time.Duration
	// Clock is the hub's clock. Default the real one.
	Clock clock.PassiveClock
	// Log gets a line for each round that writes works. Default slog.Default().
	Log *slog.Logger
}

// Setup adds the controller "replicaset" to mgr, which runs it on the leader only.
// ManifestWorkReplicaSets, ManifestWorks, Placements, PlacementDecisions and
// ManagedClusters have to be served.
func Setup(mgr manager.Manager, cfg Config) error {
	if cfg.Settle == 0 {
		cfg.Settle = DefaultSettle
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	r := &reconciler{cfg: cfg, client: mgr.GetClient(), live: mgr.GetAPIReader(), notes: map[string]*note{}}
	err := ctrl.NewControllerManagedBy(mgr).Named("replicaset").
		For(&workv1alpha1.ManifestWorkReplicaSet{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}))).
		Watches(&clusterv1beta1.PlacementDecision{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.using(ctx, o.GetNamespace(), o.GetLabels()[clusterv1beta1.PlacementLabel])
		})).
		Watches(&clusterv1beta1.Placement{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.using(ctx, o.GetNamespace(), o.GetName())
		})). // its status, too, tells when decisions are complete
		WatchesRawSource(source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			cancel := cfg.Works.WatchGenerated(func(label string) {
				if set, ok := r.named(label); ok {
					queue.AddAfter(reconcile.Request{NamespacedName: set}, cfg.Settle)
				}
			})
			context.AfterFunc(ctx, cancel)
			return nil // every set is looked at when it is first seen
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of replica sets: %w", err)
	}
	return nil
}

// reconciler is the controller "replicaset".
type reconciler struct {
	cfg    Config
	client client.Client
	live   client.Reader

	mu sync.Mutex
	// notes are by label; a set is worked on by one goroutine at a time.
	notes map[string]*note
}

// note is what is remembered of a set between two rounds; nothing depends on it.
type note struct {
	set types.NamespacedName
	// written is the newest resourceVersion of a work that was written, at when.
	written uint64
	at      time.Time
	// halfway is since when decisions are being written; zero if they are not.
	halfway time.Time
	// failed are clusters where the last write did not succeed; they are last in
	// the next round.
	failed map[string]bool
	// blocked are clusters that could not be given the template. A hub that starts
	// again tries them anew.
	blocked  map[string]obstacle
	template []byte
}

// obstacle is since when a cluster could not be given the template, when that was
// tried last, and what came of it.
type obstacle struct {
	since, tried time.Time
	err          error
}

// note returns that of a set.
func (r *reconciler) note(label string, set types.NamespacedName) *note {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.notes[label]
	if n == nil {
		n = newNote(set)
		r.notes[label] = n
	}
	return n
}

func newNote(set types.NamespacedName) *note {
	return &note{set: set, failed: map[string]bool{}, blocked: map[string]obstacle{}}
}

func (r *reconciler) forget(label string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.notes, label)
}

// named is the set that has a label's value.
func (r *reconciler) named(label string) (types.NamespacedName, bool) {
	if set, ok := setOf(label); ok {
		return set, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.notes[label]; n != nil {
		return n.set, true
	}
	return types.NamespacedName{}, false
}

// using names the sets that refer to a placement.
func (r *reconciler) using(ctx context.Context, namespace, placement string) (requests []reconcile.Request) {
	sets := &workv1alpha1.ManifestWorkReplicaSetList{}
	if err := r.client.List(ctx, sets, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil // the cache is ending
	}
	for i := range sets.Items {
		for _, ref := range sets.Items[i].Spec.PlacementRefs {
			if ref.Name == placement {
				requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&sets.Items[i])})
				break
			}
		}
	}
	return requests
}
