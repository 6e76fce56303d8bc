// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/agent/work/feedback"
)

var jobs = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}

func TestRules(t *testing.T) {
	for name, test := range map[string]func(*bench){
		"MW-46_MW-49_MW-50_CEL_follows_the_object":   celFollowsTheObject,
		"MW-47_rules_that_cannot_be_followed":        rulesThatFail,
		"MW-48_MW-51_a_complete_work_rests":          completeWorkRests,
		"MW-51_a_complete_manifest_is_not_applied":   completeManifestIsNotApplied,
		"MW-51_another_work_of_the_name_starts_anew": anotherWorkStartsAnew,
		"MW-41_raw_JSON":                             rawJSON,
		"MW-45_watched_or_polled_is_the_same":        scrapeTypes,
		"MH-22_workloads_say_when_they_are_done":     workloadsSayWhenTheyAreDone,
		"MH-22_MW-18_works_without_workloads_do_too": configMapsAreDoneWhenApplied,
		"T35_applied_is_said_of_what_was_applied":    appliedIsSaidOfWhatWasApplied,
		"MW-46_conditions_of_the_agent":              reservedConditions,
	} {
		t.Run(name, func(t *testing.T) { test(newBench(t)) })
	}
}

// conditionRules makes a config with rules for one resource of the bench's namespace.
func (b *bench) conditionRules(resource schema.GroupVersionResource, name string, rules ...workv1.ConditionRule) workv1.ManifestConfigOption {
	config := b.rule(resource, name)
	config.ConditionRules = rules
	return config
}

func celRule(condition, expression string) workv1.ConditionRule {
	return workv1.ConditionRule{Condition: condition, Type: workv1.CelConditionExpressionsType, CelExpressions: []string{expression}}
}

var finished = workv1.ConditionRule{Condition: "Complete", Type: workv1.WellKnownConditionsType}

func widget(name string) string {
	return fmt.Sprintf(`{apiVersion: test.fairlead.dev/v1, kind: Widget, metadata: {name: %s, namespace: NS}, spec: {size: 1}}`, name)
}

func job(name, label string) string {
	return fmt.Sprintf(`{apiVersion: batch/v1, kind: Job, metadata: {name: %s, namespace: NS, labels: {l: %s}},
	  spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`, name, label)
}

const jobDone = `{status: {succeeded: 1, startTime: "2026-01-01T00:00:00Z", completionTime: "2026-01-01T00:01:00Z",
  conditions: [{type: SuccessCriteriaMet, status: "True"}, {type: Complete, status: "True"}]}}`

// deleteJob deletes a Job at once: this plane has nobody who would take a finalizer off.
func (b *bench) deleteJob(name string) {
	b.t.Helper()
	background := metav1.DeletePropagationBackground
	require.NoError(b.t, b.in(jobs).Delete(b.t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &background}))
}

// said returns a condition of the work in the last report, "" if it has none.
func said(r work.Report, kind string) string {
	if r.Status == nil {
		return ""
	}
	c := meta.FindStatusCondition(r.Status.Conditions, kind)
	if c == nil {
		return ""
	}
	return words(*c)
}

func (b *bench) waitSaid(name, kind, want string) work.Report {
	b.t.Helper()
	return b.waitReport(name, func(r work.Report) bool { return strings.Contains(said(r, kind), want) })
}

func celFollowsTheObject(b *bench) {
	t := b.t
	e := b.start()
	rule := celRule("Up", `hasConditions(object.status) && object.status.conditions.exists(c, c.type == "Ready" && c.status == "True")`)
	rule.MessageExpression = `result ? "up" : "down"`
	up, down := `{status: {conditions: [{type: Ready, status: "True"}]}}`, `{status: {conditions: [{type: Ready, status: "False"}]}}`
	configs := withConfig(b.conditionRules(widgets, "*", rule))
	b.apply(e, b.work("web", []string{widget("v"), widget("w")}, configs, generation(3)))
	b.waitSaid("web", "Up", "False ConditionRulesAggregated Widget "+b.ns+"/v: down")
	b.edit(widgets, "v", up, "status")
	r := b.waitSaid("web", "Up", "False ConditionRulesAggregated Widget "+b.ns+"/w: down")
	require.Equal(t, "True ConditionRuleEvaluated up", words(cond(t, manifest(t, r, "v").Conditions, "Up")))
	require.Equal(t, "False ConditionRuleEvaluated down", words(cond(t, manifest(t, r, "w").Conditions, "Up")))
	b.edit(widgets, "w", up, "status")
	r = b.waitSaid("web", "Up", "True ConditionRulesAggregated")
	require.EqualValues(t, 3, cond(t, r.Status.Conditions, "Up").ObservedGeneration)
	require.EqualValues(t, 3, cond(t, manifest(t, r, "w").Conditions, "Up").ObservedGeneration)
	since := cond(t, r.Status.Conditions, "Up").LastTransitionTime
	require.False(t, since.IsZero())
	b.edit(widgets, "w", down, "status")
	b.waitSaid("web", "Up", "False ConditionRulesAggregated")

	r = b.apply(e, b.work("web", []string{widget("v"), widget("w")}, generation(4)))
	require.Empty(t, said(r, "Up"), "the rule is gone, and its conditions with it")
	require.Nil(t, meta.FindStatusCondition(manifest(t, r, "v").Conditions, "Up"))
}

