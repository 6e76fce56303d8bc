// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"time"

	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/apply"
	"fairlead.dev/fairlead/agent/work/executor"
)

// permittedFor is how long the permission for an object counts that nobody touches. Before anything is written, it is asked
// for anew.
const permittedFor = 4 * time.Minute

// authorize refuses the manifests that the work's executor may not apply, before the inventory says that they are. What it may
// not, and what nothing is known of for sure, stays on the spoke as it is. It returns an error only if the apiserver cannot be
// reached.
//
// What is not in the work any more is removed without asking: that it may be deleted, too, was asked before it was applied.
func (c *Controller) authorize(ctx context.Context, p *pass) error {
	as := p.desired.Work.Spec.Executor
	c.checker.Use(p.desired.Work.Name, as != nil)
	if as == nil {
		return nil
	}
	subject, err := executor.SubjectOf(as)
	if err != nil {
		return err
	}
	epoch, now, round := c.checker.Epoch(), c.cfg.Clock.Now(), c.checker.Round(subject)
	for _, planned := range p.items {
		if !planned.attempted() {
			continue
		}
		known := p.memory.object(planned)
		fresh := known.epoch == epoch && now.Sub(known.permitted) < permittedFor/2
		if fresh && !p.full && c.unchanged(planned, known) {
			continue
		}
		readOnly := planned.options.Strategy.Type == workv1.UpdateStrategyTypeReadOnly
		err := round.Check(ctx, executor.Request{
			Resource: planned.object.Resource, Manifest: planned.manifest.Object, Verbs: executor.Verbs(readOnly, !planned.orphan),
		})
		if err != nil && isUnreachable(err) {
			return err
		}
		known.permitted, known.epoch = now, epoch
		if err != nil {
			known.permitted = time.Time{}
			p.forbid(planned, err)
		}
	}
	return nil
}

// forbid refuses a manifest for lack of a right, or of an answer, which is asked for again soon.
func (p *pass) forbid(planned *item, why error) {
	var denied *executor.Denied
	if errors.As(why, &denied) {
		p.denied = true
		planned.watchedOnly = denied.MayRead()
	} else {
		planned.retry = true
	}
	planned.refuse(why)
}

// look reads the object of a manifest that is not applied although its executor may read it.
func (c *Controller) look(ctx context.Context, planned *item) error {
	if !planned.watchedOnly {
		return nil
	}
	result, err := c.applier.Apply(ctx, apply.Request{
		Manifest: planned.manifest, Resource: planned.object.Resource, Strategy: workv1.UpdateStrategyTypeReadOnly,
	})
	if err != nil && isUnreachable(err) {
		return err
	}
	planned.see(result, err)
	return nil
}
