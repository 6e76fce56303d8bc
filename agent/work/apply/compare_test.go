// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	obj := &unstructured.Unstructured{}
	require.NoError(t, obj.UnmarshalJSON(raw))
	return obj
}

func owned(t *testing.T, fields string) *fieldpath.Set {
	t.Helper()
	set := &fieldpath.Set{}
	require.NoError(t, set.FromJSON(strings.NewReader(fields)))
	return set
}

const head = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n"

func TestDifference(t *testing.T) {
	ports := `{"f:spec":{"f:ports":{"k:{\"port\":1,\"protocol\":\"TCP\"}":{".":{},"f:port":{}},"k:{\"port\":1,\"protocol\":\"UDP\"}":{".":{},"f:port":{},"f:protocol":{}}}}}`
	parts := `{"f:spec":{"f:parts":{"k:{\"name\":\"a\"}":{".":{},"f:name":{}},"k:{\"name\":\"b\"}":{".":{},"f:name":{}}}}}`
	cases := map[string]struct {
		reason     string
		want, live string
		owned      string
		path       string
	}{
		"extra_fields": {
			reason: "what the manifest does not say is not compared",
			want:   "spec: {a: 1}", live: "spec: {a: 1, b: 2}\nstatus: {c: 3}", owned: `{"f:spec":{"f:a":{}}}`,
		},
		"changed": {reason: "a changed value", want: "spec: {a: {b: x}}", live: "spec: {a: {b: z}}", owned: `{"f:spec":{}}`, path: "spec.a.b"},
		"missing": {reason: "a missing value", want: "spec: {a: x}", live: "spec: {}", owned: `{"f:spec":{}}`, path: "spec.a"},
		"other_type": {
			reason: "a map where a text should be", want: "spec: {a: {b: x}}", live: "spec: {a: x}", owned: `{"f:spec":{}}`, path: "spec.a",
		},
		"empties": {
			reason: "the apiserver leaves out what is empty",
			want:   "spec: {a: {}, b: [], c: null, d: {e: {}}}", live: "spec: {}", owned: `{"f:spec":{}}`,
		},
		"null_says_nothing": {reason: "null asks for the default", want: "spec: {a: null}", live: "spec: {a: blue}", owned: `{"f:spec":{}}`},
		"numbers":           {reason: "one is one", want: "spec: {a: 1.0, b: 2}", live: "spec: {a: 1, b: 2.0}", owned: `{"f:spec":{}}`},
		"text_is_no_number": {reason: "in content that is not typed, a text is a text", want: `spec: {a: "1"}`, live: "spec: {a: 1}", owned: `{"f:spec":{}}`, path: "spec.a"},
		"one_value_list":    {reason: "a list that is one value", want: "spec: {l: [1, 2]}", live: "spec: {l: [1, 2, 3]}", owned: `{"f:spec":{"f:l":{}}}`, path: "spec.l"},
		"defaults_in_a_one_value_list": {
			reason: "items may have been completed", want: "spec: {l: [{a: 1}]}", live: "spec: {l: [{a: 1, b: 2}]}", owned: `{"f:spec":{"f:l":{}}}`,
		},
		"set": {reason: "others may add to a set", want: "spec: {s: [b, a]}", live: "spec: {s: [a, c, b]}", owned: `{"f:spec":{"f:s":{"v:\"a\"":{},"v:\"b\"":{}}}}`},
		"set_lacks": {
			reason: "our members must be in it", want: "spec: {s: [a, b]}", live: "spec: {s: [a]}", owned: `{"f:spec":{"f:s":{"v:\"a\"":{},"v:\"b\"":{}}}}`, path: "spec.s",
		},
		"keyed": {
			reason: "others may add items to a list that is merged by key",
			want:   "spec: {parts: [{name: a}, {name: b}]}", live: "spec: {parts: [{name: x}, {name: a, count: 1}, {name: b}]}", owned: parts,
		},
		"keyed_in_another_order": {
			reason: "the order of our items counts: init containers run in it",
			want:   "spec: {parts: [{name: a}, {name: b}]}", live: "spec: {parts: [{name: b}, {name: a}]}", owned: parts, path: "spec.parts[1]",
		},
		"keyed_lacks": {
			reason: "an item is gone", want: "spec: {parts: [{name: a}, {name: b}]}", live: "spec: {parts: [{name: a}]}", owned: parts, path: "spec.parts[1]",
		},
		"keyed_and_new": {
			reason: "an item that was never applied", want: "spec: {parts: [{name: a}, {name: c}]}", live: "spec: {parts: [{name: a}, {name: c}]}", owned: parts,
			path: "spec.parts[1]",
		},
		"defaulted_key": {
			reason: "a key field that was defaulted fits, but not before an exact one",
			want:   "spec: {ports: [{port: 1, protocol: UDP}, {port: 1}]}", live: "spec: {ports: [{port: 1, protocol: UDP}, {port: 1, protocol: TCP}]}", owned: ports,
		},
		"written_by_somebody": {
			reason: "a field that somebody else wrote since, if only to set it back", want: "spec: {a: 1, b: 2}", live: "spec: {a: 1, b: 2}",
			owned: `{"f:spec":{"f:a":{}}}`, path: "spec.b",
		},
		"added_to_a_one_value_map": {
			reason: "who adds to a map that is one value takes it over", want: "spec: {selector: {a: b}, c: d}", live: "spec: {selector: {a: b, x: z}, c: d}",
			owned: `{"f:spec":{"f:c":{}}}`, path: "spec.selector.a",
		},
		"a_one_value_map": {
			reason: "owned as it is", want: "spec: {selector: {a: b}, c: d}", live: "spec: {selector: {a: b}, c: d}", owned: `{"f:spec":{"f:c":{},"f:selector":{}}}`,
		},
		"set_member_not_owned": {
			reason: "a member that somebody else put there again", want: "spec: {s: [a, b]}", live: "spec: {s: [a, b]}", owned: `{"f:spec":{"f:s":{"v:\"a\"":{}}}}`, path: "spec.s",
		},
		"defaulted_key_changed": {
			reason: "the field beside the key", want: "spec: {ports: [{port: 1, name: x}]}", live: "spec: {ports: [{port: 1, protocol: TCP, name: y}]}", owned: strings.Replace(ports, `"f:port":{}`, `"f:port":{},"f:name":{}`, 1),
			path: "spec.ports[0].name",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Difference(object(t, head+tc.want), object(t, head+tc.live), owned(t, tc.owned))
			require.Equal(t, tc.path, got, tc.reason)
		})
	}
}