func rulesThatFail(b *bench) {
	t := b.t
	e := b.start()
	r := b.apply(e, b.work("web", []string{widget("w")}, withConfig(b.conditionRules(widgets, "w",
		celRule("Bad", `object.status.`), celRule("Missing", `object.status.phase == "Up"`)))))
	conditions := manifest(t, r, "w").Conditions
	require.Contains(t, words(cond(t, conditions, "Bad")), "Unknown ConditionRuleInvalid celExpressions[0]: ERROR")
	require.Contains(t, words(cond(t, conditions, "Missing")), "False ConditionRuleExpressionError celExpressions[0]: no such key: status")
	require.Contains(t, said(r, "Bad"), "Unknown ConditionRulesAggregated Widget "+b.ns+"/w: celExpressions[0]: ERROR")
	require.True(t, b.exists(widgets, "w"), "the object is applied all the same")
}

func completeWorkRests(b *bench) {
	t := b.t
	e := b.start()
	configs := withConfig(b.conditionRules(jobs, "once", finished))
	b.apply(e, b.work("once", []string{job("once", "a"), configMap("c", "k: v")}, configs, generation(5)))
	b.waitSaid("once", "Complete", "False ConditionRulesAggregated Job "+b.ns+"/once: Job is not finished")
	b.edit(jobs, "once", jobDone, "status")
	done := b.waitSaid("once", "Complete", "True ConditionRulesAggregated Job "+b.ns+"/once: Job is finished")

	// An edit, an object that somebody removes, and a restart: nothing of that counts any more.
	edited := b.work("once", []string{job("once", "b"), configMap("c", "k: w"), configMap("new", "k: v")}, generation(6))
	r := b.deliver(e, edited)
	require.Equal(t, done.Status, r.Status, "what is said stays what it was, of the generation that it was")
	require.EqualValues(t, 5, cond(t, r.Status.Conditions, "Applied").ObservedGeneration)
	b.deleteJob("once")
	e.stop()
	restarted := b.start()
	count := b.reportCount("once")
	restarted.ResendAll()
	b.eventually(func() error {
		if b.reportCount("once") == count {
			return errors.New("nothing is reported")
		}
		return nil
	})
	r = b.report("once")
	require.Equal(t, describe(done), strings.Replace(describe(r), "generation 6", "generation 5", 1))
	require.EqualValues(t, 5, cond(t, r.Status.Conditions, "Applied").ObservedGeneration)
	require.Equal(t, cond(t, done.Status.Conditions, "Complete").LastTransitionTime.UTC(), cond(t, r.Status.Conditions, "Complete").LastTransitionTime.UTC())
	require.Equal(t, "v", field(b.get(configMaps, "c"), "data", "k"))
	require.False(t, b.exists(configMaps, "new"))
	require.False(t, b.exists(jobs, "once"), "it is not made anew")

	b.remove(restarted, "once")
	b.waitGone(configMaps, "c")
}

