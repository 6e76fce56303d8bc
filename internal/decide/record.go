// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package decide

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
)

const (
	// MaxExplanation is the most bytes of an explanation: it is kept in an annotation.
	MaxExplanation = 16 << 10
	// MaxRequestID is the most bytes of a request id: so is that.
	MaxRequestID = 256
	// maxRejected is the most bytes of names that an answer is kept with.
	maxRejected = 64 << 10
)

// Record is what is kept, in annotation v1alpha1.AnnotationDecision, of the last
// decision that an external scheduler made.
type Record struct {
	Scheduler   string   `json:"scheduler"`
	RequestID   string   `json:"requestID,omitempty"`
	Term        uint64   `json:"term"`
	Generation  int64    `json:"generation"`
	Rejected    []string `json:"rejected,omitempty"`
	Explanation string   `json:"explanation,omitempty"`
}

// RecordOf reads the record from the first PlacementDecision of a Placement. ok is
// false if there is none.
func RecordOf(decision *clusterv1beta1.PlacementDecision) (record Record, ok bool) {
	text := decision.Annotations[v1alpha1.AnnotationDecision]
	return record, text != "" && json.Unmarshal([]byte(text), &record) == nil
}

// term is what AnnotationTerm says for a decision.
func term(d Decision) string { return d.Scheduler + ":" + strconv.FormatUint(d.Term, 10) }

// past looks at what was decided before: whether this very request has its answer
// already, or a later term forbids it.
func past(placement *clusterv1beta1.Placement, own map[string]*clusterv1beta1.PlacementDecision, d Decision) (answer Result, repeated bool, err error) {
	if d.Scheduler == "" {
		return Result{}, false, nil
	}
	for _, decision := range own {
		text, ok := strings.CutPrefix(decision.Annotations[v1alpha1.AnnotationTerm], d.Scheduler+":")
		last, failure := strconv.ParseUint(text, 10, 64)
		if ok && failure == nil && last > d.Term {
			return Result{}, false, fmt.Errorf("placement %s was decided in term %d of scheduler %q, and this is term %d: %w",
				d.Placement, last, d.Scheduler, d.Term, ErrFenced)
		}
	}
	first := own[nameOf(placement, 1)]
	if first == nil || d.RequestID == "" || d.DryRun {
		return Result{}, false, nil
	}
	record, ok := RecordOf(first)
	if !ok || record.Scheduler != d.Scheduler || record.RequestID != d.RequestID || metav1.GetControllerOf(first) == nil || metav1.GetControllerOf(first).UID != placement.UID {
		return Result{}, false, nil
	}
	return Result{Generation: record.Generation, Applied: true, Rejected: record.Rejected}, true, nil
}

// check refuses an external scheduler's decision that cannot be.
func check(placement *clusterv1beta1.Placement, d Decision, chosen int, rejected []string) error {
	size := 0
	for _, name := range rejected {
		size += len(name)
	}
	limit := placement.Spec.NumberOfClusters
	switch {
	case len(d.Explanation) > MaxExplanation:
		return invalid("the explanation has %d bytes, and at most %d are kept: shorten it", len(d.Explanation), MaxExplanation)
	case len(d.RequestID) > MaxRequestID:
		return invalid("the request id has %d bytes, and at most %d are kept: shorten it", len(d.RequestID), MaxRequestID)
	case limit != nil && chosen > int(*limit):
		return invalid("placement %s asks for %d clusters (spec.numberOfClusters), and the decision has %d: choose fewer", d.Placement, *limit, chosen)
	case d.AllowPartial && size > maxRejected:
		return invalid("%d of the clusters may not be chosen for placement %s, too many for a decision in part: look at its cluster sets again",
			len(rejected), d.Placement)
	}
	return nil
}

// fence writes the term of an external scheduler onto every object that there is,
// before anything else: writes of an earlier term fail from then on.
func (w *writer) fence(ctx context.Context) error {
	if w.decision.Scheduler == "" {
		return nil
	}
	for name, have := range w.have {
		if have.Annotations[v1alpha1.AnnotationTerm] == term(w.decision) || !have.DeletionTimestamp.IsZero() {
			continue
		}
		changed := have.DeepCopy()
		metav1.SetMetaDataAnnotation(&changed.ObjectMeta, v1alpha1.AnnotationTerm, term(w.decision))
		if _, err := w.patch(ctx, have, changed); err != nil {
			return fmt.Errorf("fencing decision %q: %w", name, err)
		}
	}
	return nil
}

// record keeps the answer to an external scheduler, when all of it is true.
func (w *writer) record(ctx context.Context) error {
	if w.decision.Scheduler == "" {
		return nil
	}
	text, err := json.Marshal(Record{
		Scheduler: w.decision.Scheduler, RequestID: w.decision.RequestID, Term: w.decision.Term,
		Generation: w.result.Generation, Rejected: w.result.Rejected, Explanation: w.decision.Explanation,
	})
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	have := w.have[nameOf(w.placement, 1)]
	if have.Annotations[v1alpha1.AnnotationDecision] == string(text) {
		return nil
	}
	changed := have.DeepCopy()
	metav1.SetMetaDataAnnotation(&changed.ObjectMeta, v1alpha1.AnnotationDecision, string(text))
	_, err = w.patch(ctx, have, changed)
	return err
}

// conditions are what the Placement says about the decision.
func conditions(placement *clusterv1beta1.Placement, d Decision, chosen int) []metav1.Condition {
	if d.Scheduler == "" {
		return d.Conditions
	}
	satisfied := metav1.Condition{
		Type: clusterv1beta1.PlacementConditionSatisfied, Status: metav1.ConditionTrue,
		Reason: "AllDecisionsScheduled", Message: "All cluster decisions scheduled",
	}
	switch wanted := placement.Spec.NumberOfClusters; {
	case wanted != nil && chosen < int(*wanted):
		satisfied.Status, satisfied.Reason = metav1.ConditionFalse, "NotAllDecisionsScheduled"
		satisfied.Message = fmt.Sprintf("%d cluster decisions unscheduled", int(*wanted)-chosen)
	case wanted == nil && chosen == 0:
		satisfied.Status, satisfied.Reason = metav1.ConditionFalse, "NoManagedClusterMatched"
		satisfied.Message = fmt.Sprintf("The scheduler %q chose no ManagedCluster", d.Scheduler)
	}
	return []metav1.Condition{satisfied, {
		Type: clusterv1beta1.PlacementConditionMisconfigured, Status: metav1.ConditionFalse,
		Reason: "Succeedconfigured", Message: "Placement configurations check pass",
	}}
}

// setConditions leaves those of other types as they are. They are of the
// Placement as it is, unless they say of which generation.
func setConditions(placement *clusterv1beta1.Placement, wanted []metav1.Condition, now time.Time) {
	for i := range wanted {
		condition := wanted[i]
		condition.LastTransitionTime = metav1.NewTime(now)
		if condition.ObservedGeneration == 0 {
			condition.ObservedGeneration = placement.Generation
		}
		meta.SetStatusCondition(&placement.Status.Conditions, condition)
	}
}
