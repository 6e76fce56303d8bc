// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/test/env"
)

func TestIgnoreFields(t *testing.T) {
	for name, test := range map[string]func(*bench){
		"MW-31_on_spoke_present":                 onSpokePresent,
		"MW-31_on_spoke_present_is_the_default":  presentByDefault,
		"MW-31_on_spoke_change":                  onSpokeChange,
		"MW-31_on_spoke_change_without_force":    onSpokeChangeConflict,
		"MW-31_three_languages":                  threeLanguages,
		"MW-31_an_object_that_was_there":         ignoredOnForeign,
		"MW-31_a_field_that_must_be_there":       ignoredRequired,
		"MW-31_rule_taken_back":                  ruleTakenBack,
		"MW-31_part_of_one_value":                partOfOneValue,
		"MW-31_others_may_apply_what_is_ignored": othersMayApply,
		"MW-32_creation_sends_everything":        creationSendsAll,
		"MW-33_bad_rules":                        badRules,
		"MW-34_config_spec_hash":                 configSpecHash,
	} {
		t.Run(name, func(t *testing.T) { test(newBench(t)) })
	}
}

const specHash = "open-cluster-management.io/config-spec-hash"

// ignoring makes a config that applies an object server-side and ignores some of it.
func (b *bench) ignoring(resource schema.GroupVersionResource, name string, force bool, rules ...workv1.IgnoreField) option {
	return withConfig(b.strategy(resource, name, workv1.UpdateStrategy{
		Type: workv1.UpdateStrategyTypeServerSideApply, ServerSideApply: &workv1.ServerSideApplyConfig{Force: force, IgnoreFields: rules},
	}))
}

func present(paths ...string) workv1.IgnoreField {
	return workv1.IgnoreField{Condition: workv1.IgnoreFieldsConditionOnSpokePresent, JSONPaths: paths}
}

func unlessChanged(paths ...string) workv1.IgnoreField {
	return workv1.IgnoreField{Condition: workv1.IgnoreFieldsConditionOnSpokeChange, JSONPaths: paths}
}

// serverSide applies YAML by hand as manager, without force.
func (b *bench) serverSide(resource schema.GroupVersionResource, name, manager, text string) error {
	raw, err := yaml.YAMLToJSON([]byte(b.local(text)))
	require.NoError(b.t, err)
	_, err = b.in(resource).Patch(b.t.Context(), name, types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: manager})
	return err
}

// image returns the image of the n-th container of a deployment.
func image(t *testing.T, b *bench, n int) string {
	t.Helper()
	containers, _ := field(b.get(deployments, "web"), "spec", "template", "spec", "containers").([]any)
	require.Greater(t, len(containers), n)
	return containers[n].(map[string]any)["image"].(string)
}

func onSpokePresent(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind, func(c *work.Config) { c.Resync = time.Millisecond })
	how := b.ignoring(deployments, "web", true, present(".spec.replicas"))
	b.apply(e, b.work("web", []string{webDeployment}, how))
	b.passes(e, "web", 2)
	require.Equal(t, int64(2), field(b.get(deployments, "web"), "spec", "replicas"), "what is not sent any more is not taken away")

	b.edit(deployments, "web", "{spec: {replicas: 5}}")
	made := b.get(deployments, "web")
	proxy.ResetCounts()
	b.passes(e, "web", 4)
	require.Zero(t, proxy.Count(writes()), "it is no drift, and nobody fights over it: %v", proxy.Calls())

	b.edit(deployments, "web", "{spec: {paused: true}}")
	b.waitField(deployments, "web", nil, "spec", "paused") // the apiserver leaves a false out
	require.Equal(t, int64(5), field(b.get(deployments, "web"), "spec", "replicas"), "the rest is corrected")

	changed := strings.NewReplacer("replicas: 2", "replicas: 7", "web:1", "web:2").Replace(webDeployment)
	b.apply(e, b.work("web", []string{changed}, how, generation(2)))
	got := b.get(deployments, "web")
	require.Equal(t, int64(5), field(got, "spec", "replicas"), "not even when the hub changes it")
	require.Equal(t, "registry.example/web:2", image(t, b, 0))
	require.Equal(t, made.GetUID(), got.GetUID())
	b.delete(deployments, "web")
	b.waitField(deployments, "web", int64(7), "spec", "replicas")
}