func completeManifestIsNotApplied(b *bench) {
	t := b.t
	e := b.start()
	configs := withConfig(b.conditionRules(jobs, "*", finished))
	b.apply(e, b.work("two", []string{job("one", "a"), job("other", "a")}, configs))
	b.edit(jobs, "one", jobDone, "status")
	b.waitReport("two", func(r work.Report) bool {
		return cond(t, manifest(t, r, "one").Conditions, "Complete").Status == metav1.ConditionTrue
	})
	b.apply(e, b.work("two", []string{job("one", "b"), job("other", "b")}, configs, generation(2)))
	require.Equal(t, "b", b.get(jobs, "other").GetLabels()["l"])
	require.Equal(t, "a", b.get(jobs, "one").GetLabels()["l"], "it is complete")

	b.deleteJob("one") // as ttlSecondsAfterFinished does
	r := b.waitReport("two", func(r work.Report) bool {
		return cond(t, manifest(t, r, "one").Conditions, "Available").Status == metav1.ConditionFalse
	})
	require.Equal(t, "True ConditionRuleEvaluated it was complete, which is final", words(cond(t, manifest(t, r, "one").Conditions, "Complete")))
	e.stop()
	e = b.start()
	b.deliver(e, b.work("two", []string{job("one", "b"), job("other", "c")}, configs, generation(3)))
	require.False(t, b.exists(jobs, "one"), "a restart does not forget it")
	b.waitField(jobs, "other", "c", "metadata", "labels", "l")

	b.apply(e, b.work("two", []string{job("one", "d"), job("other", "d")}, generation(4)))
	require.Equal(t, "d", b.get(jobs, "one").GetLabels()["l"], "without the rule it is a manifest like any other")
}

func anotherWorkStartsAnew(b *bench) {
	e := b.start()
	configs := withConfig(b.conditionRules(jobs, "once", finished))
	b.apply(e, b.work("once", []string{job("once", "a")}, configs, withUID("first")))
	b.edit(jobs, "once", jobDone, "status")
	b.waitSaid("once", "Complete", "True")
	e.stop()
	b.deleteJob("once")
	e = b.start()
	b.apply(e, b.work("once", []string{job("once", "b")}, configs, withUID("second")))
	require.Equal(b.t, "b", b.get(jobs, "once").GetLabels()["l"])
}

func rawJSON(b *bench) {
	t := b.t
	text := `{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS, labels: {a: b}}, data: {k: v}}`
	configs := withConfig(b.rule(configMaps, "c", paths(workv1.JsonPath{Name: "labels", Path: ".metadata.labels"})))
	e := b.start()
	r := b.apply(e, b.work("raw", []string{text}, configs))
	require.Contains(t, words(cond(t, manifest(t, r, "c").Conditions, "StatusFeedbackSynced")), "False StatusFeedbackSyncFailed ")
	e.stop()
	e = b.start(func(c *work.Config) { c.Feedback = feedback.Limits{RawJSON: true, RawLength: 1024} })
	b.put(b.work("raw", []string{text}, configs, generation(2)))
	e.Enqueue("raw")
	r = b.waitReport("raw", func(r work.Report) bool { return len(manifest(t, r, "c").StatusFeedbacks.Values) == 1 })
	value := manifest(t, r, "c").StatusFeedbacks.Values[0]
	require.Equal(t, workv1.JsonRaw, value.Value.Type)
	require.JSONEq(t, `{"a":"b"}`, *value.Value.JsonRaw)
}

// scrapeTypes has nothing looked at by time, so that what is reported came from a watch.
func scrapeTypes(b *bench) {
	e := b.start(func(c *work.Config) { c.StatusSyncInterval = time.Hour })
	for _, kind := range []workv1.FeedbackScrapeType{workv1.FeedbackWatchType, workv1.FeedbackPollType} {
		name := strings.ToLower(string(kind))
		config := b.rule(widgets, name, paths(workv1.JsonPath{Name: "count", Path: ".status.count"}))
		config.FeedbackScrapeType = kind
		b.apply(e, b.work(name, []string{widget(name)}, withConfig(config)))
		b.edit(widgets, name, `{status: {count: 7}}`, "status")
		b.waitReport(name, func(r work.Report) bool { return fmt.Sprint(values(manifest(b.t, r, name))) == "[count=7]" })
	}
}

