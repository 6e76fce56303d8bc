// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/test/env"
)

// long is a grace period that no test waits for: age has it be over.
const long = time.Hour

func TestEviction(t *testing.T) {
	for name, test := range map[string]func(*bench){
		"MW-62_work_is_missing":              evictMissing,
		"MW-62_orphan_shows_since_when":      orphanShowsSince,
		"MW-62_a_hundred_years":              evictNever,
		"MW-62_not_before_in_sync":           evictNotBeforeInSync,
		"MW-62_restart_keeps_the_time":       evictionSurvivesRestart,
		"MW-63_work_comes_back":              evictedComesBack,
		"MW-63_comes_back_as_it_ends":        comesBackAsItEnds,
		"MW-64_another_agent":                evictOtherAgent,
		"MW-68_hub_switch":                   hubSwitch,
		"MW-68_what_nobody_took_over_stays":  hubSwitchHolds,
		"MW-68_an_owner_that_is_gone":        hubSwitchDeadOwner,
		"MW-68_not_applied_by_the_new_owner": hubSwitchNotApplied,
	} {
		t.Run(name, func(t *testing.T) { test(newBench(t)) })
	}
}

// evicting has an agent with an id of the bench's own that is in sync.
func (b *bench) evicting(grace time.Duration) func(*work.Config) {
	return func(c *work.Config) {
		c.AgentID, c.EvictionGrace, c.InSync = b.ns, grace, func() bool { return true }
	}
}

// waitSpared waits until no eviction of the work is shown.
func (b *bench) waitSpared(e *executor, name string) {
	b.eventually(func() error {
		if found, ok := e.Evictions()[b.inventoryName(name)]; ok {
			return fmt.Errorf("its eviction is shown: %+v", found)
		}
		return nil
	})
}

// at returns a bench on the same spoke and namespace, of another hub.
func (b *bench) at(hub string) *bench {
	other := b.inNamespace(b.ns)
	other.hub, other.works, other.reports, other.counts = hub, map[string]work.Desired{}, map[string]work.Report{}, map[string]int{}
	return other
}

func (b *bench) started(name string) *metav1.Time {
	return b.appliedWork(name).Status.EvictionStartTime
}

// waitStarted waits until the eviction of a work's AppliedManifestWork has begun, or has not.
func (b *bench) waitStarted(name string, want bool) {
	b.t.Helper()
	b.eventually(func() error {
		if started := b.started(name); (started != nil) != want {
			return fmt.Errorf("evictionStartTime is %v", started)
		}
		return nil
	})
}

// age has the grace period of a work's AppliedManifestWork be over, once it has begun.
func (b *bench) age(e *executor, name string) {
	b.t.Helper()
	e.Sweep()
	b.waitStarted(name, true)
	b.startedAt(name, time.Now().Add(-2*long))
}

func (b *bench) startedAt(name string, since time.Time) {
	b.t.Helper()
	b.edit(inventories, b.inventoryName(name), fmt.Sprintf("{status: {evictionStartTime: %q}}", since.UTC().Format(time.RFC3339)), "status")
}

// waitHeld waits until the eviction is over its grace period and waits for a person.
func (b *bench) waitHeld(e *executor, name string) {
	b.t.Helper()
	b.eventually(func() error {
		e.Sweep()
		if eviction, ok := e.Evictions()[b.inventoryName(name)]; !ok || !eviction.Held {
			return fmt.Errorf("evictions are %v", e.Evictions())
		}
		return nil
	})
}

// swept waits until a sweep that began now is over: it shows an AppliedManifestWork that is there for that.
func (b *bench) swept(e *executor) {
	b.t.Helper()
	marker := b.at(b.hub + "0")
	name := fmt.Sprintf("marker-%d", time.Now().UnixNano())
	marker.inventoryOf(name, b.ns)
	b.eventually(func() error {
		e.Sweep()
		if _, ok := e.Evictions()[marker.inventoryName(name)]; !ok {
			return errors.New("no sweep yet")
		}
		return nil
	})
}

