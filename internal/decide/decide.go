// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package decide is the one way by which a choice of clusters, be it that of the
// hub's own scheduler or of an external one, becomes PlacementDecisions and the
// status of a Placement (PL-41 to PL-51).
//
// A Decision and a reader of the hub's objects come in; writes of
// PlacementDecisions and of the Placement's status go out, only where something
// differs, and each on condition that nobody else wrote the object meanwhile. It
// knows nothing of how clusters are chosen.
package decide

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/clock"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
)

// FieldManager owns what Submit writes.
const FieldManager = "fairlead-placement"

// Decision is a choice of clusters for a Placement.
type Decision struct {
	// Placement is which; UID, unless "", is the one that was looked at.
	Placement types.NamespacedName
	UID       types.UID
	// ObservedGeneration is the generation of the Placement that was looked at.
	ObservedGeneration int64
	// Clusters are chosen, best first. A name that is there again is ignored.
	Clusters []string
	// Keep leaves the clusters that are decided as they are, whatever Clusters says,
	// but for those in Drop. It is for a choice that could not be made.
	Keep bool
	Drop []string
	// Scheduler is who chose: "" for the hub's own.
	Scheduler string
	// Conditions are PlacementSatisfied and PlacementMisconfigured as the hub's own
	// scheduler says. For an external one Submit says them.
	Conditions []metav1.Condition
	// AllowPartial applies the clusters that the Placement may have although there
	// are others. DryRun writes nothing.
	AllowPartial, DryRun bool
	// Explanation, RequestID and Term are of an external scheduler. A repeat of a
	// RequestID that was applied gets the same answer and writes nothing, across
	// replicas and restarts. A lower Term than the last one is refused.
	Explanation string
	RequestID   string
	Term        uint64
}

// Result is what became of a Decision.
type Result struct {
	// Generation is the Placement's.
	Generation int64
	// Applied says that the Placement has these clusters now; in a dry run, that it
	// would have.
	Applied bool
	// Rejected are the chosen clusters that the Placement may not have: in none of
	// its sets, being deleted, or unknown.
	Rejected []string
	// Changed says that something was written.
	Changed bool
	// Created, Updated and Deleted are names of PlacementDecisions.
	Created, Updated, Deleted []string
}

// Submitter applies decisions. It may be used concurrently.
type Submitter struct {
	// Reader reads clusters, sets, bindings, placements and decisions. It may lag:
	// a write on what is out of date is refused.
	Reader client.Reader
	// Writer writes decisions and the Placement's status, as whoever decides.
	Writer client.Client
	// Clock gives the conditions' lastTransitionTime. Default the real one.
	Clock clock.PassiveClock
	// Log gets a line for each change. Default slog.Default().
	Log *slog.Logger
}

// Submit makes PlacementDecisions and the Placement's status be what d says. If it
// fails halfway, every cluster that the Placement had and is to keep is still
// decided on; the same decision once more completes it.
//
// Errors are ErrGone, ErrNotYours, ErrFrozen, ErrFenced, ErrStale, ErrInvalid and
// ErrConflict (errors.Is), or those of the apiserver.
func (s Submitter) Submit(ctx context.Context, d Decision) (Result, error) {
	s = s.withDefaults()
	placement, err := s.placement(ctx, d)
	if err != nil {
		return Result{}, err
	}
	own, err := s.decisions(ctx, placement)
	if err != nil {
		return Result{}, err
	}
	if answer, repeated, err := past(placement, own, d); repeated || err != nil {
		return answer, err
	}
	if d.ObservedGeneration != placement.Generation {
		return Result{}, stale(d, placement)
	}
	if d.Keep && len(own) > 0 {
		return s.keep(ctx, placement, own, d)
	}
	chosen, rejected, err := s.admit(ctx, placement, d)
	if err != nil {
		return Result{}, err
	}
	result := Result{Generation: placement.Generation, Rejected: rejected, Applied: len(rejected) == 0 || d.AllowPartial}
	if !result.Applied {
		return result, nil
	}
	groups, err := s.group(ctx, placement, chosen)
	if err != nil {
		return s.misconfigured(ctx, placement, own, d, err)
	}
	if d.DryRun {
		return result, nil
	}
	w := &writer{Submitter: s, placement: placement, decision: d, result: result}
	if err := w.write(ctx, own, groups); err != nil {
		return w.result, settle(placement, err)
	}
	if err := w.status(ctx, conditions(placement, d, len(chosen)), len(chosen), w.groups); err != nil {
		return w.result, settle(placement, err)
	}
	return w.result, settle(placement, w.record(ctx)) // last: it says that all is done
}