func workloadsSayWhenTheyAreDone(b *bench) {
	t := b.t
	e := b.start()
	r := b.apply(e, b.work("web", []string{webDeployment, configMap("c", "k: v")}, generation(2)))
	require.Equal(t, "True Applying Deployment "+b.ns+"/web: its controller has not seen the latest spec yet", said(r, "Progressing"))
	require.Len(t, manifest(t, r, "web").Conditions, 5)
	require.Len(t, manifest(t, r, "c").Conditions, 3, "MW-18: a kind without such state has three")
	at := b.get(deployments, "web").GetGeneration()
	b.edit(deployments, "web", fmt.Sprintf(`{status: {observedGeneration: %d, replicas: 2, updatedReplicas: 2, readyReplicas: 2, availableReplicas: 2}}`, at), "status")
	b.waitReport("web", func(r work.Report) bool {
		return strings.HasPrefix(said(r, "Progressing"), "True Applying") || said(r, "Progressing") == "False Completed All resources are as the work wants them"
	})
	wanted, _ := field(b.get(deployments, "web"), "spec", "replicas").(int64)
	b.edit(deployments, "web", fmt.Sprintf(`{status: {observedGeneration: %d, replicas: %d, updatedReplicas: %[2]d, readyReplicas: %[2]d, availableReplicas: %[2]d}}`, at, wanted), "status")
	r = b.waitSaid("web", "Progressing", "False Completed")
	require.EqualValues(t, 2, cond(t, r.Status.Conditions, "Progressing").ObservedGeneration)
	require.Equal(t, "False ResourcesNotDegraded No resource has failed", said(r, "Degraded"))
	b.edit(deployments, "web", fmt.Sprintf(`{status: {observedGeneration: %d, conditions: [{type: Progressing, status: "False", reason: ProgressDeadlineExceeded, message: timed out}]}}`, at), "status")
	r = b.waitSaid("web", "Degraded", "True ResourcesDegraded Deployment "+b.ns+"/web: ProgressDeadlineExceeded: timed out")
	require.Contains(t, said(r, "Progressing"), "True ", "a rollout must take it for a failure")
}

func configMapsAreDoneWhenApplied(b *bench) {
	t := b.t
	e := b.start()
	r := b.apply(e, b.work("web", []string{configMap("c", "k: v")}, generation(7)))
	require.Equal(t, "False Completed All resources are as the work wants them", said(r, "Progressing"))
	require.EqualValues(t, 7, cond(t, r.Status.Conditions, "Progressing").ObservedGeneration)
	require.Empty(t, said(r, "Degraded"))
	require.Len(t, manifest(t, r, "c").Conditions, 3)
	r = b.deliver(e, b.work("web", []string{`{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS}, data: {k: [wrong]}}`}, generation(8)))
	require.Contains(t, said(r, "Progressing"), "True Failed ConfigMap "+b.ns+"/c: Failed to apply manifest: ")
}

// appliedIsSaidOfWhatWasApplied edits faster than it is applied, and looks at the object whenever Applied is said of it.
func appliedIsSaidOfWhatWasApplied(b *bench) {
	t := b.t
	e := b.start()
	const last = 40
	for n := int64(1); n <= last; n++ {
		text := configMap("c", fmt.Sprintf("k: v%d", n))
		if n%3 == 0 {
			text = fmt.Sprintf(`{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS}, data: {k: [v%d]}}`, n)
		}
		b.put(b.work("web", []string{text}, generation(n)))
		e.Enqueue("web")
		r := b.report("web")
		if r.Status == nil {
			continue
		}
		applied := cond(t, r.Status.Conditions, "Applied")
		require.Equal(t, r.ObservedGeneration, applied.ObservedGeneration)
		if applied.Status == metav1.ConditionTrue {
			require.NotZero(t, applied.ObservedGeneration%3, "that generation cannot be applied")
			value, _ := field(b.get(configMaps, "c"), "data", "k").(string)
			var is int64
			_, err := fmt.Sscanf(value, "v%d", &is)
			require.NoError(t, err)
			require.GreaterOrEqual(t, is, applied.ObservedGeneration, "it was applied before it was said")
		}
	}
	b.waitReport("web", func(r work.Report) bool { return r.ObservedGeneration == last && settled(r) })
	b.waitField(configMaps, "c", fmt.Sprintf("v%d", last), "data", "k")
}

func reservedConditions(b *bench) {
	t := b.t
	e := b.start()
	r := b.deliver(e, b.work("web", []string{widget("w")}, withConfig(b.conditionRules(widgets, "w", celRule("Applied", "true")))))
	require.Contains(t, words(cond(t, manifest(t, r, "w").Conditions, "Applied")), `conditionRules: condition "Applied" is the agent's own, no rule can set it`)
	require.False(t, b.exists(widgets, "w"))
}
