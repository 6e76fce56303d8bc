// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/test/env"
)

func TestDelete(t *testing.T) {
	for name, test := range map[string]func(*bench){
		"MW-52_MW-60_all_before_the_work":        allBeforeTheWork,
		"MW-53_orphan":                           orphan,
		"MW-54_selectively_orphan":               selectivelyOrphan,
		"MW-55_orphan_taken_back":                orphanTakenBack,
		"MW-56_prune":                            prune,
		"MW-56_prune_spares_other_works":         pruneSparesOtherWorks,
		"MW-56_prune_spares_what_is_not_ours":    pruneSparesForeign,
		"MW-57_inventory":                        inventoryIsSorted,
		"MW-57_pending_finalizers":               pendingFinalizers,
		"MW-58_nothing_before_it_is_applied":     nothingBeforeApplied,
		"MW-59_deleting_condition":               deletingCondition,
		"MW-61_inventory_deleted_by_hand":        inventoryDeletedByHand,
		"MW-66_no_garbage_collector":             noGarbageCollector,
		"deletes_are_paced":                      deletesArePaced,
		"never_applied":                          neverApplied,
		"unknown_to_the_store":                   unknownToTheStore,
		"held_delete_and_held_prune":             held,
		"absent_from_the_store":                  absentFromTheStore,
		"kind_gone_with_its_objects":             kindGone,
		"B6_new_uid_adopts":                      newUIDAdopts,
		"B8_killed_between_record_and_inventory": killedBetween,
	} {
		t.Run(name, func(t *testing.T) { test(newBench(t)) })
	}
}

func allBeforeTheWork(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v"), configMap("b", "k: v"), webDeployment}))
	b.edit(configMaps, "b", "{metadata: {finalizers: [example.com/wait]}}")
	b.markDeleted(e, "web")
	b.waitGone(configMaps, "a")
	b.waitGone(deployments, "web")
	b.waitReport("web", func(r work.Report) bool {
		return !r.Finalized && deletingIs(r, "configmaps") && deletingIs(r, `it waits for its finalizers ["example.com/wait"]`)
	})
	require.True(t, b.exists(inventories, b.inventoryName("web")))
	require.False(t, b.report("web").Finalized)

	b.edit(configMaps, "b", "{metadata: {finalizers: null}}")
	r := b.waitReport("web", func(r work.Report) bool { return r.Finalized })
	require.Nil(t, r.Status)
	require.Equal(t, string(b.works["web"].Work.UID), r.UID)
	require.False(t, b.exists(configMaps, "b"))
	require.False(t, b.exists(inventories, b.inventoryName("web")))
}

// deletesArePaced has three works deleted where one may go each hour.
func deletesArePaced(b *bench) {
	t := b.t
	e := b.start(func(c *work.Config) { c.MaxDeleteRate = 1.0 / 3600 })
	for _, name := range []string{"one", "two", "three"} {
		b.apply(e, b.work(name, []string{configMap(name, "k: v")}))
	}
	b.remove(e, "one")
	for _, name := range []string{"two", "three"} {
		b.markDeleted(e, name)
		b.waitReport(name, func(r work.Report) bool { return deletingIs(r, "waiting for its turn: --max-delete-rate lets ") })
		require.True(t, b.exists(configMaps, name))
	}
	b.apply(e, b.work("two", []string{configMap("two", "k: new")}, generation(2)))
	b.waitField(configMaps, "two", "new", "data", "k")
	b.edit(configMaps, "three", "{metadata: {labels: {a: b}}}") // brings a pass about
	b.edit(configMaps, "two", "{data: {k: changed}}")
	b.waitField(configMaps, "two", "new", "data", "k")
	require.True(t, b.exists(configMaps, "three"))
}

func deletingIs(r work.Report, part string) bool {
	if r.Status == nil {
		return false
	}
	for _, c := range r.Status.Conditions {
		if c.Type == "Deleting" && c.Status == metav1.ConditionTrue && c.Reason == "WorkDeleting" {
			return part == "" || containsText(c.Message, part)
		}
	}
	return false
}

