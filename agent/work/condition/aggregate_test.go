// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package condition

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"
)

func is(kind, status string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionStatus(status), Reason: "R", Message: kind + " is " + status}
}

// ruled makes an outcome with conditions by rules, derived one with conditions that the object's status gives.
func ruled(i int, conditions ...metav1.Condition) Outcome {
	return Outcome{Meta: resource(i), Presence: Present, Ruled: conditions}
}

func derived(i int, conditions ...metav1.Condition) Outcome {
	return Outcome{Meta: resource(i), Presence: Present, Derived: conditions}
}

func TestAggregation(t *testing.T) {
	cases := map[string]struct {
		reason   string
		outcomes []Outcome
		kind     string
		want     string // "status reason message", empty for none
	}{
		"MW-49_all_True":          {"each holds", []Outcome{ruled(0, is("Up", "True")), ruled(1, is("Up", "True"))}, "Up", "True ConditionRulesAggregated ConfigMap ns/cm0: Up is True"},
		"MW-49_one_False":         {"one False outweighs Unknown", []Outcome{ruled(0, is("Up", "Unknown")), ruled(1, is("Up", "False")), ruled(2, is("Up", "True"))}, "Up", "False ConditionRulesAggregated ConfigMap ns/cm1: Up is False"},
		"MW-49_one_Unknown":       {"Unknown outweighs True", []Outcome{ruled(0, is("Up", "True")), ruled(1, is("Up", "Unknown"))}, "Up", "Unknown ConditionRulesAggregated ConfigMap ns/cm1: Up is Unknown"},
		"MW-49_some_without":      {"manifests without the rule do not count", []Outcome{ruled(0), ruled(1, is("Up", "True"))}, "Up", "True ConditionRulesAggregated ConfigMap ns/cm1: Up is True"},
		"MW-49_Progressing":       {"for Progressing one True decides", []Outcome{ruled(0, is("Progressing", "False")), ruled(1, is("Progressing", "True"))}, "Progressing", "True ConditionRulesAggregated ConfigMap ns/cm1: Progressing is True"},
		"MW-49_Progressing_False": {"and without it False", []Outcome{ruled(0, is("Progressing", "Unknown")), ruled(1, is("Progressing", "False"))}, "Progressing", "False ConditionRulesAggregated ConfigMap ns/cm1: Progressing is False"},
		"MW-49_Complete":          {"Complete is like any other", []Outcome{ruled(0, is("Complete", "True")), ruled(1, is("Complete", "False"))}, "Complete", "False ConditionRulesAggregated ConfigMap ns/cm1: Complete is False"},
		"MW-50_no_rule":           {"without a rule there is no such condition", []Outcome{ruled(0)}, "Up", ""},

		"MH-22_ConfigMaps":                {"what has no such state is done when it is applied", []Outcome{ruled(0), ruled(1)}, "Progressing", "False Completed All resources are as the work wants them"},
		"MH-22_not_applied":               {"the spoke's words", []Outcome{ruled(0), {Meta: resource(1), Failure: errBoom, Presence: Absent}}, "Progressing", "True Failed ConfigMap ns/cm1: Failed to apply manifest: boom"},
		"MH-22_a_manifest_without_a_name": {"the place stands for it", []Outcome{{Failure: errBoom}}, "Progressing", "True Failed manifest 0: Failed to apply manifest: boom"},
		"MH-22_not_there":                 {"what is not there is awaited", []Outcome{{Meta: resource(0), Presence: Absent}}, "Progressing", "True Applying ConfigMap ns/cm0: Resource is not available"},
		"MH-22_a_workload":                {"one that is on its way keeps the work", []Outcome{derived(0, is("Progressing", "False")), derived(1, is("Progressing", "True"))}, "Progressing", "True Applying ConfigMap ns/cm1: Progressing is True"},
		"MH-22_workloads_done":            {"all done", []Outcome{derived(0, is("Progressing", "False")), ruled(1)}, "Progressing", "False Completed All resources are as the work wants them"},
		"MH-22_a_rule_decides":            {"with one rule for the type only rules count", []Outcome{ruled(0, is("Progressing", "False")), derived(1, is("Progressing", "True"))}, "Progressing", "False ConditionRulesAggregated ConfigMap ns/cm0: Progressing is False"},
		"MH-22_degraded":                  {"one that failed is the work's failure", []Outcome{derived(0, is("Degraded", "False")), derived(1, is("Degraded", "True"))}, "Degraded", "True ResourcesDegraded ConfigMap ns/cm1: Degraded is True"},
		"MH-22_not_degraded":              {"none failed", []Outcome{derived(0, is("Degraded", "False")), ruled(1)}, "Degraded", "False ResourcesNotDegraded No resource has failed"},
		"MH-22_nothing_can_degrade":       {"nothing is said of what has no such state", []Outcome{ruled(0)}, "Degraded", ""},
		"MH-22_degraded_by_a_rule":        {"a rule decides here, too", []Outcome{ruled(0, is("Degraded", "False")), derived(1, is("Degraded", "True"))}, "Degraded", "False ConditionRulesAggregated ConfigMap ns/cm0: Degraded is False"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			status := Status(tc.outcomes, 7, workv1.ManifestWorkStatus{}, start)
			c := meta.FindStatusCondition(status.Conditions, tc.kind)
			if tc.want == "" {
				require.Nil(t, c, tc.reason)
				return
			}
			require.NotNil(t, c)
			require.Equal(t, tc.want, fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message), tc.reason)
			require.EqualValues(t, 7, c.ObservedGeneration)
			types := map[string]bool{}
			for _, c := range status.Conditions {
				require.False(t, types[c.Type], "one condition of a type")
				types[c.Type] = true
			}
		})
	}
}