// inventoryOf makes an empty AppliedManifestWork by hand.
func (b *bench) inventoryOf(name, agentID string) {
	b.create("", fmt.Sprintf("{apiVersion: work.open-cluster-management.io/v1, kind: AppliedManifestWork, metadata: {name: %s}, "+
		"spec: {hubHash: %s, agentID: %s, manifestWorkName: %s}}", b.inventoryName(name), b.hub, agentID, name))
}

// evictMissing has a store that was lost, and a work that was deleted meanwhile: it waits for a person, who deletes it.
func evictMissing(b *bench) {
	t := b.t
	e := b.start(b.evicting(long))
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}))
	require.Nil(t, b.started("web"))
	b.drop("web")
	b.age(e, "web")
	b.waitHeld(e, "web")
	b.swept(e)
	require.True(t, b.exists(configMaps, "a"), "nobody has proven that the work is gone")
	b.delete(inventories, b.inventoryName("web"))
	b.waitGone(inventories, b.inventoryName("web"))
	require.False(t, b.exists(configMaps, "a"))
}

// orphanShowsSince has a work of which the hub has proven that it is gone.
func orphanShowsSince(b *bench) {
	t := b.t
	e := b.start(b.evicting(long))
	desired := b.work("web", []string{configMap("a", "k: v")})
	b.apply(e, desired)
	desired.Orphaned = time.Now().Add(-time.Minute)
	b.put(desired)
	e.Enqueue("web")
	b.waitStarted("web", true)
	require.Equal(t, desired.Orphaned.Unix(), b.started("web").Unix())
	b.edit(configMaps, "a", "{data: {k: changed}}")
	b.waitField(configMaps, "a", "v", "data", "k")

	desired.Orphaned = time.Time{}
	b.put(desired)
	e.Enqueue("web")
	b.waitStarted("web", false)

	desired.Orphaned, desired.Delete = time.Now(), work.DeleteOrphaned
	b.put(desired)
	e.Enqueue("web")
	b.waitReport("web", func(r work.Report) bool { return r.Finalized })
	require.False(t, b.exists(configMaps, "a"))
	require.False(t, b.exists(inventories, b.inventoryName("web")))
}

func evictNever(b *bench) {
	t := b.t
	e := b.start(b.evicting(work.NoEviction))
	desired := b.work("web", []string{configMap("a", "k: v")})
	desired.Orphaned = time.Now()
	b.apply(e, desired)
	require.Nil(t, b.started("web"))
	b.drop("web")
	e.stop()
	swept := b.start(b.evicting(work.NoEviction))
	b.inventoryOf("deleted", b.ns)
	b.edit(inventories, b.inventoryName("deleted"), "{metadata: {finalizers: ["+workv1.AppliedManifestWorkFinalizer+"]}}")
	b.delete(inventories, b.inventoryName("deleted"))
	swept.Sweep()
	b.waitGone(inventories, b.inventoryName("deleted"))
	require.Nil(t, b.started("web"))
	require.Empty(t, swept.Evictions())
}

// evictNotBeforeInSync has an agent that starts with an empty store and has not heard all that the hub has.
func evictNotBeforeInSync(b *bench) {
	t := b.t
	e := b.start(b.evicting(long))
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}))
	e.stop()
	b.drop("web")
	var inSync atomic.Bool
	var asked atomic.Int64
	looks := func() { // several passes are made that ask
		more := asked.Load() + 3
		b.eventually(func() error {
			e.Sweep()
			if n := asked.Load(); n < more {
				return fmt.Errorf("asked %d times, want %d", n, more)
			}
			return nil
		})
	}
	e = b.start(b.evicting(long), func(c *work.Config) {
		c.InSync = func() bool {
			asked.Add(1)
			return inSync.Load()
		}
	})
	looks()
	require.Nil(t, b.started("web"))
	require.Empty(t, e.Evictions())
	inSync.Store(true)
	e.Sweep()
	b.waitStarted("web", true)
	inSync.Store(false) // the hub goes away again: time alone does nothing
	b.startedAt("web", time.Now().Add(-2*long))
	looks()
	require.False(t, e.Evictions()[b.inventoryName("web")].Held)
	require.True(t, b.exists(configMaps, "a"))
}

