// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	workv1 "open-cluster-management.io/api/work/v1"
)

func subject(t *testing.T, text string) Subject {
	t.Helper()
	live := &unstructured.Unstructured{}
	require.NoError(t, live.UnmarshalJSON([]byte(text)))
	return Subject{Kind: live.GroupVersionKind().GroupKind(), Live: live}
}

func celRule(condition string, expressions ...string) workv1.ConditionRule {
	return workv1.ConditionRule{Condition: condition, Type: workv1.CelConditionExpressionsType, CelExpressions: expressions}
}

func saying(r workv1.ConditionRule, message, expression string) workv1.ConditionRule {
	r.Message, r.MessageExpression = message, expression
	return r
}

const widget = `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"},
  "status":{"replicas":3,"phase":"Up","size":"10Mi","conditions":[{"type":"Ready","status":"True"},{"type":"Stalled","status":"False"}]}}`

const ready = `hasConditions(object.status) && object.status.conditions.exists(c, c.type == "Ready" && c.status == "True")`

func TestCEL(t *testing.T) {
	bare := `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"}}`
	cases := map[string]struct {
		reason string
		object string
		rule   workv1.ConditionRule
		want   string // "status reason message", as far as it is given
	}{
		"MW-46_true":                        {"the condition is as the expression says", widget, celRule("Up", `object.status.phase == "Up"`), "True ConditionRuleEvaluated all"},
		"MW-46_expressions_are_ANDed":       {"one that is false decides, and is named", widget, celRule("Up", `object.status.replicas == 3`, `object.status.phase == "Down"`), "False ConditionRuleEvaluated celExpressions[1] is false"},
		"MW-46_hasConditions":               {"the helper", widget, celRule("Ready", ready), "True ConditionRuleEvaluated"},
		"MW-46_hasConditions_of_no_status":  {"an object without status has none, and that is no error", bare, celRule("Ready", ready), "False ConditionRuleEvaluated"},
		"MW-46_message":                     {"the message is the rule's", widget, saying(celRule("Up", `true`), "it is up", ""), "True ConditionRuleEvaluated it is up"},
		"MW-46_messageExpression":           {"it outdoes message, and sees object and result", widget, saying(celRule("Up", `false`), "m", `object.status.phase + (result ? "!" : "?")`), "False ConditionRuleEvaluated Up?"},
		"MW-46_empty_messageExpression":     {"an empty text leaves the message", widget, saying(celRule("Up", `true`), "m", `""`), "True ConditionRuleEvaluated m"},
		"MW-46_failing_messageExpression":   {"an error leaves the message", widget, saying(celRule("Up", `true`), "m", `object.none`), "True ConditionRuleEvaluated m"},
		"MW-46_failing_without_a_message":   {"or takes its place", widget, saying(celRule("Up", `true`), "", `object.none`), "True ConditionRuleEvaluated messageExpression: no such key: none"},
		"MW-46_libraries_of_Kubernetes":     {"quantities, regular expressions, versions", widget, celRule("Up", `quantity(object.status.size).isGreaterThan(quantity("9Mi"))`, `object.status.phase.find("U") == "U"`, `semver("1.2.3").major() == 1`, `object.status.phase.lowerAscii().matches("^u")`), "True ConditionRuleEvaluated"},
		"MW-46_numbers_of_two_kinds":        {"integers compare with fractions", widget, celRule("Up", `object.status.replicas > 2.5`), "True ConditionRuleEvaluated"},
		"MW-47_runtime_error":               {"an error while it runs is False", bare, celRule("Up", `object.status.phase == "Up"`), "False ConditionRuleExpressionError celExpressions[0]: no such key: status"},
		"MW-47_not_a_bool":                  {"so is another result", widget, celRule("Up", `object.status.phase`), "False ConditionRuleExpressionError celExpressions[0]: it gives string, not bool"},
		"MW-47_does_not_parse":              {"a rule that is no rule is Unknown, with the place", widget, celRule("Up", `true`, `object.status.`), "Unknown ConditionRuleInvalid celExpressions[1]: ERROR: <input>:1:15"},
		"MW-47_wrong_type":                  {"known before it runs", widget, celRule("Up", `"text"`), "Unknown ConditionRuleInvalid celExpressions[0]: it gives string, not bool"},
		"MW-47_undeclared":                  {"a name that is not there", widget, celRule("Up", `self.x`), "Unknown ConditionRuleInvalid celExpressions[0]: ERROR: <input>:1:1: undeclared reference to 'self'"},
		"MW-47_no_expression":               {"nothing to evaluate", widget, celRule("Up"), "Unknown ConditionRuleInvalid the rule has 0 celExpressions"},
		"MW-47_bad_messageExpression":       {"it is part of the rule", widget, saying(celRule("Up", `true`), "m", `1 +`), "Unknown ConditionRuleInvalid messageExpression: "},
		"MW-47_unknown_type":                {"a rule of a later version is named", widget, workv1.ConditionRule{Condition: "Up", Type: "Magic"}, `Unknown ConditionRuleInvalid conditionRules of type "Magic"`},
		"MW-47_pattern_that_is_no_literal":  {"patterns are literals", widget, celRule("Up", `object.status.phase.matches(object.status.phase)`), "Unknown ConditionRuleInvalid celExpressions[0]: matches: a pattern must be a literal text"},
		"MW-47_pattern_that_is_too_large":   {"and of a bounded size", widget, celRule("Up", `object.status.phase.matches("(abcdef{20}){20}{2}")`), "Unknown ConditionRuleInvalid celExpressions[0]: matches: "},
		"MW-47_expression_that_is_too_long": {"and so is the text", widget, celRule("Up", strings.Repeat("true||", 2000)+"true"), "Unknown ConditionRuleInvalid celExpressions[0]: "},
		"long_texts_are_cut":                {"an expression sees the first 8 KiB", `{"apiVersion":"v1","kind":"ConfigMap","data":{"k":"` + strings.Repeat("x", 20_000) + `"}}`, celRule("Up", `size(object.data.k) == 8192`), "True"},
	}
	evaluator, err := New()
	require.NoError(t, err)
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for range 2 { // compiled, then kept
				got := evaluator.Conditions(t.Context(), subject(t, tc.object), []workv1.ConditionRule{tc.rule})
				require.Len(t, got, 1)
				require.Equal(t, tc.rule.Condition, got[0].Type)
				require.Contains(t, fmt.Sprintf("%s %s %s", got[0].Status, got[0].Reason, got[0].Message), tc.want, tc.reason)
			}
		})
	}
}