// presentByDefault leaves the condition out, and what nobody ever touched on the spoke.
func presentByDefault(b *bench) {
	t := b.t
	e := b.start()
	how := b.ignoring(configMaps, "c", false, workv1.IgnoreField{JSONPaths: []string{".data.k"}})
	b.apply(e, b.work("web", []string{configMap("c", "k: one, other: one")}, how))
	b.apply(e, b.work("web", []string{configMap("c", "k: two, other: two")}, how, generation(2)))
	require.Equal(t, map[string]any{"k": "one", "other": "two"}, field(b.get(configMaps, "c"), "data"))
}

func onSpokeChange(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind, func(c *work.Config) { c.Resync = time.Millisecond })
	how := b.ignoring(configMaps, "c", true, unlessChanged(".data.k"))
	b.apply(e, b.work("web", []string{configMap("c", "k: ours, other: one")}, how))
	for i := range 2 {
		b.edit(configMaps, "c", "{data: {k: theirs}}")
		proxy.ResetCounts()
		b.passes(e, "web", 3)
		require.Zero(t, proxy.Count(writes()), "%v", proxy.Calls())
		require.Equal(t, "theirs", field(b.get(configMaps, "c"), "data", "k"))

		changed := configMap("c", fmt.Sprintf("k: ours, other: two%d", i))
		b.apply(e, b.work("web", []string{changed}, how, generation(int64(i+2))))
		want := map[string]any{"k": "ours", "other": fmt.Sprintf("two%d", i)}
		require.Equal(t, want, field(b.get(configMaps, "c"), "data"), "a change on the hub is sent whole")
	}
	e.stop()
	b.edit(configMaps, "c", "{data: {k: theirs}}")
	proxy.ResetCounts()
	e = b.start(behind)
	b.passes(e, "web", 2)
	require.Zero(t, proxy.Count(writes()), "a restart is no change on the hub: %v", proxy.Calls())
}

func onSpokeChangeConflict(b *bench) {
	t := b.t
	e := b.start()
	how := b.ignoring(configMaps, "c", false, unlessChanged(".data.k"))
	b.apply(e, b.work("web", []string{configMap("c", "k: ours, other: one")}, how))
	b.edit(configMaps, "c", "{data: {k: theirs}}")
	b.passes(e, "web", 2)

	r := b.deliver(e, b.work("web", []string{configMap("c", "k: ours, other: two")}, how, generation(2)))
	c := cond(t, manifest(t, r, "c").Conditions, "Applied")
	require.Contains(t, words(c), "False AppliedManifestFailed")
	require.Contains(t, c.Message, `conflict with "somebody"`)
	require.Equal(t, map[string]any{"k": "theirs", "other": "one"}, field(b.get(configMaps, "c"), "data"))
	b.edit(configMaps, "c", "{data: {k: null}}")
	b.waitField(configMaps, "c", "ours", "data", "k")
}

func threeLanguages(b *bench) {
	t := b.t
	two := strings.Replace(webDeployment, "resources: {requests", "resources: {limits: {cpu: 2}, requests", 1)
	two = strings.Replace(two, "      - name: web\n", "      - {name: side, image: \"registry.example/side:1\"}\n      - name: web\n", 1)
	e := b.start()
	how := b.ignoring(deployments, "web", true, workv1.IgnoreField{
		Condition:         workv1.IgnoreFieldsConditionOnSpokePresent,
		JSONPaths:         []string{`.spec.template.spec.containers[?(@.name=="side")].image`},
		JSONPointers:      []string{"/spec/replicas", "/metadata/labels/a~1b"},
		JQPathExpressions: []string{`.spec.template.spec.containers[] | select(.name == "web") | .resources.limits`},
	})
	two = strings.Replace(two, "metadata: {name: web, namespace: NS,", `metadata: {name: web, namespace: NS, labels: {a/b: ours, c: d},`, 1)
	b.apply(e, b.work("web", []string{two}, how))
	edit := `{metadata: {labels: {a/b: theirs, c: theirs}}, spec: {replicas: 9, template: {spec: {containers: [` +
		`{name: side, image: other}, {name: web, image: other, resources: {limits: {cpu: "3"}, requests: {memory: 1Gi}}}]}}}}`
	b.edit(deployments, "web", edit)
	b.waitField(deployments, "web", "d", "metadata", "labels", "c")
	got := b.get(deployments, "web")
	require.Equal(t, "theirs", field(got, "metadata", "labels", "a/b"))
	require.Equal(t, int64(9), field(got, "spec", "replicas"))
	require.Equal(t, "other", image(t, b, 0), "the side car's is ignored")
	require.Equal(t, "registry.example/web:1", image(t, b, 1))
	containers, _ := field(got, "spec", "template", "spec", "containers").([]any)
	resources, err := json.Marshal(containers[1].(map[string]any)["resources"])
	require.NoError(t, err)
	require.JSONEq(t, `{"limits":{"cpu":"3"},"requests":{"cpu":"500m","memory":"1Gi"}}`, string(resources))
}