func orphan(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}))
	require.Len(t, b.get(configMaps, "a").GetOwnerReferences(), 1)
	orphaned := deleteOption(workv1.DeleteOption{PropagationPolicy: "Orphan"})
	b.apply(e, b.work("web", []string{configMap("a", "k: v"), configMap("b", "k: v")}, generation(2), orphaned))
	b.eventually(func() error {
		if refs := b.get(configMaps, "a").GetOwnerReferences(); len(refs) > 0 {
			return fmt.Errorf("owner references are %v", refs)
		}
		return nil
	})
	b.remove(e, "web")
	for _, name := range []string{"a", "b"} {
		require.Empty(t, b.get(configMaps, name).GetOwnerReferences())
	}
}

func selectivelyOrphan(b *bench) {
	t := b.t
	e := b.start()
	rules := []workv1.OrphaningRule{{Resource: "configmaps", Namespace: b.ns, Name: "kept"}, {Resource: "configmaps", Namespace: b.ns, Name: "kept-when-pruned"}}
	option := deleteOption(workv1.DeleteOption{PropagationPolicy: "SelectivelyOrphan", SelectivelyOrphan: &workv1.SelectivelyOrphan{OrphaningRules: rules}})
	b.apply(e, b.work("web", []string{configMap("kept", "k: v"), configMap("kept-when-pruned", "k: v"), configMap("goes", "k: v")}, option))
	b.apply(e, b.work("web", []string{configMap("kept", "k: v"), configMap("goes", "k: v")}, option, generation(2)))
	b.remove(e, "web")
	require.True(t, b.exists(configMaps, "kept"))
	require.True(t, b.exists(configMaps, "kept-when-pruned"))
	require.False(t, b.exists(configMaps, "goes"))
}

func orphanTakenBack(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}, deleteOption(workv1.DeleteOption{PropagationPolicy: "Orphan"})))
	require.Empty(t, b.get(configMaps, "a").GetOwnerReferences())
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}, generation(2)))
	require.Len(t, b.get(configMaps, "a").GetOwnerReferences(), 1)
	b.remove(e, "web")
	require.False(t, b.exists(configMaps, "a"))
}

func prune(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v"), configMap("b", "k: v"), configMap("c", "k: v")}))
	foreign := `{metadata: {ownerReferences: [
	  {apiVersion: v1, kind: ConfigMap, name: a, uid: %q}, {apiVersion: %s, kind: AppliedManifestWork, name: %s, uid: %s}]}}`
	applied := b.appliedWork("web")
	b.edit(configMaps, "c", fmt.Sprintf(foreign, b.get(configMaps, "a").GetUID(), "work.open-cluster-management.io/v1", applied.Name, applied.UID))

	before := b.get(configMaps, "a").GetUID()
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}, generation(2)))
	b.waitGone(configMaps, "b")
	b.waitGone(configMaps, "c")
	require.Equal(t, before, b.get(configMaps, "a").GetUID())
	require.Equal(t, []string{"configmaps/a"}, b.inventory("web"))
}

func pruneSparesOtherWorks(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("one", []string{configMap("shared", "k: v"), configMap("a", "k: v")}))
	b.apply(e, b.work("two", []string{configMap("shared", "k: v")}))
	uid := b.get(configMaps, "shared").GetUID()
	b.apply(e, b.work("one", []string{configMap("a", "k: v")}, generation(2)))
	b.eventually(func() error {
		if got := b.inventory("one"); len(got) != 1 {
			return fmt.Errorf("the inventory is %v", got)
		}
		return nil
	})
	got := b.get(configMaps, "shared")
	require.Equal(t, uid, got.GetUID())
	require.Len(t, got.GetOwnerReferences(), 1)
	require.Equal(t, b.inventoryName("two"), got.GetOwnerReferences()[0].Name)
}

// pruneSparesForeign prunes an object that was deleted and made anew by somebody else while the executor was away.
func pruneSparesForeign(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v"), configMap("b", "k: v")}))
	e.stop()
	b.delete(configMaps, "b")
	b.create("somebody", configMap("b", "k: theirs"))
	b.put(b.work("web", []string{configMap("a", "k: v")}, generation(2)))
	b.start()
	b.waitReport("web", func(r work.Report) bool { return r.ObservedGeneration == 2 })
	require.Equal(t, "theirs", field(b.get(configMaps, "b"), "data", "k"))
	require.Equal(t, []string{"configmaps/a"}, b.inventory("web"))
}

