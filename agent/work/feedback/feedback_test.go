// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package feedback

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	workv1 "open-cluster-management.io/api/work/v1"
)

func integer(name string, v int64) workv1.FeedbackValue {
	return workv1.FeedbackValue{Name: name, Value: workv1.FieldValue{Type: workv1.Integer, Integer: &v}}
}

func text(name, v string) workv1.FeedbackValue {
	return workv1.FeedbackValue{Name: name, Value: workv1.FieldValue{Type: workv1.String, String: &v}}
}

func boolean(name string, v bool) workv1.FeedbackValue {
	return workv1.FeedbackValue{Name: name, Value: workv1.FieldValue{Type: workv1.Boolean, Boolean: &v}}
}

func raw(name, v string) workv1.FeedbackValue {
	return workv1.FeedbackValue{Name: name, Value: workv1.FieldValue{Type: workv1.JsonRaw, JsonRaw: &v}}
}

const structures = `{"apiVersion":"example.com/v1","kind":"Widget","status":{"map":{"a":1,"b":["x"]},"list":[1,2],"half":0.5,"count":7}}`

func paths(paths ...workv1.JsonPath) []workv1.FeedbackRule {
	return []workv1.FeedbackRule{{Type: workv1.JSONPathsType, JsonPaths: paths}}
}

// reading is one use of Values.
type reading struct {
	reason  string
	object  string
	rules   []workv1.FeedbackRule
	limits  Limits
	want    []workv1.FeedbackValue
	problem string
}

func TestRawValues(t *testing.T) {
	check(t, map[string]reading{
		"MW-41_without_the_gate": {
			reason:  "objects, lists and fractions are errors",
			object:  structures,
			rules:   paths(workv1.JsonPath{Name: "map", Path: ".status.map"}, workv1.JsonPath{Name: "list", Path: ".status.list"}, workv1.JsonPath{Name: "half", Path: ".status.half"}),
			limits:  Limits{RawLength: 1024},
			problem: "RawFeedbackJsonString is off",
		},
		"MW-41_with_the_gate": {
			reason: "they are JSON; what is no structure keeps its type",
			object: structures,
			rules: paths(workv1.JsonPath{Name: "map", Path: ".status.map"}, workv1.JsonPath{Name: "list", Path: ".status.list"},
				workv1.JsonPath{Name: "half", Path: ".status.half"}, workv1.JsonPath{Name: "count", Path: ".status.count"}),
			limits: Limits{RawJSON: true, RawLength: 1024},
			want:   []workv1.FeedbackValue{raw("map", `{"a":1,"b":["x"]}`), raw("list", `[1,2]`), raw("half", `0.5`), integer("count", 7)},
		},
		"MW-41_too_long": {
			reason:  "one byte more than the limit is an error that names it",
			object:  structures,
			rules:   paths(workv1.JsonPath{Name: "map", Path: ".status.map"}, workv1.JsonPath{Name: "list", Path: ".status.list"}),
			limits:  Limits{RawJSON: true, RawLength: 5},
			want:    []workv1.FeedbackValue{raw("list", `[1,2]`)},
			problem: `the value at path ".status.map" has 17 bytes of JSON, at most 5 are possible (--max-json-raw-length)`,
		},
		"many_descents": {
			reason:  "each multiplies the work of those before it",
			object:  structures,
			rules:   paths(workv1.JsonPath{Name: "x", Path: "..*..*..a"}),
			problem: `has more than 2 ".."`,
		},
	})
}