func evictionSurvivesRestart(b *bench) {
	t := b.t
	e := b.start(b.evicting(long))
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}))
	b.drop("web")
	e.Sweep()
	b.waitStarted("web", true)
	e.stop()
	earlier := time.Now().Add(-long / 2).Truncate(time.Second)
	b.startedAt("web", earlier)
	e = b.start(b.evicting(long))
	b.swept(e)
	require.Equal(t, earlier.Unix(), b.started("web").Unix())
	require.Equal(t, earlier.Add(long).Unix(), e.Evictions()[b.inventoryName("web")].Due.Unix())
}

func evictedComesBack(b *bench) {
	t := b.t
	e := b.start(b.evicting(long))
	desired := b.work("web", []string{configMap("a", "k: v")})
	b.apply(e, desired)
	uid := b.appliedWork("web").UID
	b.drop("web")
	e.Sweep()
	b.waitStarted("web", true)
	b.apply(e, desired)
	b.waitStarted("web", false)
	b.swept(e)
	b.waitSpared(e, "web")
	require.Equal(t, uid, b.appliedWork("web").UID)
}

// comesBackAsItEnds has a work that owns nothing any more, and whose eviction is over: while its empty list is on the way, it is
// applied again, and keeps what it has.
func comesBackAsItEnds(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind, b.evicting(long))
	desired := b.work("web", []string{configMap("a", "k: v")})
	b.apply(e, desired)
	uid := b.appliedWork("web").UID
	b.drop("web")
	e.Sweep()
	b.waitStarted("web", true)
	b.delete(configMaps, "a")
	list := env.Match{Resources: []string{"appliedmanifestworks/status"}, Verbs: []string{"patch"}, Name: b.inventoryName("web")}
	look := env.Match{Resources: []string{"configmaps"}, Verbs: []string{"get"}, Name: "a"} // the last it does before
	before := proxy.Count(look)
	proxy.Inject(env.Fault{Match: list, Delay: 3 * time.Second, Times: 1})
	b.age(e, "web")
	b.eventually(func() error {
		if proxy.Count(look) == before {
			return errors.New("nobody has looked what it owns")
		}
		return nil
	})
	b.apply(e, desired)
	b.waitSpared(e, "web")
	b.swept(e)
	require.Equal(t, uid, b.appliedWork("web").UID)
	require.Equal(t, []string{"configmaps/a"}, b.inventory("web"))
	require.True(t, b.exists(configMaps, "a"))
}

func evictOtherAgent(b *bench) {
	t := b.t
	old := b.at(b.hub + "1")
	theirs := old.start(old.evicting(long), func(c *work.Config) { c.AgentID = "another" })
	old.apply(theirs, old.work("web", []string{configMap("a", "k: v")}))
	theirs.stop()
	e := b.start(b.evicting(long))
	b.swept(e)
	require.Nil(t, old.started("web"))
	old.delete(inventories, old.inventoryName("web"))
	b.swept(e)
	require.True(t, b.exists(configMaps, "a"))
	require.True(t, b.exists(inventories, old.inventoryName("web")))
	old.edit(inventories, old.inventoryName("web"), "{metadata: {finalizers: null}}")
}

// hubSwitch has the same works come from another hub.
func hubSwitch(b *bench) {
	t := b.t
	old := b.at(b.hub + "1")
	before := old.start(old.evicting(long))
	manifests := []string{configMap("a", "k: v"), configMap("b", "k: v")}
	old.apply(before, old.work("web", manifests))
	before.stop()
	uid := b.get(configMaps, "a").GetUID()

	e := b.start(b.evicting(long))
	b.apply(e, b.work("web", manifests))
	e.Sweep()
	old.waitStarted("web", true)
	b.swept(e)
	require.Len(t, b.get(configMaps, "a").GetOwnerReferences(), 2, "not before the grace period is over")
	old.age(e, "web")
	b.waitGone(inventories, old.inventoryName("web"))
	for _, name := range []string{"a", "b"} {
		refs := b.get(configMaps, name).GetOwnerReferences()
		require.Len(t, refs, 1)
		require.Equal(t, b.inventoryName("web"), refs[0].Name)
	}
	require.Equal(t, uid, b.get(configMaps, "a").GetUID())
	old.waitSpared(e, "web")
	b.remove(e, "web")
	require.False(t, b.exists(configMaps, "a"))
}