func TestDifferenceInMetadata(t *testing.T) {
	want := object(t, "{apiVersion: v1, kind: X, metadata: {name: x, labels: {a: b}, annotations: {c: d}, finalizers: [e], ownerReferences: [{uid: u}]}}")
	fields := owned(t, `{"f:metadata":{"f:labels":{"f:a":{}},"f:annotations":{"f:c":{}},"f:finalizers":{"v:\"e\"":{}}}}`)
	for text, path := range map[string]string{
		"labels: {a: b, x: z}, annotations: {c: d}, finalizers: [f, e], uid: other, resourceVersion: '3'": "",
		"labels: {a: x}, annotations: {c: d}, finalizers: [e]":                                            "metadata.labels.a",
		"labels: {a: b}, finalizers: [e]":                                                                 "metadata.annotations",
		"labels: {a: b}, annotations: {c: d}":                                                             "metadata.finalizers",
	} {
		live := object(t, "{apiVersion: v1, kind: X, metadata: {name: x, "+text+"}}")
		require.Equal(t, path, Difference(want, live, fields), text)
	}
	bare := object(t, "{apiVersion: v1, kind: X, metadata: {name: x}}")
	require.Empty(t, Difference(bare, bare, owned(t, "{}")))
}

func TestDropped(t *testing.T) {
	cases := map[string]struct {
		reason, manifest, owned, want string
	}{
		"nothing": {
			reason: "all that is owned is in the manifest", manifest: "spec: {a: 1, l: [{name: x, v: 1}], s: [q]}",
			owned: `{"f:spec":{"f:a":{},"f:l":{"k:{\"name\":\"x\"}":{".":{},"f:v":{}}},"f:s":{"v:\"q\"":{}}}}`,
		},
		"field":         {reason: "a field", manifest: "spec: {}", owned: `{"f:spec":{"f:a":{}}}`, want: ".spec.a"},
		"map_to_scalar": {reason: "a map became a value", manifest: "spec: {a: 1}", owned: `{"f:spec":{"f:a":{"f:b":{}}}}`, want: ".spec.a.b"},
		"item": {
			reason: "an item of a keyed list", manifest: "spec: {l: [{name: y}]}", owned: `{"f:spec":{"f:l":{"k:{\"name\":\"x\"}":{".":{}}}}}`,
			want: `.spec.l[name="x"]`,
		},
		"member": {reason: "a member of a set", manifest: "spec: {s: [r]}", owned: `{"f:spec":{"f:s":{"v:\"q\"":{}}}}`, want: `.spec.s[="q"]`},
		"owner_reference": {
			reason: "owner references are somebody else's task", manifest: "spec: {}",
			owned: `{"f:metadata":{"f:ownerReferences":{"k:{\"uid\":\"u\"}":{}}}}`,
		},
		"label": {reason: "a label", manifest: "spec: {}", owned: `{"f:metadata":{"f:labels":{"f:a":{}}}}`, want: ".metadata.labels.a"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, Dropped(object(t, head+tc.manifest), owned(t, tc.owned)), tc.reason)
		})
	}
}

