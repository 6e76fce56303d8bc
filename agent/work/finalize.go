// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/condition"
	"fairlead.dev/fairlead/agent/work/drift"
	"fairlead.dev/fairlead/agent/work/inventory"
)

// named bounds how many resources a message names.
const named = 5

// finalize makes one pass over a work that is to be deleted: it takes away what is listed in the inventory, then the inventory,
// and then says that nothing is left.
func (c *Controller) finalize(ctx context.Context, desired Desired) (time.Duration, error) {
	name := desired.Work.Name
	m := c.memory(name)
	applied, err := c.store.Get(ctx, name)
	if apierrors.IsNotFound(err) {
		c.finalized(desired)
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the inventory: %w", err)
	}
	if wait := c.turn(m); wait > 0 {
		message := fmt.Sprintf("waiting for its turn: --max-delete-rate lets %g works a second go", c.cfg.MaxDeleteRate)
		c.report(desired, m, condition.Deleting(c.before(m, desired.Work.UID, nil), desired.Work.Generation, message, c.cfg.Clock.Now()))
		return wait, nil
	}
	c.watcher.Watch(name, append(listed(applied), c.inventoryObject(name)))
	m.applied = applied
	left, gone, err := c.empty(ctx, m, applied, desired.Work.Spec.DeleteOption)
	if gone {
		c.finalized(desired)
		return 0, nil
	}
	status := condition.Deleting(c.before(m, desired.Work.UID, nil), desired.Work.Generation, deletingMessage(left, err), c.cfg.Clock.Now())
	c.report(desired, m, status)
	if err != nil {
		return 0, err
	}
	return 0, errAgain
}

// turn says how long a delete has to wait until it may begin. Its place in the row is kept from its first pass on.
func (c *Controller) turn(m *memory) time.Duration {
	now := c.cfg.Clock.Now()
	if m.turn.IsZero() {
		m.turn = now.Add(c.deletes.ReserveN(now, 1).DelayFrom(now))
	}
	return m.turn.Sub(now)
}

// finalized reports that nothing of a work is left. It is reported each time: it is the last that is ever said of the work, and
// the store forgets the work when the hub has heard it.
func (c *Controller) finalized(desired Desired) {
	c.forget(desired.Work.Name)
	c.cfg.Reporter.Report(Report{
		Name: desired.Work.Name, UID: string(desired.Work.UID), ObservedGeneration: desired.Work.Generation,
		Digest: desired.Digest, Finalized: true,
	})
}

// empty takes away what is listed in an AppliedManifestWork, and that itself when nothing is left. It returns what is left, and
// whether the AppliedManifestWork is gone.
func (c *Controller) empty(ctx context.Context, m *memory, applied *workv1.AppliedManifestWork, option *workv1.DeleteOption) ([]inventory.Resource, bool, error) {
	var left []inventory.Resource
	var problems []error
	for _, entry := range applied.Status.AppliedResources {
		pending, err := c.remover.Disown(ctx, entry, applied.UID, orphans(option, inventory.KeyOf(entry)))
		if pending {
			left = append(left, entry)
		}
		problems = append(problems, err)
	}
	m.objects = map[inventory.Key]*remembered{}
	applied, err := c.store.SetResources(ctx, applied, left)
	if err != nil {
		m.applied = nil
		return left, false, errors.Join(append(problems, err)...)
	}
	m.applied = applied
	if len(left) > 0 {
		return left, false, errors.Join(problems...)
	}
	gone, err := c.store.Remove(ctx, applied)
	m.applied = nil
	return nil, gone, err
}

// listed returns the objects of an inventory, to be watched until they are gone.
func listed(applied *workv1.AppliedManifestWork) []drift.Object {
	var objects []drift.Object
	for _, entry := range applied.Status.AppliedResources {
		objects = append(objects, drift.Object{Resource: inventory.GVR(entry), Namespace: entry.Namespace, Name: entry.Name})
	}
	return objects
}

// deletingMessage names what a deletion waits for, and what keeps it.
func deletingMessage(left []inventory.Resource, problem error) string {
	var message strings.Builder
	if len(left) > 0 {
		fmt.Fprintf(&message, "waiting for %d resources to go:", len(left))
	} else {
		message.WriteString("waiting for the AppliedManifestWork to go, everything else is deleted")
	}
	for _, entry := range left[:min(len(left), named)] {
		fmt.Fprintf(&message, " %s %s/%s", entry.Resource, entry.Namespace, entry.Name)
	}
	if len(left) > named {
		message.WriteString(" ...")
	}
	if problem != nil {
		message.WriteString("; " + problem.Error())
	}
	return message.String()
}
