// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/apply"
	"fairlead.dev/fairlead/agent/work/condition"
	"fairlead.dev/fairlead/agent/work/feedback"
	"fairlead.dev/fairlead/agent/work/health"
	"fairlead.dev/fairlead/agent/work/inventory"
	"fairlead.dev/fairlead/agent/work/rule"
)

// errComplete ends a pass over a work of which the AppliedManifestWork says that it is complete.
var errComplete = errors.New("the work is complete")

// maxRemembered bounds the status of a complete work that is kept on the spoke.
const maxRemembered = 64 << 10

// observe notes what the rules of a work, and the object itself, say of an object that is there.
func (c *Controller) observe(ctx context.Context, planned *item, live *unstructured.Unstructured) {
	if live == nil {
		return
	}
	planned.outcome.Values, planned.outcome.FeedbackFailure = feedback.Values(live, planned.options.Feedback, c.cfg.Feedback)
	planned.outcome.Derived = health.Of(live)
	planned.outcome.Ruled = c.rules.Conditions(ctx, rule.Subject{Kind: planned.kind(), Live: live}, planned.options.Conditions)
}

func (i *item) kind() schema.GroupKind {
	return schema.GroupKind{Group: i.outcome.Meta.Group, Kind: i.outcome.Meta.Kind}
}

// conclude makes up the conditions by rules of a manifest whose object is not there or not known, and keeps complete what is.
func (c *Controller) conclude(ctx context.Context, planned *item) {
	outcome := &planned.outcome
	if outcome.Presence != condition.Present {
		why := "it does not exist"
		if outcome.Unread != nil {
			why = outcome.Unread.Error()
		}
		outcome.Ruled = c.rules.Conditions(ctx, rule.Subject{Kind: planned.kind(), Unread: why}, planned.options.Conditions)
	}
	if !planned.complete || meta.IsStatusConditionTrue(outcome.Ruled, workv1.ManifestComplete) {
		return
	}
	outcome.Ruled = slices.DeleteFunc(slices.Clone(outcome.Ruled), func(c metav1.Condition) bool { return c.Type == workv1.ManifestComplete })
	outcome.Ruled = append(outcome.Ruled, metav1.Condition{
		Type: workv1.ManifestComplete, Status: metav1.ConditionTrue, Reason: workv1.ConditionRuleEvaluated, Message: "it was complete, which is final",
	})
}

// completes reports whether the options have a rule for condition Complete.
func (o options) completes() bool {
	return slices.ContainsFunc(o.Conditions, func(r workv1.ConditionRule) bool {
		return r.Condition == workv1.ManifestComplete || r.Condition == "" && r.Type == workv1.WellKnownConditionsType
	})
}

// markComplete finds the manifests that were complete before: they are not applied again, as long as a rule says what that is.
func (c *Controller) markComplete(p *pass) {
	metas := make([]workv1.ManifestResourceMeta, len(p.items))
	for i, planned := range p.items {
		metas[i] = planned.outcome.Meta
	}
	for i := range condition.Completed(c.before(p.memory, p.desired.Work.UID, metas), metas) {
		p.items[i].complete = p.items[i].attempted() && p.items[i].options.completes()
	}
}

// read looks at the object of a manifest without touching it.
func (c *Controller) read(ctx context.Context, planned *item) (apply.Result, error) {
	result, err := c.applier.Apply(ctx, apply.Request{
		Manifest: planned.manifest, Resource: planned.object.Resource, Strategy: workv1.UpdateStrategyTypeReadOnly,
	})
	if err != nil && isUnreachable(err) {
		return result, err
	}
	planned.see(result, err)
	c.observe(ctx, planned, result.Live)
	return result, nil
}

// leave looks at the object of a manifest that is complete. It need not be there any more.
func (c *Controller) leave(ctx context.Context, known *remembered, planned *item) error {
	result, err := c.read(ctx, planned)
	if err != nil {
		return err
	}
	c.watcher.Read(planned.object, versionOf(result.Live))
	known.remember(planned, result, nil)
	return nil
}

// complete reports whether what was made of a work, that of the UID, is that it is complete.
func (m *memory) complete(uid types.UID) bool {
	return m.status != nil && m.uid == uid && meta.IsStatusConditionTrue(m.status.Conditions, workv1.WorkComplete)
}

// rest leaves a work alone that is complete: its objects are not even watched any more, and its status stays what it was,
// whatever the spec becomes.
func (c *Controller) rest(desired Desired, m *memory) {
	c.watcher.Watch(desired.Work.Name, nil)
	c.checker.Use(desired.Work.Name, false)
	m.objects = map[inventory.Key]*remembered{}
	c.report(desired, m, *m.status)
}

// finished is what an AppliedManifestWork remembers of a work that is complete.
type finished struct {
	UID    types.UID                 `json:"uid"`
	Status workv1.ManifestWorkStatus `json:"status"`
}

// encodeFinished returns the annotation that keeps a work complete over a restart, nothing if it is not.
func encodeFinished(uid types.UID, status workv1.ManifestWorkStatus) (string, error) {
	if !meta.IsStatusConditionTrue(status.Conditions, workv1.WorkComplete) {
		return "", nil
	}
	encoded, err := json.Marshal(finished{uid, condition.Fit(status, maxRemembered)})
	if err != nil {
		return "", fmt.Errorf("encoding the status of a complete work: %w", err)
	}
	return string(encoded), nil
}

// recall takes up that a work is complete after a restart. It returns errComplete if it is.
func (m *memory) recall(applied *workv1.AppliedManifestWork, uid types.UID) error {
	raw := applied.Annotations[inventory.CompleteAnnotation]
	if m.status != nil || raw == "" {
		return nil
	}
	kept := finished{}
	if err := json.Unmarshal([]byte(raw), &kept); err != nil {
		return nil //nolint:nilerr // somebody else's text: nothing is remembered
	}
	if kept.UID != uid {
		return nil
	}
	m.applied, m.status, m.uid = applied, &kept.Status, uid
	return errComplete
}