func TestRulesAndDerivedConditionsOfAManifest(t *testing.T) {
	outcome := Outcome{
		Meta: resource(0), Presence: Present, Ruled: []metav1.Condition{is("Progressing", "False"), is("Up", "True")},
		Derived: []metav1.Condition{is("Progressing", "True"), is("Degraded", "False")},
	}
	conditions := Status([]Outcome{outcome}, 4, workv1.ManifestWorkStatus{}, start).ResourceStatus.Manifests[0].Conditions
	var kinds []string
	for _, c := range conditions {
		kinds = append(kinds, c.Type+"="+string(c.Status))
		require.EqualValues(t, 4, c.ObservedGeneration)
		require.False(t, c.LastTransitionTime.IsZero())
	}
	require.Equal(t, "Applied=True Available=True StatusFeedbackSynced=True Progressing=False Up=True Degraded=False", strings.Join(kinds, " "))
}

func TestComplete(t *testing.T) {
	before := Status([]Outcome{ruled(0, is("Complete", "True")), ruled(1, is("Complete", "False")), ruled(2)}, 3, workv1.ManifestWorkStatus{}, start)
	moved := []workv1.ManifestResourceMeta{resource(2), resource(1), resource(0)}
	moved[2].Ordinal, moved[2].Version = 7, "v2"
	require.Equal(t, map[int]bool{2: true}, Completed(before, moved), "MW-51: it is the same manifest in another place")
	require.Empty(t, Completed(Incomplete(before), moved))
	require.Equal(t, map[int]bool{2: true}, Completed(before, moved), "the status before is not changed")

	encoded := mustEncode(t, before)
	require.Equal(t, map[int]bool{2: true}, Completed(DecodeAges(encoded, "uid", moved), moved), "MW-51: a restart does not forget it")
	require.Empty(t, Completed(DecodeAges(encoded, "another", moved), moved), "another work of the name is not complete")
	require.NotEmpty(t, DecodeAges(encoded, "another", moved).ResourceStatus.Manifests, "all else is as old as it was")
}
