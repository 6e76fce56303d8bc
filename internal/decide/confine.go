// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package decide

import (
	"context"
	"fmt"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
)

// Confine holds what an external scheduler decided on a Placement within its
// bounds: clusters that left its sets, whose binding was taken away, or that are
// being deleted (PL-12, PL-62) leave the decisions, whether that scheduler works or
// not. Everything else is its to decide, and so is what somebody writes himself who
// may write PlacementDecisions: those have no Placement as their controller.
//
// A Placement of the hub's own scheduler, a frozen one and one that is being deleted
// are left alone. Errors are ErrConflict (errors.Is) or those of the apiserver.
func (s Submitter) Confine(ctx context.Context, key types.NamespacedName) (Result, error) {
	s = s.withDefaults()
	placement := &clusterv1beta1.Placement{}
	if err := s.Reader.Get(ctx, key, placement); apierrors.IsNotFound(err) {
		return Result{}, nil
	} else if err != nil {
		return Result{}, fmt.Errorf("reading placement %s: %w", key, err)
	}
	d := Decision{Placement: key, Scheduler: placement.Annotations[v1alpha1.AnnotationScheduler]}
	if d.Scheduler == "" || Frozen(placement) || !placement.DeletionTimestamp.IsZero() {
		return Result{}, nil
	}
	own, err := s.decisions(ctx, placement)
	if err != nil {
		return Result{}, err
	}
	maps.DeleteFunc(own, func(_ string, decision *clusterv1beta1.PlacementDecision) bool {
		return !metav1.IsControlledBy(decision, placement) // written past Submit
	})
	drop, err := s.outside(ctx, placement, own)
	if err != nil || len(drop) == 0 {
		return Result{}, err
	}
	w := &writer{Submitter: s, placement: placement, decision: d, have: own, result: Result{Generation: placement.Generation}}
	selected, err := w.drop(ctx, sets.New(drop...))
	if err != nil {
		return w.result, settle(placement, err)
	}
	satisfied := conditions(placement, d, selected)[0]
	if before := meta.FindStatusCondition(placement.Status.Conditions, satisfied.Type); before != nil {
		satisfied.ObservedGeneration = before.ObservedGeneration // the one that was decided on
	}
	return w.result, settle(placement, w.status(ctx, []metav1.Condition{satisfied}, selected, w.groups))
}