func ignoredOnForeign(b *bench) {
	t := b.t
	e := b.start()
	b.create("somebody", configMap("c", "k: theirs"))
	b.apply(e, b.work("web", []string{configMap("c", "k: ours, other: ours")}, b.ignoring(configMaps, "c", false, present(".data.k"))))
	require.Equal(t, map[string]any{"k": "theirs", "other": "ours"}, field(b.get(configMaps, "c"), "data"), "it exists, so it is not sent")
}

// ignoredRequired ignores what the apiserver does not do without.
func ignoredRequired(b *bench) {
	t := b.t
	e := b.start()
	how := b.ignoring(deployments, "web", true, present(".spec.template", ".spec.selector"))
	b.apply(e, b.work("web", []string{webDeployment}, how))
	changed := strings.Replace(webDeployment, "replicas: 2", "replicas: 4", 1)
	b.apply(e, b.work("web", []string{changed}, how, generation(2)))
	require.Equal(t, int64(4), field(b.get(deployments, "web"), "spec", "replicas"))
	require.Equal(t, "registry.example/web:1", image(t, b, 0))
}

func ruleTakenBack(b *bench) {
	t := b.t
	e := b.start()
	manifests := []string{configMap("c", "k: ours, other: ours")}
	b.apply(e, b.work("web", manifests, b.ignoring(configMaps, "c", true, present(".data.k"))))
	b.edit(configMaps, "c", "{data: {k: theirs}}")
	b.passes(e, "web", 2)
	require.Equal(t, "theirs", field(b.get(configMaps, "c"), "data", "k"))

	b.apply(e, b.work("web", manifests, b.ignoring(configMaps, "c", true), generation(2)))
	require.Equal(t, "ours", field(b.get(configMaps, "c"), "data", "k"), "taken back")
	b.edit(configMaps, "c", "{data: {k: theirs}}")
	b.waitField(configMaps, "c", "ours", "data", "k")
	require.NotContains(t, b.get(configMaps, "c").GetAnnotations(), specHash)
}

func partOfOneValue(b *bench) {
	t := b.t
	e := b.start()
	manifest1 := strings.Replace(webDeployment, "        ports:", "        args: [a, b, c]\n        ports:", 1)
	how := b.ignoring(deployments, "web", true, present(".spec.template.spec.containers[0].args[1]"))
	r := b.deliver(e, b.work("web", []string{manifest1}, how))
	c := cond(t, manifest(t, r, "web").Conditions, "Applied")
	require.Contains(t, words(c), "False AppliedManifestSSAIgnoreFieldError")
	require.Contains(t, c.Message, ".spec.template.spec.containers[0].args[1] is part of .spec.template.spec.containers[0].args")
	changed := strings.Replace(manifest1, "replicas: 2", "replicas: 3", 1)
	r = b.deliver(e, b.work("web", []string{changed}, how, generation(2)))
	require.Equal(t, "AppliedManifestSSAIgnoreFieldError", cond(t, manifest(t, r, "web").Conditions, "Applied").Reason)
	containers, _ := field(b.get(deployments, "web"), "spec", "template", "spec", "containers").([]any)
	require.Equal(t, []any{"a", "b", "c"}, containers[0].(map[string]any)["args"], "nothing was lost")

	b.apply(e, b.work("web", []string{changed}, b.ignoring(deployments, "web", true, present(".spec.template.spec.containers[0].args")), generation(3)))
	require.Equal(t, int64(3), field(b.get(deployments, "web"), "spec", "replicas"))
}

func othersMayApply(b *bench) {
	e := b.start()
	how := b.ignoring(configMaps, "c", true, present(".data.k"), unlessChanged(".data.l"))
	b.apply(e, b.work("web", []string{configMap("c", "k: ours, l: ours, other: ours")}, how))
	theirs := "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS}, data: {k: theirs, l: theirs}}"
	require.NoError(b.t, b.serverSide(configMaps, "c", "theirs", theirs), "the agent does not hold on to what it ignores")
	b.passes(e, "web", 2)
	require.Equal(b.t, map[string]any{"k": "theirs", "l": "theirs", "other": "ours"}, field(b.get(configMaps, "c"), "data"))
}