func TestSubjectsThatAreNotThere(t *testing.T) {
	evaluator, err := New()
	require.NoError(t, err)
	gone := Subject{Kind: subject(t, `{"apiVersion":"batch/v1","kind":"Job"}`).Kind, Unread: "it does not exist"}
	t.Run("MW-47_no_object", func(t *testing.T) {
		got := evaluator.Conditions(t.Context(), gone, []workv1.ConditionRule{celRule("Up", "true"), {Condition: "Complete", Type: workv1.WellKnownConditionsType}, celRule("Bad", "(")})
		require.Len(t, got, 3)
		for _, c := range got[:2] {
			require.Equal(t, "Unknown ConditionRuleInternalError there is no object to evaluate the rule on: it does not exist", fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message))
		}
		require.Equal(t, workv1.ConditionRuleInvalid, got[2].Reason, "a bad rule is one without an object, too")
	})
	t.Run("one_condition_of_a_type", func(t *testing.T) {
		got := evaluator.Conditions(t.Context(), subject(t, widget), []workv1.ConditionRule{celRule("Up", "true"), celRule("Up", "false")})
		require.Len(t, got, 1)
		require.Equal(t, metav1.ConditionTrue, got[0].Status)
	})
}

func TestWellKnown(t *testing.T) {
	job := func(conditions string) string {
		return `{"apiVersion":"batch/v1","kind":"Job","status":{"conditions":[` + conditions + `]}}`
	}
	pod := func(phase string) string {
		return `{"apiVersion":"v1","kind":"Pod","status":{"phase":"` + phase + `"}}`
	}
	cases := map[string]struct{ object, want string }{
		"MW-48_Job_complete":        {job(`{"type":"SuccessCriteriaMet","status":"True"},{"type":"Complete","status":"True"}`), "True ConditionRuleEvaluated Job is finished"},
		"MW-48_Job_failed":          {job(`{"type":"Failed","status":"True"}`), "True ConditionRuleEvaluated Job is finished"},
		"MW-48_Job_running":         {job(`{"type":"Complete","status":"False"}`), "False ConditionRuleEvaluated Job is not finished"},
		"MW-48_Job_without_status":  {`{"apiVersion":"batch/v1","kind":"Job"}`, "False ConditionRuleEvaluated Job is not finished"},
		"MW-48_Pod_succeeded":       {pod("Succeeded"), "True ConditionRuleEvaluated Pod is in phase Succeeded"},
		"MW-48_Pod_failed":          {pod("Failed"), "True ConditionRuleEvaluated Pod is in phase Failed"},
		"MW-48_Pod_running":         {pod("Running"), "False ConditionRuleEvaluated Pod is in phase Running"},
		"MW-48_other_kinds":         {`{"apiVersion":"apps/v1","kind":"Deployment"}`, ""},
		"MW-48_a_Job_of_somebody":   {`{"apiVersion":"example.com/v1","kind":"Job","status":{"conditions":[{"type":"Complete","status":"True"}]}}`, ""},
		"MW-48_a_Pod_without_phase": {`{"apiVersion":"v1","kind":"Pod"}`, "False ConditionRuleEvaluated Pod has no phase"},
	}
	evaluator, err := New()
	require.NoError(t, err)
	for name, tc := range cases {
		for _, condition := range []string{"Complete", ""} {
			t.Run(name+condition, func(t *testing.T) {
				got := evaluator.Conditions(t.Context(), subject(t, tc.object), []workv1.ConditionRule{{Condition: condition, Type: workv1.WellKnownConditionsType}})
				if tc.want == "" {
					require.Empty(t, got)
					return
				}
				require.Len(t, got, 1)
				require.Equal(t, "Complete "+tc.want, fmt.Sprintf("%s %s %s %s", got[0].Type, got[0].Status, got[0].Reason, got[0].Message))
			})
		}
	}
	require.Empty(t, evaluator.Conditions(t.Context(), subject(t, pod("Failed")), []workv1.ConditionRule{{Condition: "Other", Type: workv1.WellKnownConditionsType}}))
}

