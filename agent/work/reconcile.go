// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/apply"
	"fairlead.dev/fairlead/agent/work/condition"
	"fairlead.dev/fairlead/agent/work/drift"
	"fairlead.dev/fairlead/agent/work/executor"
	"fairlead.dev/fairlead/agent/work/inventory"
	"fairlead.dev/fairlead/agent/work/kinds"
)

// errAgain asks for another pass with backoff. What is wrong stands in the work's status already.
var errAgain = errors.New("something is left to be done")

// correctionEvery and correctionBurst bound how often one object is corrected whose manifest did not change: enough for hands,
// too little for a fight with a controller that wants the object otherwise.
const (
	correctionEvery = 30 * time.Second
	correctionBurst = 10
)

// memory is what the controller knows of a work from earlier passes. Only the pass over that work uses it.
type memory struct {
	// started is when the last pass began, waits that it found manifests of kinds that are not served; Controller.mu guards both.
	started time.Time
	waits   bool

	applied  *workv1.AppliedManifestWork
	status   *workv1.ManifestWorkStatus
	uid      types.UID // of the work that status is about
	reported [sha256.Size]byte
	resends  int64
	objects  map[inventory.Key]*remembered
	// turn is when its delete may begin.
	turn time.Time
	// full is when every object was last read.
	full time.Time
}

// remembered is what an earlier pass left of one object.
type remembered struct {
	hash    [sha256.Size]byte
	version string
	settled string
	uid     string
	// applied says that the manifest was applied at least once, good that the object was as it should be when last looked at;
	// outcome is what was found then.
	applied, good bool
	outcome       condition.Outcome
	corrections   *rate.Limiter
	contested     string // by whom, while corrections are rare
	// verdict is what became of asking about the executor.
	verdict verdict
}

// memory returns what is known of a work, for a pass that begins now.
func (c *Controller) memory(name string) *memory {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.memories[name]
	if !ok {
		m = &memory{objects: map[inventory.Key]*remembered{}}
		c.memories[name] = m
	}
	m.started = c.cfg.Clock.Now()
	return m
}

// forget drops all that is kept for a work that is gone.
func (c *Controller) forget(name string) {
	c.watcher.Watch(name, nil)
	c.checker.Use(name, false)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.memories, name)
}

// pass is one pass over one work that is not to be deleted.
type pass struct {
	desired Desired
	memory  *memory
	items   []*item
	full    bool
	// again says that something is left that a further pass may do; throttled that an object was corrected too often; denied
	// that the executor lacks a right.
	again, throttled, denied bool
	// round asks about the executor; nil if there is none.
	round *executor.Round
}

// reconcile makes one pass over a work and returns after what time another one is due.
func (c *Controller) reconcile(ctx context.Context, name string) (time.Duration, error) {
	desired, ok := c.cfg.Source.Get(name)
	if !ok {
		c.forget(name)
		return 0, nil
	}
	if desired.Delete == DeleteRequested || desired.Delete == DeleteOrphaned {
		return c.finalize(ctx, desired)
	}
	m := c.memory(name)
	m.turn = time.Time{}
	if m.complete(desired.Work.UID) {
		c.rest(desired, m)
		return 0, nil
	}
	items, err := c.plan(ctx, desired.Work)
	if err != nil {
		return 0, err
	}
	p := &pass{desired: desired, memory: m, items: items}
	p.full = c.cfg.Clock.Since(p.memory.full) >= c.cfg.Resync/2
	if workRefusal(desired.Work) == nil {
		switch err := c.converge(ctx, p); {
		case errors.Is(err, errComplete):
			c.rest(desired, m)
			return 0, nil
		case err != nil:
			return 0, err
		}
	}
	if err := c.publish(ctx, p); err != nil {
		return 0, err
	}
	if p.again {
		return 0, errAgain
	}
	return c.due(p), nil
}