func creationSendsAll(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind)
	how := b.ignoring(configMaps, "c", false, present(".data.k"), unlessChanged(".data.l"))
	b.apply(e, b.work("web", []string{configMap("c", "k: v, l: w, m: x")}, how))
	require.Equal(t, map[string]any{"k": "v", "l": "w", "m": "x"}, field(b.get(configMaps, "c"), "data"))
	applies := env.Match{Verbs: []string{"patch"}, Resources: []string{"configmaps"}}
	require.Equal(t, 2, proxy.Count(applies), "one that creates it, one that gives the fields away")
	b.delete(configMaps, "c")
	b.waitField(configMaps, "c", "v", "data", "k")
	require.Equal(t, map[string]any{"k": "v", "l": "w", "m": "x"}, field(b.get(configMaps, "c"), "data"), "created anew, sent anew")
}

func badRules(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{configMap("c", "k: v"), configMap("d", "k: v")}))
	for i, tc := range []struct {
		rule workv1.IgnoreField
		want string
	}{
		{workv1.IgnoreField{JQPathExpressions: []string{".data.k", ".data["}}, `serverSideApply.ignoreFields[0].jqPathExpressions[1] ".data[" of ConfigMap "NS/c": it is no jq expression: `},
		{workv1.IgnoreField{JQPathExpressions: []string{"." + strings.Repeat(" | (., .)", 60) + " | select(.a)"}}, "it took longer than 1s"},
		{workv1.IgnoreField{JQPathExpressions: []string{"[limit(10; repeat(1))]"}}, "here jq may read, select and compare"},
		{workv1.IgnoreField{JSONPaths: []string{".data[x"}}, `serverSideApply.ignoreFields[0].jsonPaths[0] ".data[x" of ConfigMap "NS/c": it is no JSONPath: `},
		{workv1.IgnoreField{JSONPointers: []string{"data/k"}}, `serverSideApply.ignoreFields[0].jsonPointers[0] "data/k" of ConfigMap "NS/c": a JSON pointer begins with a slash`},
		{workv1.IgnoreField{JSONPaths: []string{".metadata"}}, ".metadata says which object it is and cannot be ignored"},
	} {
		manifests := []string{configMap("c", "k: changed"), configMap("new", "k: v"), configMap("d", fmt.Sprintf("k: v%d", i))}
		config := b.ignoring(configMaps, "c", true, tc.rule)
		r := b.deliver(e, b.work("web", manifests, config, generation(int64(i+2))))
		c := cond(t, manifest(t, r, "c").Conditions, "Applied")
		require.Contains(t, words(c), "False AppliedManifestSSAIgnoreFieldError Failed to apply manifest: ")
		require.Contains(t, c.Message, b.local(tc.want))
		require.Equal(t, "v", field(b.get(configMaps, "c"), "data", "k"), "not touched")
		require.Equal(t, fmt.Sprintf("v%d", i), field(b.get(configMaps, "d"), "data", "k"), "the others are applied")
		require.Contains(t, b.inventory("web"), "configmaps/c")
	}
	b.apply(e, b.work("web", []string{configMap("c", "k: changed")}, b.ignoring(configMaps, "c", true, present(".data.none")), generation(20)))
	require.Equal(t, "changed", field(b.get(configMaps, "c"), "data", "k"))
}

func configSpecHash(b *bench) {
	t := b.t
	e := b.start()
	how := b.ignoring(configMaps, "c", true, present(".data.k"))
	b.apply(e, b.work("web", []string{configMap("c", "k: v"), configMap("plain", "k: v")}, how))
	first := b.get(configMaps, "c").GetAnnotations()[specHash]
	require.Len(t, first, 64)
	require.NotContains(t, b.get(configMaps, "plain").GetAnnotations(), specHash, "only where something is ignored")
	b.edit(configMaps, "c", "{data: {k: theirs}}")
	b.passes(e, "web", 2)
	require.Equal(t, first, b.get(configMaps, "c").GetAnnotations()[specHash])
	b.apply(e, b.work("web", []string{configMap("c", "k: w")}, how, generation(2)))
	require.NotEqual(t, first, b.get(configMaps, "c").GetAnnotations()[specHash])
	require.Equal(t, "theirs", field(b.get(configMaps, "c"), "data", "k"))
}