func (s Submitter) withDefaults() Submitter {
	if s.Clock == nil {
		s.Clock = clock.RealClock{}
	}
	if s.Log == nil {
		s.Log = slog.Default()
	}
	return s
}

// placement reads the Placement, if it is still the one that d is for.
func (s Submitter) placement(ctx context.Context, d Decision) (*clusterv1beta1.Placement, error) {
	placement := &clusterv1beta1.Placement{}
	err := s.Reader.Get(ctx, d.Placement, placement)
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("placement %s: %w", d.Placement, ErrGone)
	case err != nil:
		return nil, fmt.Errorf("reading placement %s: %w", d.Placement, err)
	case d.UID != "" && d.UID != placement.UID:
		return nil, fmt.Errorf("placement %s has UID %q, and the decision is for %q: %w", d.Placement, placement.UID, d.UID, ErrGone)
	case !placement.DeletionTimestamp.IsZero():
		return nil, fmt.Errorf("placement %s is being deleted: %w", d.Placement, ErrGone)
	case placement.Annotations[v1alpha1.AnnotationScheduler] != d.Scheduler:
		return nil, fmt.Errorf("placement %s names the scheduler %q in annotation %s, and the decision is by %q: %w",
			d.Placement, placement.Annotations[v1alpha1.AnnotationScheduler], v1alpha1.AnnotationScheduler, d.Scheduler, ErrNotYours)
	case Frozen(placement):
		return nil, fmt.Errorf("placement %s has annotation %s=true: %w", d.Placement, clusterv1beta1.PlacementDisableAnnotation, ErrFrozen)
	}
	return placement, nil
}

// Frozen says whether nobody's decisions on a Placement are to change (PL-52).
func Frozen(placement *clusterv1beta1.Placement) bool {
	return placement.Annotations[clusterv1beta1.PlacementDisableAnnotation] == "true"
}

// Owns says whether a PlacementDecision is one of a Placement: controlled by it;
// or labelled as its own while nobody else controls it, or an earlier Placement of
// that name does.
func Owns(placement *clusterv1beta1.Placement, decision *clusterv1beta1.PlacementDecision) bool {
	controller := metav1.GetControllerOf(decision)
	if controller != nil && controller.UID == placement.UID {
		return true
	}
	return decision.Labels[clusterv1beta1.PlacementLabel] == placement.Name &&
		(controller == nil || controller.Kind == "Placement" && controller.Name == placement.Name)
}