func TestValues(t *testing.T) {
	known := []workv1.FeedbackRule{{Type: workv1.WellKnownStatusType}}
	check(t, map[string]reading{
		"MW-38_Deployment": {
			reason: "the three counts of a Deployment",
			object: `{"apiVersion":"apps/v1","kind":"Deployment","status":{"readyReplicas":1,"replicas":3,"availableReplicas":2}}`,
			rules:  known,
			want:   []workv1.FeedbackValue{integer("ReadyReplicas", 1), integer("Replicas", 3), integer("AvailableReplicas", 2)},
		},
		"MW-38_Deployment_before_its_first_status": {
			reason: "a field that is not there gives no value and no error",
			object: `{"apiVersion":"apps/v1","kind":"Deployment"}`,
			rules:  known,
		},
		"MW-38_DaemonSet": {
			reason: "the three counts of a DaemonSet; zero is a value",
			object: `{"apiVersion":"apps/v1","kind":"DaemonSet","status":{"numberReady":0,"desiredNumberScheduled":3,"numberAvailable":2}}`,
			rules:  known,
			want:   []workv1.FeedbackValue{integer("NumberReady", 0), integer("DesiredNumberScheduled", 3), integer("NumberAvailable", 2)},
		},
		"MW-38_Job": {
			reason: "the status of the condition, not its place",
			object: `{"apiVersion":"batch/v1","kind":"Job","status":{"succeeded":1,"conditions":[{"type":"SuccessCriteriaMet","status":"False"},{"type":"Complete","status":"True"}]}}`,
			rules:  known,
			want:   []workv1.FeedbackValue{text("JobComplete", "True"), integer("JobSucceeded", 1)},
		},
		"MW-38_Pod": {
			reason: "readiness and phase",
			object: `{"apiVersion":"v1","kind":"Pod","status":{"phase":"Running","conditions":[{"type":"Ready","status":"False"}]}}`,
			rules:  known,
			want:   []workv1.FeedbackValue{text("PodReady", "False"), text("PodPhase", "Running")},
		},
		"MW-38_StatefulSet": {
			reason: "as for a Deployment; OCM knows no StatefulSets",
			object: `{"apiVersion":"apps/v1","kind":"StatefulSet","status":{"readyReplicas":1,"replicas":3,"availableReplicas":2}}`,
			rules:  known,
			want:   []workv1.FeedbackValue{integer("ReadyReplicas", 1), integer("Replicas", 3), integer("AvailableReplicas", 2)},
		},
		"MW-38_PersistentVolumeClaim": {
			reason: "its phase; OCM knows no claims",
			object: `{"apiVersion":"v1","kind":"PersistentVolumeClaim","status":{"phase":"Bound"}}`,
			rules:  known,
			want:   []workv1.FeedbackValue{text("PersistentVolumeClaimPhase", "Bound")},
		},
		"MW-38_CustomResourceDefinition": {
			reason: "whether it is established; OCM knows no definitions",
			object: `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","status":{"conditions":[{"type":"NamesAccepted","status":"True"},{"type":"Established","status":"False"}]}}`,
			rules:  known,
			want:   []workv1.FeedbackValue{text("CustomResourceDefinitionEstablished", "False")},
		},
		"MW-39_other_kind": {
			reason:  "no values, and the reason names the kind",
			object:  `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"b"}}`,
			rules:   known,
			problem: `no well-known status for kind "ConfigMap"`,
		},
		"a_custom_Deployment_is_not_well_known": {
			reason:  "the group counts too",
			object:  `{"apiVersion":"example.com/v1","kind":"Deployment","status":{"replicas":3}}`,
			rules:   known,
			problem: `no well-known status for kind "Deployment"`,
		},
		"MW-40_types": {
			reason: "integer, string and boolean; a missing field is silent",
			object: `{"apiVersion":"example.com/v1","kind":"Widget","status":{"count":7,"phase":"Up","ok":true}}`,
			rules: paths(workv1.JsonPath{Name: "count", Path: ".status.count"}, workv1.JsonPath{Name: "phase", Path: ".status.phase"},
				workv1.JsonPath{Name: "ok", Path: ".status.ok", Version: "v1"}, workv1.JsonPath{Name: "none", Path: ".status.none"}),
			want: []workv1.FeedbackValue{integer("count", 7), text("phase", "Up"), boolean("ok", true)},
		},
		"MW-40_other_version": {
			reason:  "a path for another version is refused, the others are read",
			object:  `{"apiVersion":"example.com/v1","kind":"Widget","status":{"count":7}}`,
			rules:   paths(workv1.JsonPath{Name: "old", Path: ".status.count", Version: "v1beta1"}, workv1.JsonPath{Name: "count", Path: ".status.count"}),
			want:    []workv1.FeedbackValue{integer("count", 7)},
			problem: `feedback "old" is for version "v1beta1"`,
		},
		"MW-40_structure": {
			reason:  "maps and lists have no value here",
			object:  `{"apiVersion":"example.com/v1","kind":"Widget","status":{"map":{"a":1}}}`,
			rules:   paths(workv1.JsonPath{Name: "map", Path: ".status.map"}),
			problem: "neither an integer, a string nor a boolean",
		},
		"MW-40_bad_path": {
			reason:  "a path that does not parse is named",
			object:  `{"apiVersion":"example.com/v1","kind":"Widget"}`,
			rules:   paths(workv1.JsonPath{Name: "bad", Path: ".status[?("}),
			problem: `path ".status[?(" does not parse`,
		},
		"one_name_twice": {
			reason: "the list is keyed by name: the first rule that has a value wins",
			object: `{"apiVersion":"example.com/v1","kind":"Widget","status":{"a":1,"b":2}}`,
			rules:  paths(workv1.JsonPath{Name: "x", Path: ".status.none"}, workv1.JsonPath{Name: "x", Path: ".status.b"}, workv1.JsonPath{Name: "x", Path: ".status.a"}),
			want:   []workv1.FeedbackValue{integer("x", 2)},
		},
		"unknown_type": {
			reason:  "a rule of a later version is named",
			object:  `{"apiVersion":"v1","kind":"Pod"}`,
			rules:   []workv1.FeedbackRule{{Type: "Magic"}},
			problem: `type "Magic" are not supported`,
		},
	})
}

func check(t *testing.T, cases map[string]reading) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			live := &unstructured.Unstructured{}
			require.NoError(t, live.UnmarshalJSON([]byte(tc.object)))
			before, err := json.Marshal(live.Object)
			require.NoError(t, err)

			got, err := Values(live, tc.rules, tc.limits)
			require.Equal(t, tc.want, got, tc.reason)
			if tc.problem == "" {
				require.NoError(t, err, tc.reason)
			} else {
				require.ErrorContains(t, err, tc.problem, tc.reason)
			}
			after, err := json.Marshal(live.Object)
			require.NoError(t, err)
			require.JSONEq(t, string(before), string(after), "the object is only read")
		})
	}
}