func inventoryIsSorted(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{webService, webDeployment, configMap("b", "k: v"), configMap("a", "k: v")}))
	applied := b.appliedWork("web")
	require.Equal(t, []string{"configmaps/a", "configmaps/b", "services/web", "deployments/web"}, b.inventory("web"))
	require.Equal(t, workv1.AppliedManifestResourceMeta{
		ResourceIdentifier: workv1.ResourceIdentifier{Group: "apps", Resource: "deployments", Namespace: b.ns, Name: "web"},
		Version:            "v1", UID: string(b.get(deployments, "web").GetUID()),
	}, applied.Status.AppliedResources[3])
}

func pendingFinalizers(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v"), configMap("b", "k: v")}))
	b.edit(configMaps, "b", "{metadata: {finalizers: [example.com/wait]}}")
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}, generation(2)))
	b.waitReport("web", func(r work.Report) bool { return r.ObservedGeneration == 2 })
	require.Equal(t, []string{"configmaps/a", "configmaps/b"}, b.inventory("web"))
	require.NotNil(t, b.get(configMaps, "b").GetDeletionTimestamp())
	b.edit(configMaps, "b", "{metadata: {finalizers: null}}")
	b.eventually(func() error {
		if got := b.inventory("web"); len(got) != 1 {
			return fmt.Errorf("the inventory is %v", got)
		}
		return nil
	})
}

// nothingBeforeApplied gives a new executor an inventory from earlier, and a work that it cannot apply yet.
func nothingBeforeApplied(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v"), configMap("old", "k: v")}))
	e.stop()
	refused := b.work("web", []string{configMap("a", "k: v")}, withUID("after-restore"))
	refused.Work.Spec.Executor = &workv1.ManifestWorkExecutor{}
	e = b.start()
	r := b.deliver(e, refused)
	require.Contains(t, cond(t, manifest(t, r, "a").Conditions, "Applied").Message, "spec.executor.subject.type")
	b.passes(e, "web", 3)
	require.True(t, b.exists(configMaps, "old"))
	require.Equal(t, []string{"configmaps/a", "configmaps/old"}, b.inventory("web"))

	b.apply(e, b.work("web", []string{configMap("a", "k: v")}, withUID("after-restore"), generation(2)))
	b.waitGone(configMaps, "old")
}

func deletingCondition(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}))
	b.edit(configMaps, "a", "{metadata: {finalizers: [example.com/wait]}}")
	b.markDeleted(e, "web")
	r := b.waitReport("web", func(r work.Report) bool { return deletingIs(r, "configmaps "+b.ns+"/a") })
	require.Equal(t, metav1.ConditionTrue, cond(t, r.Status.Conditions, "Applied").Status, "beside what was known before")
	require.Len(t, r.Status.ResourceStatus.Manifests, 1)
	b.edit(configMaps, "a", "{metadata: {finalizers: null}}")
	b.waitReport("web", func(r work.Report) bool { return r.Finalized })
}

func inventoryDeletedByHand(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}))
	before := b.appliedWork("web").UID
	b.delete(inventories, b.inventoryName("web"))
	b.eventually(func() error {
		obj, err := b.in(inventories).Get(t.Context(), b.inventoryName("web"), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if obj.GetUID() == before {
			return errors.New("it is still the old one")
		}
		return nil
	})
	b.eventually(func() error {
		obj, err := b.in(configMaps).Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if refs := obj.GetOwnerReferences(); len(refs) != 1 || refs[0].UID == before {
			return fmt.Errorf("owner references are %v", refs)
		}
		return nil
	})
}

func noGarbageCollector(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{webDeployment, webService, configMap("a", "k: v")}))
	b.remove(e, "web") // the plane has none
	for resource, name := range map[string]string{"deployments": "web", "services": "web", "configmaps": "a"} {
		require.NotContains(t, b.names(resource), name)
	}
}

func neverApplied(b *bench) {
	t := b.t
	e := b.start()
	desired := b.work("web", []string{configMap("a", "k: v")})
	desired.Delete = work.DeleteRequested
	b.put(desired)
	e.Enqueue("web")
	b.waitReport("web", func(r work.Report) bool { return r.Finalized })
	require.False(t, b.exists(configMaps, "a"))
}

// unknownToTheStore deletes a work of which the store knows nothing but name and UID, after the store was lost.
func unknownToTheStore(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}))
	e.stop()
	b.put(work.Desired{Work: &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "some-uid"}}, Delete: work.DeleteOrphaned})
	b.start()
	r := b.waitReport("web", func(r work.Report) bool { return r.Finalized })
	require.Equal(t, "some-uid", r.UID)
	require.False(t, b.exists(configMaps, "a"))
}

