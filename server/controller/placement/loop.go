// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/decide"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/server/scheduling"
)

const (
	// longest bounds one wait: what is due later is looked at again.
	longest = 24 * time.Hour
	// maxNote is the most characters of a note of an event (PL-55).
	maxNote = 1000
)

// loop is the controller "placement". A key is a Placement.
type loop struct {
	feed    *feed
	submit  decide.Submitter
	events  events.EventRecorder
	clock   clock.PassiveClock
	log     *slog.Logger
	metrics metrics

	warned sync.Map // by Placement: the expired scores it was warned about
}

// Reconcile decides one Placement.
func (l *loop) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if err := l.feed.await(ctx); err != nil {
		return reconcile.Result{}, err
	}
	now, start := l.clock.Now(), time.Now()
	d, ok := l.feed.decide(request.NamespacedName, now, skipped)
	if !ok {
		l.warned.Delete(request.NamespacedName)
		return l.confine(ctx, request.NamespacedName)
	}
	l.metrics.scheduling.Observe(time.Since(start).Seconds())
	if d.unfinished {
		return reconcile.Result{RequeueAfter: turns}, nil
	}
	start = time.Now()
	result, err := l.submit.Submit(ctx, decide.Decision{
		Placement: request.NamespacedName, UID: d.placement.UID, ObservedGeneration: d.placement.Generation,
		Clusters: d.outcome.Clusters, Keep: d.outcome.Keep, Drop: d.outcome.Drop, Conditions: []metav1.Condition{d.outcome.Satisfied, d.outcome.Misconfigured},
	})
	if result.Changed {
		l.metrics.bind.Observe(time.Since(start).Seconds())
	}
	l.tell(d, result)
	switch {
	case soon(err):
		return reconcile.Result{RequeueAfter: kube.ConflictDelay}, nil
	case errors.Is(err, decide.ErrGone), errors.Is(err, decide.ErrNotYours), errors.Is(err, decide.ErrFrozen):
		return reconcile.Result{}, nil // and the feed will hear of it
	case err != nil:
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: wait(d.outcome.Again, now)}, nil
}

// soon says whether the cache will have shortly what a write needs.
func soon(err error) bool {
	return errors.Is(err, decide.ErrConflict) || errors.Is(err, decide.ErrStale)
}

// confine has a Placement that the hub does not decide on lose the clusters that it
// may not have any more, if it is an external scheduler's.
func (l *loop) confine(ctx context.Context, key types.NamespacedName) (reconcile.Result, error) {
	result, err := l.submit.Confine(ctx, key)
	if placement := l.feed.placement(key); placement != nil {
		l.tell(decided{placement: placement}, result)
	}
	if soon(err) {
		return reconcile.Result{RequeueAfter: kube.ConflictDelay}, nil
	}
	return reconcile.Result{}, err
}

// skipped says whether the hub's own scheduler has nothing to do with a Placement.
func skipped(placement *clusterv1beta1.Placement) bool {
	return placement.Annotations[v1alpha1.AnnotationScheduler] != "" || decide.Frozen(placement) || !placement.DeletionTimestamp.IsZero()
}

// wait is until when time alone may change a choice, 0 if it never does.
func wait(again, now time.Time) time.Duration {
	if again.IsZero() {
		return 0
	}
	return min(max(again.Sub(now), time.Millisecond), longest)
}

// tell makes the events of a round (PL-36, PL-55).
func (l *loop) tell(d decided, result decide.Result) {
	say := func(names []string, reason, action, verb string) {
		for _, name := range names {
			l.events.Eventf(d.placement, nil, corev1.EventTypeNormal, reason, action, "PlacementDecision %s was %s.", name, verb)
		}
	}
	say(result.Created, "DecisionCreate", "Create", "created")
	say(result.Updated, "DecisionUpdate", "Update", "updated")
	say(result.Deleted, "DecisionDelete", "Delete", "deleted")
	if len(result.Created)+len(result.Updated)+len(result.Deleted) > 0 && len(d.outcome.Scores) > 0 {
		l.events.Eventf(d.placement, nil, corev1.EventTypeNormal, "ScoreUpdate", "Score", "%s", scores(d.outcome.Scores))
	}
	l.warn(d)
}

// warn tells once of each score that is too old to count.
func (l *loop) warn(d decided) {
	key := client.ObjectKeyFromObject(d.placement)
	before, _ := l.warned.Load(key)
	known, _ := before.([]string)
	for _, score := range d.outcome.Expired {
		if !slices.Contains(known, score) {
			l.events.Eventf(d.placement, nil, corev1.EventTypeWarning, "ScoreExpired", "Score",
				"AddOnPlacementScore %s is past its validUntil and counts as 0: whoever writes it has to renew it.", score)
		}
	}
	if len(d.outcome.Expired) == 0 {
		l.warned.Delete(key)
		return
	}
	l.warned.Store(key, d.outcome.Expired)
}

// scores writes them down, best first, in at most maxNote characters.
func scores(all []scheduling.Score) string {
	var text strings.Builder
	for _, s := range all {
		if text.Len() > maxNote {
			break
		}
		fmt.Fprintf(&text, "%s:%d ", s.Cluster, s.Score)
	}
	note := strings.TrimSpace(text.String())
	return note[:min(len(note), maxNote)]
}
