// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/condition"
	"fairlead.dev/fairlead/agent/work/inventory"
)

// errNotRead is why nothing is known of the object of a refused manifest.
var errNotRead = errors.New("it was not looked at, because the manifest is refused")

// publish makes the status of the work out of what came of its manifests, and reports it.
func (c *Controller) publish(ctx context.Context, p *pass) error {
	outcomes := make([]condition.Outcome, len(p.items))
	for i, planned := range p.items {
		if planned.resolved() && planned.outcome.Presence == condition.Unresolved {
			planned.outcome.Presence, planned.outcome.Unread = condition.Unreadable, errNotRead
		}
		outcomes[i] = planned.outcome
	}
	status := condition.Status(outcomes, p.desired.Work.Generation, c.before(p.memory, metasOf(outcomes)), c.cfg.Clock.Now())
	if err := c.keepAges(ctx, p.memory, status); err != nil {
		return err
	}
	c.report(p.desired, p.memory, status)
	return nil
}

// before returns the status before this pass; after a restart, what the AppliedManifestWork remembers of it.
func (c *Controller) before(m *memory, metas []workv1.ManifestResourceMeta) workv1.ManifestWorkStatus {
	if m.status != nil {
		return *m.status
	}
	if m.applied != nil {
		return condition.DecodeAges(m.applied.Annotations[inventory.AgesAnnotation], metas)
	}
	return workv1.ManifestWorkStatus{}
}

// keepAges writes since when conditions are what they are, before they are reported, so that a restart does not move them.
func (c *Controller) keepAges(ctx context.Context, m *memory, status workv1.ManifestWorkStatus) error {
	if m.applied == nil {
		return nil
	}
	ages, err := condition.EncodeAges(status)
	if err != nil {
		return err
	}
	applied, err := c.store.SetAges(ctx, m.applied, ages)
	if err != nil {
		m.applied = nil
		return fmt.Errorf("writing the ages of conditions: %w", err)
	}
	m.applied = applied
	return nil
}

// report hands a status to the reporter unless it is the one handed over last.
func (c *Controller) report(desired Desired, m *memory, status workv1.ManifestWorkStatus) {
	m.status = &status
	report := Report{
		Name: desired.Work.Name, UID: string(desired.Work.UID), ObservedGeneration: desired.Work.Generation,
		Digest: desired.Digest, Status: &status,
	}
	encoded, err := json.Marshal(report.Status)
	if err != nil {
		encoded = nil // plain data encodes
	}
	encoded = fmt.Appendf(encoded, " %s %d %x", report.UID, report.ObservedGeneration, report.Digest)
	resends, sum := c.resends.Load(), sha256.Sum256(encoded)
	if sum == m.reported && resends == m.resends {
		return
	}
	m.reported, m.resends = sum, resends
	c.cfg.Reporter.Report(report)
}

func metasOf(outcomes []condition.Outcome) []workv1.ManifestResourceMeta {
	metas := make([]workv1.ManifestResourceMeta, len(outcomes))
	for i, outcome := range outcomes {
		metas[i] = outcome.Meta
	}
	return metas
}

// unsupportedRules returns a condition for each rule that asks for one; this version evaluates none.
func unsupportedRules(rules []workv1.ConditionRule) []metav1.Condition {
	var conditions []metav1.Condition
	for _, rule := range rules {
		conditions = append(conditions, metav1.Condition{
			Type: rule.Condition, Status: metav1.ConditionUnknown, Reason: workv1.ConditionRuleInvalid,
			Message: fmt.Sprintf("condition rules of type %s are not supported by this agent", rule.Type),
		})
	}
	return conditions
}
