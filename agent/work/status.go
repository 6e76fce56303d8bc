// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/condition"
	"fairlead.dev/fairlead/agent/work/inventory"
	"fairlead.dev/fairlead/internal/wire"
)

// errNotRead is why nothing is known of the object of a refused manifest.
var errNotRead = errors.New("it was not looked at, because the manifest is refused")

// statusMargin is left of what a status may take, for what is added or encoded otherwise on its way.
const statusMargin = 8 << 10

// publish makes the status of the work out of what came of its manifests, and reports it.
func (c *Controller) publish(ctx context.Context, p *pass) error {
	outcomes := make([]condition.Outcome, len(p.items))
	for i, planned := range p.items {
		if planned.resolved() && planned.outcome.Presence == condition.Unresolved {
			planned.outcome.Presence, planned.outcome.Unread = condition.Unreadable, errNotRead
		}
		c.conclude(ctx, planned)
		outcomes[i] = planned.outcome
	}
	work := p.desired.Work
	metas := metasOf(outcomes)
	status := condition.Status(outcomes, work.Generation, c.before(p.memory, work.UID, metas), c.cfg.Clock.Now())
	err := c.keep(ctx, p.memory, work.UID, status)
	if err != nil && (isUnreachable(err) || len(condition.Completed(status, metas)) > 0) {
		return err // what is complete must be known after a restart, too
	}
	// A spoke that takes no writes must not hide why nothing is applied: a restart may then make conditions look younger, no more.
	c.report(p.desired, p.memory, status)
	return err
}

// before returns the status before this pass; after a restart, what the AppliedManifestWork remembers of it. What was complete of
// another work of the name, that is, with another UID, is not.
func (c *Controller) before(m *memory, uid types.UID, metas []workv1.ManifestResourceMeta) workv1.ManifestWorkStatus {
	switch {
	case m.status != nil && m.uid == uid:
		return *m.status
	case m.status != nil:
		return condition.Incomplete(*m.status)
	case m.applied != nil:
		return condition.DecodeAges(m.applied.Annotations[inventory.AgesAnnotation], string(uid), metas)
	}
	return workv1.ManifestWorkStatus{}
}

// keep writes since when conditions are what they are, and whether the work is complete, before that is reported, so that a
// restart changes nothing.
func (c *Controller) keep(ctx context.Context, m *memory, uid types.UID, status workv1.ManifestWorkStatus) error {
	if m.applied == nil {
		return nil
	}
	ages, errAges := condition.EncodeAges(status, string(uid))
	complete, err := encodeFinished(uid, status)
	if err := errors.Join(errAges, err); err != nil {
		return err
	}
	applied, err := c.store.Annotate(ctx, m.applied, map[string]string{
		inventory.AgesAnnotation: ages, inventory.CompleteAnnotation: complete,
	})
	if err != nil {
		m.applied = nil
		return fmt.Errorf("writing the ages of conditions: %w", err)
	}
	m.applied = applied
	return nil
}

// report hands a status to the reporter unless it is the one handed over last.
func (c *Controller) report(desired Desired, m *memory, status workv1.ManifestWorkStatus) {
	m.status, m.uid = &status, desired.Work.UID
	fitting := condition.Fit(status, wire.MaxStatus-statusMargin)
	report := Report{
		Name: desired.Work.Name, UID: string(desired.Work.UID), ObservedGeneration: desired.Work.Generation,
		Digest: desired.Digest, Status: &fitting,
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