// due returns when to look at a work again that is as it should be.
func (c *Controller) due(p *pass) time.Duration {
	if p.throttled {
		return correctionEvery
	}
	if p.denied {
		return c.cfg.ExecutorRecheck * 2 / 3 // what comes out is lengthened by up to half
	}
	for _, planned := range p.items {
		if planned.attempted() {
			if _, watched := c.watcher.Version(planned.object); !watched {
				return c.cfg.StatusSyncInterval
			}
		}
	}
	if p.desired.Work.Spec.Executor != nil {
		return min(c.cfg.Resync, permittedFor)
	}
	return c.cfg.Resync
}

// converge makes the spoke what the work says.
func (c *Controller) converge(ctx context.Context, p *pass) error {
	c.watch(p)
	if err := c.authorize(ctx, p); err != nil {
		return err
	}
	applied, err := c.applied(ctx, p.desired.Work, p.memory)
	if err == nil && applied.DeletionTimestamp != nil {
		// Somebody deleted the AppliedManifestWork: its objects go with it, and are applied anew in the next pass.
		if _, _, err := c.empty(ctx, p.memory, applied, p.desired.Work.Spec.DeleteOption); err != nil {
			return err
		}
		return errAgain
	}
	if err == nil {
		if err := p.memory.recall(applied, p.desired.Work.UID); err != nil {
			return err
		}
		applied, err = c.store.SetResources(ctx, applied, inventory.Merge(applied.Status.AppliedResources, toRecord(p)))
	}
	if err == nil {
		applied, err = c.store.SetEviction(ctx, applied, c.evictionOf(p.desired))
	}
	if err != nil {
		return p.unrecorded(err)
	}
	p.memory.applied = applied
	c.markComplete(p)
	for _, i := range kinds.Order(groupKinds(p.items)) {
		if err := c.applyItem(ctx, p, p.items[i]); err != nil {
			return err
		}
	}
	if p.full {
		p.memory.full = c.cfg.Clock.Now()
	}
	return c.prune(ctx, p)
}

// applied returns the AppliedManifestWork of a work, read again only if it changed.
func (c *Controller) applied(ctx context.Context, work *workv1.ManifestWork, m *memory) (*workv1.AppliedManifestWork, error) {
	if m.applied != nil {
		version, known := c.watcher.Version(c.inventoryObject(work.Name))
		if known && version == m.applied.ResourceVersion {
			return m.applied, nil
		}
	}
	return c.store.Ensure(ctx, work)
}

func (c *Controller) inventoryObject(work string) drift.Object {
	return drift.Object{Resource: inventory.GVRAppliedManifestWork(), Name: inventory.Name(c.cfg.HubHash, work)}
}

// watch makes the work hear of its objects and its inventory, and of definitions if it has manifests of kinds that are not served:
// the CustomResourceDefinition may come by another work, or by hand.
func (c *Controller) watch(p *pass) {
	objects := []drift.Object{c.inventoryObject(p.desired.Work.Name)}
	waits := false
	for _, planned := range p.items {
		if planned.resolved() {
			objects = append(objects, planned.object)
		}
		waits = waits || planned.retry
	}
	if waits {
		objects = append(objects, drift.Object{Resource: kinds.Definitions()})
	}
	c.watcher.Watch(p.desired.Work.Name, objects)
	c.mu.Lock()
	defer c.mu.Unlock()
	p.memory.waits = waits
}

// unrecorded refuses all manifests because the inventory cannot be written. An apiserver that cannot be reached is no news for
// the hub: the pass ends without a report.
func (p *pass) unrecorded(err error) error {
	if isUnreachable(err) {
		return err
	}
	for _, planned := range p.items {
		planned.refuse(fmt.Errorf("its AppliedManifestWork cannot be written: %w", err))
	}
	p.again = true
	return nil
}

// toRecord lists what the pass is about to apply.
func toRecord(p *pass) []inventory.Resource {
	var list []inventory.Resource
	for _, planned := range p.items {
		if planned.attempted() && planned.recorded() {
			list = append(list, planned.entry)
		}
	}
	return list
}

