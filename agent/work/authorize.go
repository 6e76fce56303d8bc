// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"time"

	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/executor"
)

// permittedFor is how long the permission for an object counts to which nothing is to be written. Before a write it is asked
// for anew.
const permittedFor = 4 * time.Minute

// verdict is what was last said about an executor and a manifest.
type verdict struct {
	denied error
	asked  time.Time
	// epoch is that of the checker when it was asked.
	epoch int64
}

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
	p.round = c.checker.Round(subject)
	for _, planned := range p.items {
		if !planned.attempted() {
			continue
		}
		err := p.memory.object(planned).verdict.denied
		if !c.stands(p, planned) {
			err = c.ask(ctx, p, planned)
		}
		if err != nil && isUnreachable(err) {
			return err
		}
		if err != nil && !p.deny(planned, err) {
			planned.retry = true
			planned.refuse(err)
		}
	}
	return nil
}

// stands reports whether the last verdict on a manifest counts still, as long as nothing is written.
func (c *Controller) stands(p *pass, planned *item) bool {
	last := p.memory.object(planned).verdict
	limit := permittedFor
	if last.denied != nil {
		limit = c.cfg.ExecutorRecheck / 2
	}
	return !p.full && last.epoch == c.checker.Epoch() && c.cfg.Clock.Since(last.asked) < limit
}

// ask asks whether the executor may apply a manifest, and remembers a yes or a no.
func (c *Controller) ask(ctx context.Context, p *pass, planned *item) error {
	known, said := p.memory.object(planned), verdict{asked: c.cfg.Clock.Now(), epoch: c.checker.Epoch()}
	err := p.round.Check(ctx, executor.Request{
		Resource: planned.object.Resource,
		Manifest: planned.manifest.Object,
		Verbs:    executor.Verbs(planned.options.Strategy.Type == workv1.UpdateStrategyTypeReadOnly, !planned.orphan),
	})
	if isDenied(err) {
		said.denied = err
	}
	known.verdict = verdict{} // without an answer it is asked for anew
	if err == nil || said.denied != nil {
		known.verdict = said
	}
	return err
}

func isDenied(err error) bool {
	var denied *executor.DeniedError
	return errors.As(err, &denied)
}

// deny refuses a manifest if err says that its executor lacks a right. Its object is looked at as long as that is allowed.
func (p *pass) deny(planned *item, err error) bool {
	var denied *executor.DeniedError
	if !errors.As(err, &denied) {
		return false
	}
	p.denied = true
	planned.watchedOnly = denied.MayRead()
	planned.refuse(err)
	return true
}

// look reads the object of a manifest that is not applied and may be read all the same.
func (c *Controller) look(ctx context.Context, planned *item) error {
	if !planned.watchedOnly {
		return nil
	}
	_, err := c.read(ctx, planned)
	return err
}
