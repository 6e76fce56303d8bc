// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work"
)

func TestStrategy(t *testing.T) {
	for name, test := range map[string]func(*bench){
		"MW-28_create_only":              createOnly,
		"MW-29_server_side_apply":        serverSideApply,
		"MW-30_two_managers":             twoManagers,
		"MW-35_read_only":                readOnly,
		"MW-35_made_read_only_later":     madeReadOnly,
		"MW-36_wildcards":                wildcards,
		"MW-37_first_config_that_has_it": firstConfig,
		"refused_and_not_touched":        refused,
		"unknown_rules_are_shown":        unknownRules,
	} {
		t.Run(name, func(t *testing.T) { test(newBench(t)) })
	}
}

// strategy makes a config for one resource of the bench's namespace.
func (b *bench) strategy(resource schema.GroupVersionResource, name string, strategy workv1.UpdateStrategy) workv1.ManifestConfigOption {
	config := b.rule(resource, name)
	config.UpdateStrategy = &strategy
	return config
}

func (b *bench) ssa(name, manager string, force bool) workv1.ManifestConfigOption {
	return b.strategy(configMaps, name, workv1.UpdateStrategy{
		Type: workv1.UpdateStrategyTypeServerSideApply, ServerSideApply: &workv1.ServerSideApplyConfig{FieldManager: manager, Force: force},
	})
}

func createOnly(b *bench) {
	t := b.t
	e := b.start()
	only := withConfig(b.strategy(configMaps, "*", workv1.UpdateStrategy{Type: workv1.UpdateStrategyTypeCreateOnly}))
	b.create("somebody", configMap("there", "k: theirs"))
	b.apply(e, b.work("web", []string{configMap("new", "k: v"), configMap("there", "k: v")}, only))
	require.Equal(t, "v", field(b.get(configMaps, "new"), "data", "k"))
	require.Equal(t, "theirs", field(b.get(configMaps, "there"), "data", "k"))
	for _, name := range []string{"new", "there"} {
		require.Len(t, b.get(configMaps, name).GetOwnerReferences(), 1)
	}

	b.edit(configMaps, "new", "{data: {k: edited}}")
	b.apply(e, b.work("web", []string{configMap("new", "k: w"), configMap("there", "k: w")}, only, generation(2)))
	b.edit(configMaps, "new", "{metadata: {ownerReferences: []}}")
	b.eventually(func() error {
		if refs := b.get(configMaps, "new").GetOwnerReferences(); len(refs) != 1 {
			return fmt.Errorf("owner references are %v", refs)
		}
		return nil
	})
	require.Equal(t, "edited", field(b.get(configMaps, "new"), "data", "k"))
	b.delete(configMaps, "new")
	b.waitField(configMaps, "new", "w", "data", "k")
	b.remove(e, "web")
	require.False(t, b.exists(configMaps, "there"))
}

func serverSideApply(b *bench) {
	t := b.t
	e := b.start()
	b.create("somebody", configMap("c", "k: theirs, other: theirs"))
	r := b.deliver(e, b.work("web", []string{configMap("c", "k: ours")}, withConfig(b.ssa("c", "", false))))
	c := cond(t, manifest(t, r, "c").Conditions, "Applied")
	require.Contains(t, words(c), "False AppliedManifestFailed")
	require.Contains(t, c.Message, "conflict")
	require.Contains(t, c.Message, "somebody")
	require.Equal(t, "theirs", field(b.get(configMaps, "c"), "data", "k"))

	b.apply(e, b.work("web", []string{configMap("c", "k: ours")}, withConfig(b.ssa("c", "work-agent-web", true)), generation(2)))
	got := b.get(configMaps, "c")
	require.Equal(t, map[string]any{"k": "ours", "other": "theirs"}, field(got, "data"))
	require.Contains(t, managers(got), "work-agent-web")

	r = b.deliver(e, b.work("web", []string{configMap("c", "k: ours")}, withConfig(b.ssa("c", "mine", true)), generation(3)))
	require.Contains(t, cond(t, manifest(t, r, "c").Conditions, "Applied").Message, `must start with "work-agent"`)
}

func managers(obj metav1.Object) []string {
	var names []string
	for _, entry := range obj.GetManagedFields() {
		names = append(names, entry.Manager)
	}
	return names
}

func twoManagers(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("one", []string{configMap("c", "a: one")}, withConfig(b.ssa("c", "work-agent-1", false))))
	b.apply(e, b.work("two", []string{configMap("c", "b: two")}, withConfig(b.ssa("c", "work-agent-2", false))))
	b.passes(e, "one", 2)
	got := b.get(configMaps, "c")
	require.Equal(t, map[string]any{"a": "one", "b": "two"}, field(got, "data"))
	require.Len(t, got.GetOwnerReferences(), 2)
	b.remove(e, "one")
	require.Len(t, b.get(configMaps, "c").GetOwnerReferences(), 1)
	b.passes(e, "two", 2)
	require.Len(t, b.get(configMaps, "c").GetOwnerReferences(), 1)
}