// applyItem applies one manifest and takes down what came of it. It returns an error only if the apiserver cannot be reached.
func (c *Controller) applyItem(ctx context.Context, p *pass, planned *item) error {
	p.again = p.again || planned.retry
	if !planned.attempted() {
		return c.look(ctx, planned)
	}
	known := p.memory.object(planned)
	if !p.full && c.unchanged(planned, known) {
		planned.reuse(known)
		return nil
	}
	if planned.complete {
		return c.leave(ctx, known, planned)
	}
	result, err := c.applier.Apply(ctx, c.request(p, planned, known))
	if err != nil && isUnreachable(err) {
		return err
	}
	if p.deny(planned, err) {
		known.good = false
		return c.look(ctx, planned)
	}
	if kinds.IsUnserved(err) {
		c.mapper.Forget()
	}
	c.watcher.Read(planned.object, versionOf(result.Live))
	c.log(ctx, p, planned, result, err)
	planned.takeDown(result, err)
	manager, _ := planned.options.manager()
	known.contest(result, manager, p.memory.applied.UID, c.cfg.Clock.Now())
	planned.outcome.Contested = known.contested
	c.observe(ctx, planned, result.Live)
	p.again = p.again || err != nil
	p.throttled = p.throttled || result.Action == apply.Held
	known.remember(planned, result, err)
	return nil
}

// object returns what is known of a manifest's object, nothing if the manifest is another one than before.
func (m *memory) object(planned *item) *remembered {
	key := inventory.KeyOf(planned.entry)
	known := m.objects[key]
	if known == nil || known.hash != planned.hash {
		known = &remembered{hash: planned.hash, corrections: rate.NewLimiter(rate.Every(correctionEvery), correctionBurst)}
		m.objects[key] = known
	}
	return known
}

// unchanged reports whether an object is the very one that an earlier pass left as it should be.
func (c *Controller) unchanged(planned *item, known *remembered) bool {
	version, watched := c.watcher.Version(planned.object)
	return known.good && watched && version == known.version && version != ""
}

func (c *Controller) request(p *pass, planned *item, known *remembered) apply.Request {
	manager, force := planned.options.manager()
	request := apply.Request{
		Manifest: planned.manifest,
		Resource: planned.object.Resource,
		Strategy: planned.options.Strategy.Type,
		Manager:  manager,
		Force:    force,
		Owner:    apply.OwnerReference(p.memory.applied.Name, p.memory.applied.UID),
		Orphan:   planned.orphan,
		Ignore:   planned.ignored,
		Settled:  known.settled,
	}
	if p.round != nil {
		request.Permit = func(ctx context.Context) error { return c.ask(ctx, p, planned) }
	}
	if known.applied {
		request.Correct = func() bool { return known.corrections.AllowN(c.cfg.Clock.Now(), 1) }
	}
	return request
}

// takeDown notes what came of applying the manifest.
func (i *item) takeDown(result apply.Result, err error) {
	i.fail(err)
	i.see(result, err)
}

// see notes what there is.
func (i *item) see(result apply.Result, err error) {
	switch {
	case result.Live != nil:
		i.outcome.Presence = condition.Present
		i.entry.UID = string(result.Live.GetUID())
	case result.Missing:
		i.outcome.Presence = condition.Absent
	default:
		i.outcome.Presence, i.outcome.Unread = condition.Unreadable, err
	}
}

func (r *remembered) remember(i *item, result apply.Result, err error) {
	r.good = err == nil && result.Action != apply.Held
	r.applied = r.applied || r.good
	r.version, r.uid = versionOf(result.Live), i.entry.UID
	if result.Live != nil {
		r.settled = result.Settled
	}
	r.outcome = i.outcome
}

// reuse takes the outcome of an earlier pass for one whose object did not change since.
func (i *item) reuse(known *remembered) {
	ordinal := i.outcome.Meta.Ordinal
	i.outcome = known.outcome
	i.outcome.Meta.Ordinal = ordinal
	i.entry.UID = known.uid
}