// hubSwitchHolds has a new hub whose work names only one of two objects. The other one is a person's to remove.
func hubSwitchHolds(b *bench) {
	t := b.t
	old := b.at(b.hub + "1")
	before := old.start(old.evicting(long))
	old.apply(before, old.work("web", []string{configMap("a", "k: v"), configMap("b", "k: v")}))
	before.stop()

	e := b.start(b.evicting(long))
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}))
	old.age(e, "web")
	old.waitHeld(e, "web")
	require.Equal(t, []string{"configmaps/b"}, old.inventory("web"))
	require.Len(t, b.get(configMaps, "a").GetOwnerReferences(), 1)
	require.True(t, b.exists(configMaps, "b"))

	b.apply(e, b.work("more", []string{configMap("b", "k: v")})) // the new hub takes it over after all
	b.waitGone(inventories, old.inventoryName("web"))
	require.Len(t, b.get(configMaps, "b").GetOwnerReferences(), 1)
}

// hubSwitchDeadOwner has an object whose other owner is not there any more; one of the same name that lists it is.
func hubSwitchDeadOwner(b *bench) {
	t := b.t
	old, e := b.coOwned("gone", string(b.objectOfOld().GetUID()))
	old.age(e, "web")
	old.waitHeld(e, "web")
	require.Len(t, b.get(configMaps, "a").GetOwnerReferences(), 2)
}

// hubSwitchNotApplied has a new work that lists an object and has not applied it (MW-58).
func hubSwitchNotApplied(b *bench) {
	t := b.t
	b.objectOfOld()
	old, e := b.coOwned("", "")
	old.age(e, "web")
	old.waitHeld(e, "web")
	require.Len(t, b.get(configMaps, "a").GetOwnerReferences(), 2)
}

// objectOfOld has a work of an earlier hub apply ConfigMap a, and returns that.
func (b *bench) objectOfOld() *unstructured.Unstructured {
	old := b.at(b.hub + "1")
	before := old.start(old.evicting(long))
	old.apply(before, old.work("web", []string{configMap("a", "k: v")}))
	before.stop()
	return b.get(configMaps, "a")
}

// coOwned has an AppliedManifestWork of today made by hand that lists ConfigMap a with the UID listed. Its own UID in the owner
// reference is owner, the right one if that is empty. No pass is made over its work.
func (b *bench) coOwned(owner, listed string) (old *bench, e *executor) {
	old = b.at(b.hub + "1")
	own := old.appliedWork("web")
	b.inventoryOf("web", b.ns)
	if owner == "" {
		owner = string(b.appliedWork("web").UID)
	}
	b.edit(inventories, b.inventoryName("web"), fmt.Sprintf(
		"{status: {appliedResources: [{version: v1, resource: configmaps, namespace: %s, name: a, uid: %q}]}}", b.ns, listed), "status")
	b.edit(configMaps, "a", fmt.Sprintf(`{metadata: {ownerReferences: [{apiVersion: work.open-cluster-management.io/v1, kind: AppliedManifestWork, name: %s, uid: %s},
	  {apiVersion: work.open-cluster-management.io/v1, kind: AppliedManifestWork, name: %s, uid: %s}]}}`, own.Name, own.UID, b.inventoryName("web"), owner))
	e = b.start(b.evicting(long), func(c *work.Config) { c.Source = unread{b} })
	return old, e
}

// unread is a store whose one work cannot be read: it is there, and no pass is made over it.
type unread struct{ *bench }

func (unread) Names() []string { return []string{"web"} }
