// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/drift"
	"fairlead.dev/fairlead/agent/work/inventory"
)

// NoEviction is the least grace period that means never (MW-62): 100 years.
const NoEviction = 100 * 365 * 24 * time.Hour

// evictionKey is what the queue's names of AppliedManifestWorks begin with; no work's name has a slash.
const evictionKey = "evict/"

// sweepsPerGrace is how often, at least, all AppliedManifestWorks are looked at within the grace period.
const sweepsPerGrace = 4

// Eviction is an AppliedManifestWork of this agent whose work is not in the Source.
type Eviction struct {
	// UID is the AppliedManifestWork's.
	UID types.UID
	// Since is when the eviction began, Due when its grace period ends.
	Since, Due time.Time
	// Held says that the grace period is over and that objects are left which nobody else owns. They stay until a person
	// deletes the AppliedManifestWork.
	Held bool
}

// Evictions returns what waits for its eviction, by name of the AppliedManifestWork. It may be called at any time; the caller
// owns the map.
func (c *Controller) Evictions() map[string]Eviction {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.leftover)
}

// Sweep asks for a look at all AppliedManifestWorks. It does not wait for it.
func (c *Controller) Sweep() {
	select {
	case c.sweep <- struct{}{}:
	default:
	}
}

// sweepAll looks at all AppliedManifestWorks when asked to and every so often, until ctx ends.
func (c *Controller) sweepAll(ctx context.Context) error {
	for {
		if err := c.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Logger.WarnContext(ctx, "what has no work cannot be looked for; trying again later", "err", err)
		}
		timer := time.NewTimer(wait.Jitter(min(c.cfg.Resync, c.cfg.EvictionGrace/sweepsPerGrace), 0.2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-c.sweep:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// sweepOnce enqueues what may have to be evicted, or spared.
func (c *Controller) sweepOnce(ctx context.Context) error {
	works := c.works()
	return c.store.Each(ctx, func(applied *workv1.AppliedManifestWork) {
		if c.evictable(applied, works) || applied.Status.EvictionStartTime != nil {
			c.queue.Add(evictionKey + applied.Name)
		}
	})
}

// works are the names of all works that the Source has, also of those that cannot be read now.
func (c *Controller) works() map[string]bool {
	works := map[string]bool{}
	for _, name := range c.cfg.Source.Names() {
		works[name] = true
	}
	return works
}

// evictable reports whether an AppliedManifestWork is this agent's (MW-64) and of none of these works.
func (c *Controller) evictable(applied *workv1.AppliedManifestWork, works map[string]bool) bool {
	if applied.Spec.AgentID != c.cfg.AgentID {
		return false
	}
	return applied.Spec.HubHash != c.cfg.HubHash || !works[applied.Spec.ManifestWorkName]
}

// evictionOf returns since when a work that the Source has waits for its eviction; zero if it does not.
func (c *Controller) evictionOf(desired Desired) time.Time {
	if c.cfg.EvictionGrace >= NoEviction {
		return time.Time{}
	}
	return desired.Orphaned
}

// evict makes one pass over the AppliedManifestWork called name (MW-62, MW-68), and returns after what time another one is due.
// Nobody has proven that its work is gone: that the Source, or another hub, does not know the work is no proof. So what works of
// today have taken over is left to them, and what would be deleted waits for a person, who deletes the AppliedManifestWork.
func (c *Controller) evict(ctx context.Context, name string) (time.Duration, error) {
	applied, err := c.store.Named(ctx, name)
	switch {
	case apierrors.IsNotFound(err):
		c.evicted(name)
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("reading AppliedManifestWork %q: %w", name, err)
	case !c.cfg.InSync():
		return 0, nil // the hub may have what the Source lacks; what has begun goes on
	case !c.evictable(applied, c.works()):
		return 0, c.spare(ctx, applied)
	}
	watched := append(listed(applied), drift.Object{Resource: inventory.GVRAppliedManifestWork(), Name: name})
	c.watcher.Watch(evictionKey+name, watched)
	if applied.DeletionTimestamp != nil {
		_, gone, err := c.empty(ctx, &memory{}, applied, nil)
		if err != nil || !gone {
			return 0, cmp.Or(err, errAgain)
		}
		c.evicted(name)
		return 0, nil
	}
	if c.cfg.EvictionGrace >= NoEviction {
		return 0, nil
	}
	since := c.cfg.Clock.Now()
	if started := applied.Status.EvictionStartTime; started != nil {
		since = started.Time
	} else if applied, err = c.store.SetEviction(ctx, applied, since); err != nil {
		return 0, fmt.Errorf("writing when the eviction of %q began: %w", name, err)
	}
	eviction := Eviction{UID: applied.UID, Since: since, Due: since.Add(c.cfg.EvictionGrace)}
	if left := eviction.Due.Sub(c.cfg.Clock.Now()); left > 0 {
		c.noteEviction(ctx, applied, eviction)
		return left, nil
	}
	return c.yield(ctx, applied, eviction)
}

// spare ends the eviction of an AppliedManifestWork whose work is there again (MW-63). One of
// another agent stays as it is.
func (c *Controller) spare(ctx context.Context, applied *workv1.AppliedManifestWork) error {
	c.evicted(applied.Name)
	if applied.Spec.AgentID != c.cfg.AgentID || applied.Spec.HubHash != c.cfg.HubHash {
		return nil
	}
	desired, ok := c.cfg.Source.Get(applied.Spec.ManifestWorkName)
	if !ok || applied.DeletionTimestamp != nil {
		return nil
	}
	_, err := c.store.SetEviction(ctx, applied, c.evictionOf(desired))
	return err
}

// yield leaves to works of today what they have taken over, and takes the AppliedManifestWork away if that is all. A work applies
// before it lists what became of that: while one is between the two, another pass is due, as nothing else tells of its end. The
// work itself may come back at any moment: it is in the Source before it writes here, and what it wrote is not overwritten.
func (c *Controller) yield(ctx context.Context, applied *workv1.AppliedManifestWork, eviction Eviction) (again time.Duration, err error) {
	var left []inventory.Resource
	for _, entry := range applied.Status.AppliedResources {
		stays, err := c.remover.Yield(ctx, entry, applied.UID, func(ctx context.Context, ref metav1.OwnerReference, object types.UID) (bool, error) {
			inherits, soon, err := c.inherits(ctx, ref, entry, object)
			if soon {
				again = c.cfg.StatusSyncInterval
			}
			return inherits, err
		})
		if err != nil {
			return 0, err
		}
		if stays {
			left = append(left, entry)
		}
	}
	applied, err = c.store.SetUnchanged(ctx, applied, left)
	if err != nil {
		return 0, err
	}
	if !c.evictable(applied, c.works()) {
		return 0, c.spare(ctx, applied)
	}
	if len(left) > 0 {
		eviction.Held = true
		c.noteEviction(ctx, applied, eviction)
		return again, nil
	}
	gone, err := c.store.RemoveUnchanged(ctx, applied)
	if err != nil || !gone {
		return 0, cmp.Or(err, errAgain)
	}
	c.cfg.Logger.InfoContext(ctx, "evicted: all that it listed has another owner or is gone", "appliedManifestWork", applied.Name)
	c.evicted(applied.Name)
	return 0, nil
}

// inherits reports whether ref is to the AppliedManifestWork of a work of today that has applied the very object; soon, that it
// may once it has listed what it applied.
func (c *Controller) inherits(ctx context.Context, ref metav1.OwnerReference, entry inventory.Resource, object types.UID) (inherits, soon bool, err error) {
	heir, err := c.store.Named(ctx, ref.Name)
	if apierrors.IsNotFound(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	alive := heir.UID == ref.UID && heir.DeletionTimestamp == nil
	ours := heir.Spec.AgentID == c.cfg.AgentID && heir.Spec.HubHash == c.cfg.HubHash
	if !alive || !ours || !c.works()[heir.Spec.ManifestWorkName] {
		return false, false, nil
	}
	for _, theirs := range heir.Status.AppliedResources {
		if inventory.KeyOf(theirs) == inventory.KeyOf(entry) && types.UID(theirs.UID) == object {
			return true, false, nil
		}
	}
	return false, true, nil
}

// noteEviction keeps what is shown of an eviction, and logs what is new about it.
func (c *Controller) noteEviction(ctx context.Context, applied *workv1.AppliedManifestWork, eviction Eviction) {
	c.mu.Lock()
	before, known := c.leftover[applied.Name]
	c.leftover[applied.Name] = eviction
	c.mu.Unlock()
	if known && before.Held == eviction.Held {
		return
	}
	if before.Held != eviction.Held {
		c.cfg.HeldChanged()
	}
	log := c.cfg.Logger.With("appliedManifestWork", applied.Name, "work", applied.Spec.ManifestWorkName, "otherHub", applied.Spec.HubHash != c.cfg.HubHash)
	if eviction.Held {
		log.WarnContext(ctx, "eviction is held: only this AppliedManifestWork owns some of what it lists; delete it on the spoke to remove that too",
			"objects", len(applied.Status.AppliedResources))
		return
	}
	log.WarnContext(ctx, "eviction has begun: the hub has no such work", "due", eviction.Due)
}

// evicted forgets an eviction that is over.
func (c *Controller) evicted(name string) {
	c.watcher.Watch(evictionKey+name, nil)
	c.mu.Lock()
	held := c.leftover[name].Held
	delete(c.leftover, name)
	c.mu.Unlock()
	if held {
		c.cfg.HeldChanged()
	}
}