// decisions reads the PlacementDecisions of a Placement, by name.
func (s Submitter) decisions(ctx context.Context, placement *clusterv1beta1.Placement) (map[string]*clusterv1beta1.PlacementDecision, error) {
	list := &clusterv1beta1.PlacementDecisionList{}
	if err := s.Reader.List(ctx, list, client.InNamespace(placement.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("reading the decisions in namespace %q: %w", placement.Namespace, err)
	}
	own := map[string]*clusterv1beta1.PlacementDecision{}
	for i := range list.Items {
		if Owns(placement, &list.Items[i]) {
			own[list.Items[i].Name] = list.Items[i].DeepCopy()
		}
	}
	return own, nil
}

// admit parts the chosen clusters into those that the Placement may have and
// those that it may not. The hub's own scheduler has looked at that.
func (s Submitter) admit(ctx context.Context, placement *clusterv1beta1.Placement, d Decision) (chosen, rejected []string, err error) {
	if d.Keep { // there is nothing to keep, and an object is to say so (PL-43)
		return nil, nil, nil
	}
	chosen = make([]string, 0, len(d.Clusters))
	seen := make(map[string]bool, len(d.Clusters))
	for _, name := range d.Clusters {
		if !seen[name] {
			seen[name] = true
			chosen = append(chosen, name)
		}
	}
	if d.Scheduler == "" {
		return chosen, nil, nil
	}
	bounds, err := Eligible(ctx, s.Reader, placement)
	if err != nil {
		return nil, nil, err
	}
	chosen = slices.DeleteFunc(chosen, func(name string) bool {
		may, failure := bounds.Has(ctx, name)
		if failure != nil && err == nil {
			err = failure
		}
		if !may {
			rejected = append(rejected, name)
		}
		return !may
	})
	if err != nil {
		return nil, nil, err
	}
	return chosen, rejected, check(placement, d, len(chosen), rejected)
}

// keep writes the conditions, and leaves the PlacementDecisions as they are but for
// clusters to drop: nothing is grouped anew.
func (s Submitter) keep(ctx context.Context, placement *clusterv1beta1.Placement, own map[string]*clusterv1beta1.PlacementDecision, d Decision) (Result, error) {
	w := &writer{Submitter: s, placement: placement, decision: d, have: own, result: Result{Generation: placement.Generation, Applied: d.Keep}}
	selected, err := w.drop(ctx, sets.New(d.Drop...))
	if err == nil {
		err = w.status(ctx, d.Conditions, selected, w.groups)
	}
	return w.result, settle(placement, err)
}

// misconfigured says that the decisions cannot be grouped as the Placement says,
// and keeps those on clusters that it may still have (PL-62). An external scheduler
// is told.
func (s Submitter) misconfigured(
	ctx context.Context, placement *clusterv1beta1.Placement, own map[string]*clusterv1beta1.PlacementDecision, d Decision, cause error,
) (Result, error) {
	if d.Scheduler != "" || d.DryRun || !IsInvalid(cause) {
		return Result{Generation: placement.Generation}, cause
	}
	d.Keep = false                      // it is not what was decided
	d.Conditions = []metav1.Condition{{ // PL-08
		Type: clusterv1beta1.PlacementConditionSatisfied, Status: metav1.ConditionFalse, Reason: "NotAllDecisionsScheduled",
		Message: fmt.Sprintf("%d cluster decisions unscheduled", len(d.Clusters)),
	}, {
		Type: clusterv1beta1.PlacementConditionMisconfigured, Status: metav1.ConditionTrue, Reason: "Misconfigured",
		Message: "DecisionStrategy:" + cause.Error(),
	}}
	if len(own) == 0 && len(validation.IsValidLabelValue(placement.Name)) == 0 { // an object is to say so (PL-43)
		w := &writer{Submitter: s, placement: placement, decision: d, result: Result{Generation: placement.Generation}}
		if err := w.write(ctx, own, []group{{}}); err != nil {
			return w.result, settle(placement, err)
		}
		return w.result, settle(placement, w.status(ctx, d.Conditions, 0, w.groups))
	}
	var err error
	if d.Drop, err = s.outside(ctx, placement, own); err != nil {
		return Result{}, err
	}
	return s.keep(ctx, placement, own, d)
}

// outside are the clusters that are decided on, and that the Placement may not have
// any more.
func (s Submitter) outside(ctx context.Context, placement *clusterv1beta1.Placement, own map[string]*clusterv1beta1.PlacementDecision) ([]string, error) {
	bounds, err := Eligible(ctx, s.Reader, placement)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, decision := range own {
		for cluster := range clusterNames(decision) {
			may, err := bounds.Has(ctx, cluster)
			if err != nil {
				return nil, err
			}
			if !may {
				names = append(names, cluster)
			}
		}
	}
	return names, nil
}
