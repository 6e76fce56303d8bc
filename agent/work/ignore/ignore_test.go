// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package ignore

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	workv1 "open-cluster-management.io/api/work/v1"
)

const deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"prod","labels":{"a/b":"x","c~d":"y","app":"web"}},
"spec":{"replicas":3,"template":{"spec":{"containers":[
{"name":"web","image":"web:1","args":["-v","-q","-x"],"ports":[{"containerPort":80}]},
{"name":"side","image":"side:1"}],"volumes":[{"name":"data"}]}}}}`

func object(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	require.NoError(t, obj.UnmarshalJSON([]byte(deployment)))
	return obj
}

// find returns the places that one rule finds, as text.
func find(t *testing.T, rule workv1.IgnoreField) ([]string, error) {
	t.Helper()
	fields, err := Find(t.Context(), object(t), []workv1.IgnoreField{rule})
	var places []string
	for _, path := range fields.Paths(true) {
		places = append(places, path.String())
	}
	return places, err
}

func TestFind(t *testing.T) {
	image := ".spec.template.spec.containers"
	for name, tc := range map[string]struct {
		rule workv1.IgnoreField
		want []string
	}{
		"path":            {workv1.IgnoreField{JSONPaths: []string{".spec.replicas"}}, []string{".spec.replicas"}},
		"braces":          {workv1.IgnoreField{JSONPaths: []string{" {.spec.replicas} "}}, []string{".spec.replicas"}},
		"dollar":          {workv1.IgnoreField{JSONPaths: []string{"$.spec.replicas"}}, []string{".spec.replicas"}},
		"index":           {workv1.IgnoreField{JSONPaths: []string{image + "[1].image"}}, []string{image + "[1].image"}},
		"from_the_end":    {workv1.IgnoreField{JSONPaths: []string{image + "[-1].image"}}, []string{image + "[1].image"}},
		"star":            {workv1.IgnoreField{JSONPaths: []string{image + "[*].image"}}, []string{image + "[0].image", image + "[1].image"}},
		"range":           {workv1.IgnoreField{JSONPaths: []string{image + "[1:].image"}}, []string{image + "[1].image"}},
		"range_within":    {workv1.IgnoreField{JSONPaths: []string{image + "[0].args[1:3]"}}, []string{image + "[0].args[1]", image + "[0].args[2]"}},
		"filter":          {workv1.IgnoreField{JSONPaths: []string{image + `[?(@.name=="side")].image`}}, []string{image + "[1].image"}},
		"filter_number":   {workv1.IgnoreField{JSONPaths: []string{image + `[*].ports[?(@.containerPort<100)].containerPort`}}, []string{image + "[0].ports[0].containerPort"}},
		"filter_exists":   {workv1.IgnoreField{JSONPaths: []string{image + `[?(@.ports)].image`}}, []string{image + "[0].image"}},
		"union":           {workv1.IgnoreField{JSONPaths: []string{".metadata['name','labels'].app"}}, []string{".metadata.labels.app"}},
		"everywhere":      {workv1.IgnoreField{JSONPaths: []string{"..image"}}, []string{image + "[0].image", image + "[1].image"}},
		"escaped":         {workv1.IgnoreField{JSONPaths: []string{`.metadata.labels.a/b`}}, []string{".metadata.labels.a/b"}},
		"not_there":       {workv1.IgnoreField{JSONPaths: []string{".spec.none.at[3].all"}}, nil},
		"pointer":         {workv1.IgnoreField{JSONPointers: []string{"/spec/template/spec/containers/1/image"}}, []string{image + "[1].image"}},
		"pointer_escapes": {workv1.IgnoreField{JSONPointers: []string{"/metadata/labels/a~1b", "/metadata/labels/c~0d"}}, []string{".metadata.labels.a/b", ".metadata.labels.c~d"}},
		"pointer_nothing": {workv1.IgnoreField{JSONPointers: []string{"/spec/none", "/spec/template/spec/containers/7", "/spec/template/spec/containers/-", "/spec/template/spec/containers/01"}}, nil},
		"jq":              {workv1.IgnoreField{JQPathExpressions: []string{".spec.replicas"}}, []string{".spec.replicas"}},
		"jq_select":       {workv1.IgnoreField{JQPathExpressions: []string{`.spec.template.spec.containers[] | select(.name | test("^si")) | .image`}}, []string{image + "[1].image"}},
		"jq_comment":      {workv1.IgnoreField{JQPathExpressions: []string{".spec.replicas # why"}}, []string{".spec.replicas"}},
		"jq_several":      {workv1.IgnoreField{JQPathExpressions: []string{`.spec.replicas, .metadata.labels["a/b"], .spec.replicas`}}, []string{".metadata.labels.a/b", ".spec.replicas"}},
		"jq_slice":        {workv1.IgnoreField{JQPathExpressions: []string{".spec.template.spec.containers[1:][0].image"}}, []string{image + "[1].image"}},
		"jq_nothing":      {workv1.IgnoreField{JQPathExpressions: []string{".spec.none", ".spec.none[]?", ".spec.template.spec.containers[9]"}}, nil},
		"jq_if":           {workv1.IgnoreField{JQPathExpressions: []string{"if .spec.replicas > 2 then .spec.replicas else empty end"}}, []string{".spec.replicas"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := find(t, tc.rule)
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestFindRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		rule workv1.IgnoreField
		want string
	}{
		"jq_syntax":        {workv1.IgnoreField{JQPathExpressions: []string{".a", ".spec["}}, `serverSideApply.ignoreFields[0].jqPathExpressions[1] ".spec[" of Deployment "prod/web": it is no jq expression: `},
		"jq_no_path":       {workv1.IgnoreField{JQPathExpressions: []string{".spec | length"}}, "cannot be evaluated on this manifest"},
		"jq_iterates_null": {workv1.IgnoreField{JQPathExpressions: []string{".spec.none[]"}}, "cannot be evaluated on this manifest"},
		"jq_breaks_out":    {workv1.IgnoreField{JQPathExpressions: []string{".a) , (.b"}}, "it is no jq expression"},
		"path_syntax":      {workv1.IgnoreField{JSONPaths: []string{".spec[x"}}, `ignoreFields[0].jsonPaths[0] ".spec[x" of Deployment "prod/web": it is no JSONPath: `},
		"path_words":       {workv1.IgnoreField{JSONPaths: []string{"{range .items[*]}{.name}{end}"}}, "it must be one JSONPath and nothing else"},
		"path_identifier":  {workv1.IgnoreField{JSONPaths: []string{"spec.replicas"}}, "has no place in a path"},
		"path_steps":       {workv1.IgnoreField{JSONPaths: []string{".spec[0:4:2]"}}, "ranges with steps are not supported"},
		"pointer_syntax":   {workv1.IgnoreField{JSONPointers: []string{"spec/replicas"}}, "begins with a slash"},
		"pointer_escape":   {workv1.IgnoreField{JSONPointers: []string{"/metadata/~2"}}, "~ must be followed by 0 or 1"},
		"condition":        {workv1.IgnoreField{Condition: "Sometimes"}, `ignoreFields[0].condition "Sometimes" of Deployment "prod/web": there is no such condition`},
		"everything":       {workv1.IgnoreField{JSONPointers: []string{""}}, "stands for the whole object"},
		"everything_jq":    {workv1.IgnoreField{JQPathExpressions: []string{"."}}, "stands for the whole object"},
		"name":             {workv1.IgnoreField{JSONPaths: []string{".metadata.name"}}, ".metadata.name says which object it is"},
		"all_metadata":     {workv1.IgnoreField{JSONPaths: []string{".*"}}, "says which object it is"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := find(t, tc.rule)
			var refused *Error
			require.ErrorAs(t, err, &refused)
			require.Contains(t, err.Error(), tc.want)
		})
	}
}

// TestT24_jq_cannot_take_memory has expressions that would double a text or an array until the agent dies, or run on where
// nothing can stop them.
func TestT24_jq_cannot_take_memory(t *testing.T) {
	for _, expression := range []string{
		`.a | select((reduce range(40) as $i ("x"; . + .)) == "")`,
		`.spec | select(("x"` + strings.Repeat(" | . + .", 40) + `) == "")`,
		`.spec | select(.replicas * 1000000000 > 0)`,
		`.spec | select([range(1000000000)] | length > 0)`,
		`.spec | select((.` + strings.Repeat(" | [., .]", 40) + `) == .)`,
		`.spec | select((.` + strings.Repeat(` | {a: ., b: .}`, 40) + `) == .)`,
		`.spec | select("\(.)\(.)" == "")`,
		`.spec | select(@json "x\(.)" == "")`,
		`.spec | select(tojson == "")`,
		`.spec | select(contains({}))`,
		`def f: f; f`,
		`recurse(.)`,
		`label $out | foreach .[] as $i (0; . + 1; break $out)`,
		`try error catch ("x" | . * 100)`,
		`.["\(.a)"]`,
		`.[(.a + "b"):]`,
		`-(.a * 2) | .b`,
		`if .a + .b then . else . end`,
	} {
		_, err := find(t, workv1.IgnoreField{JQPathExpressions: []string{expression}})
		require.ErrorIs(t, err, errUntamed, expression)
	}
}

func TestJQTakesASecond(t *testing.T) {
	start := time.Now()
	_, err := find(t, workv1.IgnoreField{JQPathExpressions: []string{"." + strings.Repeat(" | (., .)", 60) + " | select(.a)"}})
	require.ErrorContains(t, err, "it took longer than 1s")
	require.Less(t, time.Since(start), 20*time.Second)
}

func TestJQFindsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whatever time it takes
		_, err := find(t, workv1.IgnoreField{JQPathExpressions: []string{".spec" + strings.Repeat(" | (., .)", 20)}})
		require.ErrorContains(t, err, "more than 10000 places")
	})
}

func TestTheEndOfTheContextIsNoFaultOfARule(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Find(ctx, object(t), []workv1.IgnoreField{{JQPathExpressions: []string{".spec"}}})
	require.ErrorIs(t, err, context.Canceled)
	var refused *Error
	require.NotErrorAs(t, err, &refused)
}

func TestConditions(t *testing.T) {
	fields, err := Find(t.Context(), object(t), []workv1.IgnoreField{
		{Condition: workv1.IgnoreFieldsConditionOnSpokePresent, JSONPaths: []string{".spec.replicas"}},
		{Condition: workv1.IgnoreFieldsConditionOnSpokeChange, JSONPaths: []string{".metadata.labels.app"}},
	})
	require.NoError(t, err)
	require.True(t, fields.Ruled())
	require.Equal(t, []Path{{"spec", "replicas"}}, fields.Paths(false))
	require.Equal(t, []Path{{"spec", "replicas"}, {"metadata", "labels", "app"}}, fields.Paths(true))
}

func TestWithout(t *testing.T) {
	text := `{"a":{"b":1,"c":[{"n":1},{"n":2},{"n":3}]},"d":{"e":{"f":1}},"empty":{}}`
	for name, tc := range map[string]struct {
		reason string
		paths  []Path
		want   string
	}{
		"nothing":      {"no path, no change", nil, text},
		"field":        {"one field", []Path{{"a", "b"}}, `{"a":{"c":[{"n":1},{"n":2},{"n":3}]},"d":{"e":{"f":1}},"empty":{}}`},
		"items":        {"indices count in the list as it was", []Path{{"a", "c", 0}, {"a", "c", 2}}, `{"a":{"b":1,"c":[{"n":2}]},"d":{"e":{"f":1}},"empty":{}}`},
		"last_field":   {"what is empty now goes too", []Path{{"d", "e", "f"}}, `{"a":{"b":1,"c":[{"n":1},{"n":2},{"n":3}]},"empty":{}}`},
		"last_item":    {"so does an item", []Path{{"a", "c", 1, "n"}}, `{"a":{"b":1,"c":[{"n":1},{"n":3}]},"d":{"e":{"f":1}},"empty":{}}`},
		"field_inside": {"a path within another", []Path{{"d"}, {"d", "e"}}, `{"a":{"b":1,"c":[{"n":1},{"n":2},{"n":3}]},"empty":{}}`},
		"all":          {"nothing is left", []Path{{"a"}, {"d"}, {"empty"}}, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			object := map[string]any{}
			require.NoError(t, json.Unmarshal([]byte(text), &object))
			got, err := json.Marshal(Without(object, tc.paths))
			require.NoError(t, err)
			require.JSONEq(t, tc.want, string(got), tc.reason)
			after, err := json.Marshal(object)
			require.NoError(t, err)
			require.JSONEq(t, text, string(after), "the object itself is not changed")
		})
	}
}

// FuzzFind has rules of any text: each is followed, or refused as a rule, and nothing that says which object it is goes.
func FuzzFind(f *testing.F) {
	for _, text := range []string{
		".spec.replicas", "{.a[?(@.b=='c')]..d[1:2]}", "/spec/~1/0", `.spec | select(.a == "b") | .[1:][-1]?`, "..", ".metadata[*]", "$['a','b']", `."a\(.b)"`,
	} {
		f.Add(text, text, text)
	}
	f.Fuzz(func(t *testing.T, path, pointer, jq string) {
		for _, rule := range []workv1.IgnoreField{{JSONPaths: []string{path}}, {JSONPointers: []string{pointer}}, {JQPathExpressions: []string{jq}}} {
			obj := object(t)
			fields, err := Find(t.Context(), obj, []workv1.IgnoreField{rule})
			if err != nil {
				var refused *Error
				require.ErrorAs(t, err, &refused)
				continue
			}
			left := &unstructured.Unstructured{Object: Without(obj.Object, fields.Paths(true))}
			require.Equal(t, "web", left.GetName())
			require.Equal(t, "prod", left.GetNamespace())
			require.Equal(t, "Deployment", left.GetKind())
			require.Equal(t, object(t).Object, obj.Object)
		}
	})
}