func held(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v"), configMap("b", "k: v")}))

	pruned := b.work("web", []string{configMap("a", "k: v")}, generation(2))
	pruned.HoldPrune = true
	b.apply(e, pruned)
	b.passes(e, "web", 2)
	require.True(t, b.exists(configMaps, "b"))
	require.Equal(t, []string{"configmaps/a", "configmaps/b"}, b.inventory("web"))

	pruned.Delete = work.DeleteHeld
	b.put(pruned)
	b.passes(e, "web", 2)
	b.edit(configMaps, "a", "{data: {k: changed}}")
	b.waitField(configMaps, "a", "v", "data", "k")

	pruned.Delete, pruned.HoldPrune = work.DeleteNone, false
	b.put(pruned)
	e.Enqueue("web")
	b.waitGone(configMaps, "b")
}

func absentFromTheStore(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: v")}))
	b.drop("web")
	e.Enqueue("web")
	b.apply(e, b.work("other", []string{configMap("b", "k: v")}))
	e.stop()
	b.start()
	require.True(t, b.exists(configMaps, "a"))
	require.True(t, b.exists(inventories, b.inventoryName("web")))
}

func kindGone(b *bench) {
	t := b.t
	e := b.start()
	group := b.ns + ".example.com"
	b.create("", gadgetCRD(group))
	b.apply(e, b.work("web", []string{gadget(group), configMap("a", "k: v")}))
	b.delete(crds, "gadgets."+group)
	b.waitGone(crds, "gadgets."+group)
	b.remove(e, "web")
	require.False(t, b.exists(configMaps, "a"))
}

// newUIDAdopts recreates a work with the same name while the executor is away: what the old one left is taken over, and what
// the new one does not want goes.
func newUIDAdopts(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("a", "k: old"), configMap("only-old", "k: v")}, withUID("old"), generation(7)))
	kept := b.get(configMaps, "a").GetUID()
	e.stop()
	b.put(b.work("web", []string{configMap("a", "k: new"), configMap("only-new", "k: v")}, withUID("new")))
	e = b.start()
	r := b.waitReport("web", func(r work.Report) bool { return r.UID == "new" && settled(r) })
	require.EqualValues(t, 1, r.ObservedGeneration)
	got := b.get(configMaps, "a")
	require.Equal(t, kept, got.GetUID())
	require.Equal(t, "new", field(got, "data", "k"))
	require.Len(t, got.GetOwnerReferences(), 1)
	require.False(t, b.exists(configMaps, "only-old"))
	require.True(t, b.exists(configMaps, "only-new"))
	b.remove(e, "web")
	require.Equal(t, "new", b.report("web").UID)
}

// killedBetween stops the executor after it applied an object and before it could write down its UID, and gives its successor a
// work that does not name the object any more.
func killedBetween(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind)
	name := b.inventoryName("web")
	apply := proxy.Inject(env.Fault{Match: env.Match{Resources: []string{"configmaps"}, Verbs: []string{"patch"}, Name: "a"}, Status: 500})
	b.put(b.work("web", []string{configMap("a", "k: v")}))
	e.Enqueue("web")
	b.eventually(func() error {
		if !b.exists(inventories, name) || len(b.inventory("web")) == 0 {
			return errors.New("the inventory is empty")
		}
		return nil
	})
	require.False(t, b.exists(configMaps, "a"), "listed before it is applied")
	proxy.Inject(env.Fault{Match: env.Match{Resources: []string{"appliedmanifestworks/status"}, Verbs: []string{"patch"}}, Status: 500})
	apply()
	b.eventually(func() error {
		if !b.exists(configMaps, "a") {
			return errors.New("it is not applied yet")
		}
		return nil
	})
	e.stop()
	require.Empty(t, b.appliedWork("web").Status.AppliedResources[0].UID)

	b.put(b.work("web", []string{configMap("c", "k: v")}, generation(2)))
	b.start()
	b.waitReport("web", func(r work.Report) bool { return r.ObservedGeneration == 2 && settled(r) })
	b.waitGone(configMaps, "a")
	require.Equal(t, []string{"configmaps/c"}, b.inventory("web"))
}