func TestForeignFields(t *testing.T) {
	manifest := object(t, head+"spec: {a: 1, m: {x: 1}, l: [{name: x}]}")
	live := object(t, head+`spec: {a: 1, foreign: 2, m: {x: 1, z: 2}, l: [{name: x}, {name: z}], default: 3}
top: {theirs: 1}
status: {s: 1}`)
	entries := []metav1.ManagedFieldsEntry{
		managed("work-agent", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:a":{},"f:m":{"f:x":{}},"f:l":{"k:{\"name\":\"x\"}":{".":{}}}}}`),
		managed("kubectl", metav1.ManagedFieldsOperationUpdate, "", `{"f:metadata":{"f:labels":{"f:t":{}}},"f:spec":{"f:foreign":{},"f:m":{"f:z":{}},"f:l":{"k:{\"name\":\"z\"}":{".":{}}},"f:gone":{}},"f:top":{"f:theirs":{}},"f:status":{"f:s":{}}}`),
		managed("autoscaler", metav1.ManagedFieldsOperationUpdate, "scale", `{"f:spec":{"f:default":{}}}`),
	}
	live.SetManagedFields(entries)

	patch, err := foreignFields(manifest, live, FieldManager)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"spec": map[string]any{
		"foreign": nil, "m": map[string]any{"z": nil}, "l": []any{map[string]any{"name": "x"}},
	}}, patch)

	builtin := object(t, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: 1}}")
	patch, err = foreignFields(builtin, live, FieldManager)
	require.NoError(t, err)
	require.Empty(t, patch, "Kubernetes' own kinds are filled in by controllers")

	live.SetManagedFields(entries[:1])
	patch, err = foreignFields(manifest, live, FieldManager)
	require.NoError(t, err)
	require.Empty(t, patch)
}

func managed(manager string, operation metav1.ManagedFieldsOperationType, subresource, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager: manager, Operation: operation, Subresource: subresource, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
	}
}

func TestDecode(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "the manifest is empty",
		"{":                    "does not decode",
		`{"apiVersion":"v1"}`:  "does not decode",
		`{"kind":"ConfigMap"}`: "has no apiVersion",
		`[1]`:                  "does not decode",
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"a-"}}`: "has no metadata.name",
	} {
		_, err := Decode([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
	m, err := Decode([]byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","uid":"u","resourceVersion":"1","creationTimestamp":null,
	  "labels":{"a":"b","old-":""},"annotations":{"gone-":"x"}},"stringData":{"k":"v","d":"w"},"data":{"d":"b2xk"},"status":{}}`))
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"apiVersion": "v1", "kind": "Secret", "data": map[string]any{"k": "dg==", "d": "dw=="},
		"metadata": map[string]any{"name": "s", "labels": map[string]any{"a": "b"}, "annotations": map[string]any{}},
	}, m.Object.Object)
	require.Equal(t, []string{"old"}, m.dropLabels)
	require.Equal(t, []string{"gone"}, m.dropAnnotations)
}

func TestReferences(t *testing.T) {
	ours := OwnerReference("hash-web", "new")
	live := &unstructured.Unstructured{Object: map[string]any{}}
	live.SetOwnerReferences([]metav1.OwnerReference{
		{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: "c"}, OwnerReference("hash-web", "old"), OwnerReference("hash-two", "two"),
	})
	require.Nil(t, ours.Controller)
	require.Nil(t, ours.BlockOwnerDeletion)
	require.False(t, Owns("new", live))
	require.True(t, OtherWorks("new", live))
	require.Equal(t, []metav1.OwnerReference{OwnerReference("hash-two", "two"), ours}, workReferences(live, ours, true))
	require.Equal(t, []metav1.OwnerReference{OwnerReference("hash-two", "two")}, workReferences(live, ours, false))
	require.True(t, surplusReference(OwnerReference("hash-web", "old"), ours, true), "one of an earlier AppliedManifestWork is dead")
	require.False(t, surplusReference(ours, ours, true))
	require.True(t, surplusReference(ours, ours, false))
	require.False(t, surplusReference(OwnerReference("hash-two", "two"), ours, false))
	require.Len(t, WithoutOwner("two", live), 2)
}

func TestOmittedFalse(t *testing.T) {
	manifest := map[string]any{"spec": map[string]any{"paused": false, "list": []any{map[string]any{"tty": false, "n": "a"}}}}
	canonical := map[string]any{"spec": map[string]any{"list": []any{map[string]any{"n": "a"}}}}
	want := withOmitted(canonical, manifest)
	require.Equal(t, map[string]any{"spec": map[string]any{"list": []any{map[string]any{"n": "a"}}}}, canonical, "not changed")
	all := ownership{whole: true}
	for name, tc := range map[string]struct {
		live any
		want string
	}{
		"left out":   {map[string]any{"spec": map[string]any{"list": []any{map[string]any{"n": "a"}}}}, ""},
		"stored":     {map[string]any{"spec": map[string]any{"paused": false, "list": []any{map[string]any{"n": "a", "tty": false}}}}, ""},
		"turned on":  {map[string]any{"spec": map[string]any{"paused": true, "list": []any{map[string]any{"n": "a"}}}}, ".spec.paused"},
		"in an item": {map[string]any{"spec": map[string]any{"list": []any{map[string]any{"n": "a", "tty": true}}}}, ".spec.list[0].tty"},
	} {
		require.Equal(t, tc.want, differs(want, tc.live, all, ""), name)
	}
}