func readOnly(b *bench) {
	t := b.t
	e := b.start()
	config := b.strategy(configMaps, "c", workv1.UpdateStrategy{Type: workv1.UpdateStrategyTypeReadOnly})
	config.FeedbackRules = []workv1.FeedbackRule{paths(workv1.JsonPath{Name: "k", Path: ".data.k"})}
	desired := b.work("web", []string{configMap("c", "k: ours"), configMap("d", "k: v")}, withConfig(config))
	r := b.deliver(e, desired)
	m := manifest(t, r, "c")
	require.Equal(t, metav1.ConditionFalse, cond(t, m.Conditions, "Applied").Status)
	require.Equal(t, metav1.ConditionFalse, cond(t, m.Conditions, "Available").Status)

	made := b.create("somebody", configMap("c", "k: theirs"))
	r = b.waitReport("web", settled)
	require.Equal(t, []string{"k=theirs"}, values(manifest(t, r, "c")))
	b.edit(configMaps, "c", "{data: {k: changed}}")
	b.waitReport("web", func(r work.Report) bool { return fmt.Sprint(values(manifest(t, r, "c"))) == "[k=changed]" })
	require.Equal(t, []string{"configmaps/d"}, b.inventory("web"))
	b.remove(e, "web")
	got := b.get(configMaps, "c")
	require.Equal(t, made.GetUID(), got.GetUID())
	require.Empty(t, got.GetOwnerReferences())
}

func madeReadOnly(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}))
	config := b.strategy(configMaps, "c", workv1.UpdateStrategy{Type: workv1.UpdateStrategyTypeReadOnly})
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}, withConfig(config), generation(2)))
	b.waitReport("web", func(r work.Report) bool { return r.ObservedGeneration == 2 })
	require.Empty(t, b.inventory("web"))
	b.remove(e, "web")
	require.Empty(t, b.get(configMaps, "c").GetOwnerReferences())
}

func wildcards(b *bench) {
	t := b.t
	e := b.start()
	rule := b.rule(configMaps, "app-*", paths(workv1.JsonPath{Name: "k", Path: ".data.k"}))
	rule.ResourceIdentifier.Namespace = b.ns[:len(b.ns)-3] + "*"
	other := b.rule(secrets, "*", wellKnown)
	r := b.apply(e, b.work("web", []string{configMap("app-1", "k: one"), configMap("app-2", "k: two"), configMap("db", "k: nope")}, withConfig(rule, other)))
	require.Equal(t, []string{"k=one"}, values(manifest(t, r, "app-1")))
	require.Equal(t, []string{"k=two"}, values(manifest(t, r, "app-2")))
	require.Empty(t, values(manifest(t, r, "db")))
	require.Equal(t, "NoStatusFeedbackSynced", cond(t, manifest(t, r, "db").Conditions, "StatusFeedbackSynced").Reason)
}

func firstConfig(b *bench) {
	t := b.t
	e := b.start()
	rules := b.rule(configMaps, "*", paths(workv1.JsonPath{Name: "first", Path: ".data.k"}))
	strategy := b.strategy(configMaps, "c", workv1.UpdateStrategy{Type: workv1.UpdateStrategyTypeCreateOnly})
	strategy.FeedbackRules = []workv1.FeedbackRule{paths(workv1.JsonPath{Name: "second", Path: ".data.k"})}
	late := b.strategy(configMaps, "*", workv1.UpdateStrategy{Type: workv1.UpdateStrategyTypeReadOnly})
	r := b.apply(e, b.work("web", []string{configMap("c", "k: v")}, withConfig(rules, strategy, late)))
	require.Equal(t, []string{"first=v"}, values(manifest(t, r, "c")))
	b.apply(e, b.work("web", []string{configMap("c", "k: w")}, withConfig(rules, strategy, late), generation(2)))
	require.Equal(t, "v", field(b.get(configMaps, "c"), "data", "k"), "created, hence not read only; not updated, hence create only")
}

func refused(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("c", "k: v"), configMap("d", "k: v")}))
	cases := []struct {
		want string
		how  option
	}{
		{`updateStrategy "Magic" is not supported`, withConfig(b.strategy(configMaps, "c", workv1.UpdateStrategy{Type: "Magic"}))},
		{`conditionRules: "no type" is no valid type of a condition`, withConfig(b.conditionRules(configMaps, "c", celRule("no type", "true")))},
	}
	for i, tc := range cases {
		r := b.deliver(e, b.work("web", []string{configMap("c", "k: changed"), configMap("d", fmt.Sprintf("k: v%d", i))}, tc.how, generation(int64(i+2))))
		c := cond(t, manifest(t, r, "c").Conditions, "Applied")
		require.Contains(t, words(c), "False AppliedManifestFailed Failed to apply manifest: ")
		require.Contains(t, c.Message, tc.want)
		require.Equal(t, "v", field(b.get(configMaps, "c"), "data", "k"), "not touched")
		require.Equal(t, fmt.Sprintf("v%d", i), field(b.get(configMaps, "d"), "data", "k"), "the others are applied")
		require.Equal(t, []string{"configmaps/c", "configmaps/d"}, b.inventory("web"))
	}

	r := b.deliver(e, b.work("other", []string{configMap("new", "k: v")}, deleteOption(workv1.DeleteOption{PropagationPolicy: "Later"})))
	require.Contains(t, cond(t, manifest(t, r, "new").Conditions, "Applied").Message, `propagationPolicy "Later" is not supported`)
	require.False(t, b.exists(configMaps, "new"))
	b.remove(e, "other")
}

func unknownRules(b *bench) {
	t := b.t
	e := b.start()
	r := b.apply(e, b.work("web", []string{configMap("c", "k: v")}, withConfig(b.conditionRules(configMaps, "c", workv1.ConditionRule{Condition: "Ready", Type: "Magic"}))))
	require.Equal(t, `Unknown ConditionRuleInvalid conditionRules of type "Magic" are not supported by this agent`,
		words(cond(t, manifest(t, r, "c").Conditions, "Ready")))
	require.Len(t, manifest(t, r, "c").Conditions, 4)
}
