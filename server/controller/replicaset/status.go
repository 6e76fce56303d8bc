// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/rollout"
)

// report writes the status, if it is not that already.
func (o *round) report(ctx context.Context, out outcome) error {
	before := o.set.DeepCopy()
	status := &o.set.Status
	status.Summary, status.PlacementsSummary = workv1alpha1.ManifestWorkReplicaSetSummary{}, []workv1alpha1.PlacementSummary{}
	for _, f := range o.refs {
		summary := o.summary(f)
		status.PlacementsSummary = append(status.PlacementsSummary, summary)
		add(&status.Summary, summary.Summary)
	}
	for _, condition := range []metav1.Condition{o.verified(), o.rolledOut(), o.applied(out)} {
		condition.ObservedGeneration, condition.LastTransitionTime = o.set.Generation, metav1.NewTime(o.cfg.Clock.Now())
		condition.Message = wire.Truncate(condition.Message)
		meta.SetStatusCondition(&status.Conditions, condition)
	}
	if equality.Semantic.DeepEqual(before.Status, o.set.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := o.client.Status().Patch(ctx, o.set, patch, client.FieldOwner(wire.ReplicaSetManager)); err != nil {
		return fmt.Errorf("writing the status of ManifestWorkReplicaSet %s: %w", o.key(), err)
	}
	return nil
}

// summary counts the works of a ref (MH-15).
func (o *round) summary(f *ref) workv1alpha1.PlacementSummary {
	s := workv1alpha1.ManifestWorkReplicaSetSummary{DesiredTotal: len(f.own)}
	for _, cluster := range f.own {
		if w := o.works[cluster]; w != nil {
			o.count(&s, w)
		}
	}
	for _, w := range o.kept[f.name] {
		o.count(&s, w)
	}
	return workv1alpha1.PlacementSummary{
		Name: f.name, Summary: s,
		AvailableDecisionGroups: fmt.Sprintf("%d (%d / %d clusters applied)", len(f.groups), s.Updated, s.DesiredTotal),
	}
}

func (o *round) count(s *workv1alpha1.ManifestWorkReplicaSetSummary, w *Work) {
	one := func(yes bool) int {
		if yes {
			return 1
		}
		return 0
	}
	add(s, workv1alpha1.ManifestWorkReplicaSetSummary{
		Total: 1, Applied: one(w.Applied.True()), Available: one(w.Available.True()),
		Progressing: one(w.Progressing.True()), Degraded: one(w.Degraded.True()),
		Updated: one(w.Applied.True() && w.Applied.Generation == w.Generation && o.isCurrent(w)),
	})
}

func add(sum *workv1alpha1.ManifestWorkReplicaSetSummary, s workv1alpha1.ManifestWorkReplicaSetSummary) {
	sum.Total += s.Total
	sum.DesiredTotal += s.DesiredTotal
	sum.Applied += s.Applied
	sum.Available += s.Available
	sum.Progressing += s.Progressing
	sum.Degraded += s.Degraded
	sum.Updated += s.Updated
}

// verified is MH-12.
func (o *round) verified() metav1.Condition {
	c := metav1.Condition{
		Type: workv1alpha1.ManifestWorkReplicaSetConditionPlacementVerified, Status: metav1.ConditionFalse,
	}
	var missing, wrong []string
	for _, f := range o.refs {
		if f.missing != "" {
			missing = append(missing, f.missing)
		}
		if f.problem != nil {
			wrong = append(wrong, fmt.Sprintf("placementRef %q: %v", f.name, f.problem))
		}
	}
	switch {
	case len(missing) > 0:
		c.Reason, c.Message = workv1alpha1.ReasonPlacementDecisionNotFound, strings.Join(missing, "; ")+": works that there are stay as they are"
	case len(wrong) > 0:
		c.Reason, c.Message = workv1alpha1.ReasonNotAsExpected, strings.Join(wrong, "; ")
	case len(o.by) == 0:
		c.Reason, c.Message = workv1alpha1.ReasonPlacementDecisionEmpty, "no cluster was chosen"
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, workv1alpha1.ReasonAsExpected, fmt.Sprintf("%d clusters were chosen", len(o.by))
		if writing := o.writing(); writing != "" {
			c.Message += "; " + writing + ": no work is deleted until then"
		}
	}
	return c
}

// rolledOut is MH-13.
func (o *round) rolledOut() metav1.Condition {
	c := metav1.Condition{
		Type: workv1alpha1.ManifestWorkReplicaSetConditionPlacementRolledOut, Status: metav1.ConditionTrue, Reason: workv1alpha1.ReasonComplete,
	}
	var words []string
	for _, f := range o.refs {
		if f.missing != "" || f.problem != nil || !f.plan.Done {
			c.Status, c.Reason = metav1.ConditionFalse, workv1alpha1.ReasonProgressing
		}
		words = append(words, f.words())
	}
	c.Message = strings.Join(words, "; ")
	return c
}

// words says how far a rollout is.
func (f *ref) words() string {
	text := fmt.Sprintf("placement %q: ", f.name)
	switch {
	case f.missing != "":
		return text + f.missing
	case f.problem != nil:
		return text + f.problem.Error()
	}
	n := f.plan.Counts
	words := []string{text + fmt.Sprintf("%d of %d clusters succeeded", n[rollout.Succeeded], len(f.own))}
	for _, part := range []struct {
		count int
		words string
	}{
		{n[rollout.Applying] + n[rollout.Progressing] + len(f.plan.Apply), "in progress"},
		{n[rollout.Blocked], "could not be given the content yet"},
		{n[rollout.Soaking], "succeeded less than minSuccessTime ago"},
		{n[rollout.Failed], "failed"},
		{n[rollout.TimeOut], "timed out"},
		{n[rollout.ToApply] - len(f.plan.Apply), "wait"},
	} {
		if part.count > 0 {
			words = append(words, fmt.Sprintf("%d %s", part.count, part.words))
		}
	}
	if f.plan.Stopped != "" {
		words = append(words, "stopped since "+f.plan.Stopped)
	}
	if len(f.plan.Unknown) > 0 {
		words = append(words, "and there are no mandatory decision groups "+strings.Join(f.plan.Unknown, ", "))
	}
	return strings.Join(words, ", ")
}

// applied is MH-14.
func (o *round) applied(out outcome) metav1.Condition {
	c := metav1.Condition{
		Type: workv1alpha1.ManifestWorkReplicaSetConditionManifestworkApplied, Status: metav1.ConditionFalse,
		Message: fmt.Sprintf("%d of %d works are applied", o.set.Status.Summary.Applied, o.set.Status.Summary.DesiredTotal),
	}
	switch err := out.err(); {
	case err != nil:
		c.Reason, c.Message = workv1alpha1.ReasonNotAsExpected, err.Error()
	case len(o.by) == 0:
		c.Reason, c.Message = workv1alpha1.ReasonPlacementDecisionEmpty, "no cluster was chosen"
	case o.set.Status.Summary.Applied < o.set.Status.Summary.DesiredTotal:
		c.Reason = workv1alpha1.ReasonProcessing
	default:
		c.Status, c.Reason = metav1.ConditionTrue, workv1alpha1.ReasonAsExpected
	}
	return c
}