// hostile are expressions that would take the agent's time or memory if nothing kept them from it.
func hostile() map[string]string {
	numbers := "[" + strings.Repeat("1,", 499) + "1]"
	nested, deep, twice := "true", "1", "a"
	for i := range 6 {
		nested = fmt.Sprintf("%s.all(v%d, %s)", numbers, i, nested)
	}
	for range 40 {
		deep = fmt.Sprintf("[%s].map(a, [a, a])", deep)
	}
	lists := "x == x"
	for i := range 24 {
		inner := "x"
		if i > 0 {
			inner = fmt.Sprintf("y%d", i)
		}
		lists = fmt.Sprintf("[[%s]].exists(%s, %s)", strings.TrimSuffix(strings.Repeat(fmt.Sprintf("y%d,", i+1), 20), ","), inner, lists)
	}
	lists = strings.ReplaceAll(lists, "y24,", "1,")
	lists = strings.ReplaceAll(lists, "y24]", "1]")
	for range 40 {
		twice = fmt.Sprintf("[%s].map(a, a + a)[0]", twice)
	}
	return map[string]string{
		"nested comprehensions":  nested,
		"texts that double":      strings.Replace(twice, "[a]", `["0123456789"]`, 1) + ` == ""`,
		"dynamic texts":          strings.Replace(twice, "[a]", `[object.data.k]`, 1) + ` == ""`,
		"lists that double":      strings.Replace(twice, "[a]", `[[1, 2]]`, 1) + ` == [1]`,
		"lists that share":       deep + " == " + deep,
		"lists that share, bare": lists,
		"replacing":              `object.data.k.replace("x", object.data.k).replace("x", object.data.k) == ""`,
		"searching":              `[1,2,3,4,5,6,7,8,9,10].all(i, [1,2,3,4,5,6,7,8,9,10].all(j, object.data.k.indexOf(object.data.k.substring(1) + "y") == -1))`,
		"comparing the object":   `[1,2,3,4,5,6,7,8,9,10].all(i, [1,2,3,4,5,6,7,8,9,10].all(j, [1,2,3,4,5,6,7,8,9,10].all(k, object == object)))`,
		"a huge number":          `quantity("1e100000000").add(quantity("1")).isGreaterThan(quantity("1"))`,
		"matching":               `object.data.all(k, [1,2,3,4,5,6,7,8,9,10].all(i, !object.data[k].matches("(x+x+)+y")))`,
	}
}

func TestHostileExpressions(t *testing.T) {
	var data strings.Builder
	data.WriteString(`"k":"` + strings.Repeat("x", 100_000) + `"`)
	for i := range 500 {
		fmt.Fprintf(&data, `,"key-%d":"%s"`, i, strings.Repeat("x", 1000))
	}
	on := subject(t, `{"apiVersion":"v1","kind":"ConfigMap","data":{`+data.String()+`}}`)
	evaluator, err := New()
	require.NoError(t, err)
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			got := evaluator.Conditions(t.Context(), on, []workv1.ConditionRule{celRule("Up", text)})
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			t.Logf("%s, %d MiB: %s %s", took, (after.TotalAlloc-before.TotalAlloc)>>20, got[0].Reason, got[0].Message[:min(200, len(got[0].Message))])
			require.NotEqual(t, workv1.ConditionRuleEvaluated, got[0].Reason, "it is not let run to its end")
			require.Less(t, took, 60*maxTime, "a loaded machine is slow, a runaway expression takes hours")
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<30))
		})
	}
}

func TestCompiledProgramsAreBounded(t *testing.T) {
	evaluator, err := New()
	require.NoError(t, err)
	on := subject(t, widget)
	for i := range maxPrograms + 50 {
		evaluator.Conditions(t.Context(), on, []workv1.ConditionRule{celRule("Up", fmt.Sprintf("object.status.replicas == %d", i))})
	}
	require.Equal(t, maxPrograms, evaluator.programs.Len())
	many := make([]string, maxExpressions+1)
	require.Equal(t, workv1.ConditionRuleInvalid, evaluator.Conditions(t.Context(), on, []workv1.ConditionRule{celRule("Up", many...)})[0].Reason)
}

func TestRefusal(t *testing.T) {
	require.NoError(t, Refusal([]workv1.ConditionRule{celRule("Ready", "true"), celRule("example.com/Ready", "true"), {Type: workv1.WellKnownConditionsType}}, "Applied"))
	require.ErrorContains(t, Refusal([]workv1.ConditionRule{celRule("Applied", "true")}, "Applied"), `condition "Applied" is the agent's own`)
	for _, name := range []string{"", "a b", "-", strings.Repeat("x", 400)} {
		require.ErrorContains(t, Refusal([]workv1.ConditionRule{celRule(name, "true")}), "no valid type")
	}
}