func versionOf(live *unstructured.Unstructured) string {
	if live == nil {
		return ""
	}
	return live.GetResourceVersion()
}

func (c *Controller) log(ctx context.Context, p *pass, planned *item, result apply.Result, err error) {
	if err != nil || result.Action == apply.Unchanged {
		return
	}
	c.cfg.Logger.InfoContext(ctx, "object "+string(result.Action), "work", p.desired.Work.Name, "resource",
		planned.object.Resource.GroupResource().String(), "namespace", planned.object.Namespace, "name", planned.object.Name, "field", result.Why)
}

// isUnreachable reports whether err says that no answer came from the apiserver.
func isUnreachable(err error) bool {
	var transport *url.Error
	return errors.As(err, &transport) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// prune takes away what is listed and not wanted any more, and writes the inventory as it is then.
func (c *Controller) prune(ctx context.Context, p *pass) error {
	wanted, unowned := p.wanted()
	listed := p.memory.applied.Status.AppliedResources
	keep := wanted
	for _, entry := range inventory.Without(listed, wanted) {
		if p.holds(entry) {
			keep = append(keep, entry)
			continue
		}
		_, readOnly := unowned[inventory.KeyOf(entry)]
		stays := readOnly || orphans(p.desired.Work.Spec.DeleteOption, inventory.KeyOf(entry))
		left, err := c.remover.Disown(ctx, entry, p.memory.applied.UID, stays)
		if err != nil {
			c.cfg.Logger.WarnContext(ctx, "what is not wanted any more cannot be removed yet", "work", p.desired.Work.Name, "err", err)
		}
		if left {
			keep = append(keep, entry)
			p.again = true
		}
	}
	applied, err := c.store.SetResources(ctx, p.memory.applied, inventory.Merge(nil, keep))
	if err != nil {
		p.memory.applied = nil
		return fmt.Errorf("writing the inventory: %w", err)
	}
	p.memory.applied = applied
	p.memory.trim(p.items)
	return nil
}

// wanted returns the entries of all manifests that belong into the inventory, and the keys of those that must not be in it.
func (p *pass) wanted() ([]inventory.Resource, map[inventory.Key]struct{}) {
	var wanted []inventory.Resource
	unowned := map[inventory.Key]struct{}{}
	listed := map[inventory.Key]inventory.Resource{}
	for _, entry := range p.memory.applied.Status.AppliedResources {
		listed[inventory.KeyOf(entry)] = entry
	}
	for _, planned := range p.items {
		key := inventory.KeyOf(planned.entry)
		before, was := listed[key]
		switch {
		case !planned.resolved():
		case !planned.recorded():
			unowned[key] = struct{}{}
		case planned.attempted():
			if planned.entry.UID == "" {
				planned.entry.UID = before.UID
			}
			wanted = append(wanted, planned.entry)
		case was && !slices.ContainsFunc(wanted, func(r inventory.Resource) bool { return inventory.KeyOf(r) == key }):
			wanted = append(wanted, before) // refused now, but applied earlier
		}
	}
	return wanted, unowned
}

// holds reports whether an entry that no manifest names must be kept for now: by order, or because it may be the object of a
// manifest that does not resolve.
func (p *pass) holds(entry inventory.Resource) bool {
	if p.desired.HoldPrune {
		return true
	}
	for _, planned := range p.items {
		meta := planned.outcome.Meta
		undecodable := meta.Kind == "" || meta.Name == ""
		same := meta.Group == entry.Group && meta.Name == entry.Name && (entry.Namespace == "" || entry.Namespace == meta.Namespace)
		if !planned.resolved() && (undecodable || same) {
			return true
		}
	}
	return false
}

// trim forgets objects that no manifest is about any more.
func (m *memory) trim(items []*item) {
	kept := make(map[inventory.Key]*remembered, len(items))
	for _, planned := range items {
		key := inventory.KeyOf(planned.entry)
		if known, ok := m.objects[key]; ok {
			kept[key] = known
		}
	}
	m.objects = kept
}
