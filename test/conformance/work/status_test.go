// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work"
)

func TestStatus(t *testing.T) {
	for name, test := range map[string]func(*bench){
		"MW-12_MW-13_MW-18_applied":          appliedConditions,
		"MW-14_MW-15_deleted_by_hand":        deletedByHand,
		"MW-15_zero_manifests":               zeroManifests,
		"MW-16_existence_is_not_health":      existenceIsNotHealth,
		"MW-17_transition_times":             transitionTimes,
		"MW-38_MW-42_well_known_feedback":    wellKnownFeedback,
		"MW-39_well_known_on_other_kinds":    wellKnownOnOtherKinds,
		"MW-40_json_paths":                   jsonPaths,
		"MW-43_feedback_conditions":          feedbackConditions,
		"MW-44_feedback_within_a_second":     feedbackIsFast,
		"MW-76_reports_carry_the_uid":        reportsCarryTheUID,
		"an_unreachable_spoke_is_not_a_fact": unreachableSpoke,
	} {
		t.Run(name, func(t *testing.T) { test(newBench(t)) })
	}
}

// rule makes a config for one resource of the bench's namespace.
func (b *bench) rule(resource schema.GroupVersionResource, name string, rules ...workv1.FeedbackRule) workv1.ManifestConfigOption {
	return workv1.ManifestConfigOption{
		ResourceIdentifier: workv1.ResourceIdentifier{Group: resource.Group, Resource: resource.Resource, Namespace: b.ns, Name: name},
		FeedbackRules:      rules,
	}
}

var wellKnown = workv1.FeedbackRule{Type: workv1.WellKnownStatusType}

func paths(paths ...workv1.JsonPath) workv1.FeedbackRule {
	return workv1.FeedbackRule{Type: workv1.JSONPathsType, JsonPaths: paths}
}

// values returns feedback as "name=value".
func values(m workv1.ManifestCondition) []string {
	list := []string{}
	for _, v := range m.StatusFeedbacks.Values {
		switch v.Value.Type {
		case workv1.Integer:
			list = append(list, fmt.Sprintf("%s=%d", v.Name, *v.Value.Integer))
		case workv1.Boolean:
			list = append(list, fmt.Sprintf("%s=%t", v.Name, *v.Value.Boolean))
		default:
			list = append(list, fmt.Sprintf("%s=%s", v.Name, *v.Value.String))
		}
	}
	return list
}

func appliedConditions(b *bench) {
	t := b.t
	e := b.start()
	r := b.apply(e, b.work("web", []string{configMap("c", "k: v"), webService}, generation(4)))
	require.Equal(t, "True AppliedManifestWorkComplete Apply manifest work complete", words(cond(t, r.Status.Conditions, "Applied")))
	require.Equal(t, "True ResourcesAvailable All resources are available", words(cond(t, r.Status.Conditions, "Available")))
	for _, c := range r.Status.Conditions {
		require.EqualValues(t, 4, c.ObservedGeneration)
	}
	for _, m := range r.Status.ResourceStatus.Manifests {
		require.Len(t, m.Conditions, 3)
		require.Equal(t, "True AppliedManifestComplete Apply manifest complete", words(cond(t, m.Conditions, "Applied")))
		require.Equal(t, "True ResourceAvailable Resource is available", words(cond(t, m.Conditions, "Available")))
		require.Equal(t, "True NoStatusFeedbackSynced ", words(cond(t, m.Conditions, "StatusFeedbackSynced")))
	}
}

// deletedByHand has the apiserver refuse to make the object anew, so that its absence lasts.
func deletedByHand(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	e := b.start(behind)
	b.apply(e, b.work("web", []string{configMap("c", "k: v"), configMap("d", "k: v")}))
	heal := proxy.Inject(refusal(b.ns, "c"))
	b.delete(configMaps, "c")
	r := b.waitReport("web", func(r work.Report) bool {
		return cond(t, r.Status.Conditions, "Available").Status == metav1.ConditionFalse
	})
	require.Equal(t, "False ResourcesNotAvailable 1 of 2 resources are not available", words(cond(t, r.Status.Conditions, "Available")))
	require.Equal(t, "False ResourceNotAvailable Resource is not available", words(cond(t, manifest(t, r, "c").Conditions, "Available")))
	heal()
	b.waitReport("web", settled)
}

func zeroManifests(b *bench) {
	t := b.t
	e := b.start()
	r := b.deliver(e, b.work("empty", nil))
	require.Equal(t, "Unknown ResourcesStatusUnknown", words(cond(t, r.Status.Conditions, "Available"))[:len("Unknown ResourcesStatusUnknown")])
	require.Equal(t, metav1.ConditionTrue, cond(t, r.Status.Conditions, "Applied").Status)
	require.Empty(t, b.inventory("empty"))
}

func existenceIsNotHealth(b *bench) {
	t := b.t
	e := b.start()
	b.apply(e, b.work("web", []string{webDeployment}))
	b.edit(deployments, "web", `{status: {replicas: 2, unavailableReplicas: 2, conditions: [{type: Available, status: "False"}]}}`, "status")
	b.passes(e, "web", 1)
	require.True(t, settled(b.report("web")))
}

func transitionTimes(b *bench) {
	t := b.t
	clock := newClock()
	e := b.start(func(c *work.Config) { c.Clock = clock })
	first := b.apply(e, b.work("web", []string{configMap("c", "k: v"), configMap("d", "k: v")}))
	clock.advance(time.Hour)
	second := b.apply(e, b.work("web", []string{configMap("new", "k: v"), configMap("c", "k: w")}, generation(2)))

	for _, kind := range []string{"Applied", "Available", "StatusFeedbackSynced"} {
		was, is := cond(t, manifest(t, first, "c").Conditions, kind), cond(t, manifest(t, second, "c").Conditions, kind)
		require.Equal(t, was.LastTransitionTime, is.LastTransitionTime, "an update is no transition")
	}
	require.Equal(t, cond(t, first.Status.Conditions, "Applied").LastTransitionTime, cond(t, second.Status.Conditions, "Applied").LastTransitionTime)
	require.Equal(t, time.Hour, cond(t, manifest(t, second, "new").Conditions, "Applied").LastTransitionTime.Sub(
		cond(t, manifest(t, second, "c").Conditions, "Applied").LastTransitionTime.Time))

	clock.advance(time.Hour)
	third := b.deliver(e, b.work("web", []string{configMap("new", "k: v"), `{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS}, data: {k: [wrong]}}`}, generation(3)))
	require.Equal(t, 2*time.Hour, cond(t, manifest(t, third, "c").Conditions, "Applied").LastTransitionTime.Sub(
		cond(t, manifest(t, second, "c").Conditions, "Applied").LastTransitionTime.Time), "True became False")
	require.Equal(t, cond(t, manifest(t, second, "c").Conditions, "Available").LastTransitionTime,
		cond(t, manifest(t, third, "c").Conditions, "Available").LastTransitionTime, "it is still there")
}

func wellKnownFeedback(b *bench) {
	t := b.t
	e := b.start()
	b.create("", "{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: NS}}")
	template := "{metadata: {labels: {a: b}}, spec: {restartPolicy: %s, containers: [{name: c, image: i}]}}"
	kinds := []struct {
		resource     schema.GroupVersionResource
		text, status string
		want         []string
	}{
		{
			resource: deployments, text: webDeployment, status: `{status: {replicas: 3, updatedReplicas: 3, readyReplicas: 2, availableReplicas: 1}}`,
			want: []string{"ReadyReplicas=2", "Replicas=3", "AvailableReplicas=1"},
		},
		{
			resource: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"},
			text:     `{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: web, namespace: NS}, spec: {selector: {matchLabels: {a: b}}, template: ` + fmt.Sprintf(template, "Always") + `}}`,
			status:   `{status: {numberReady: 1, desiredNumberScheduled: 3, numberAvailable: 2}}`,
			want:     []string{"NumberReady=1", "DesiredNumberScheduled=3", "NumberAvailable=2"},
		},
		{
			resource: schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"},
			text:     `{apiVersion: batch/v1, kind: Job, metadata: {name: web, namespace: NS}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`,
			status: `{status: {succeeded: 1, startTime: "2026-01-01T00:00:00Z", completionTime: "2026-01-01T00:01:00Z",
			  conditions: [{type: SuccessCriteriaMet, status: "True"}, {type: Complete, status: "True"}]}}`,
			want: []string{"JobComplete=True", "JobSucceeded=1"},
		},
		{
			resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"},
			text:     `{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: NS}, spec: {containers: [{name: c, image: i}]}}`,
			status:   `{status: {phase: Running, conditions: [{type: Ready, status: "True"}]}}`,
			want:     []string{"PodReady=True", "PodPhase=Running"},
		},
	}
	for _, kind := range kinds {
		name := kind.resource.Resource
		b.apply(e, b.work(name, []string{kind.text}, withConfig(b.rule(kind.resource, "web", wellKnown))))
		b.edit(kind.resource, "web", kind.status, "status")
		r := b.waitReport(name, func(r work.Report) bool { return len(values(manifest(t, r, "web"))) == len(kind.want) })
		b.eventually(func() error {
			r = b.report(name)
			if got := values(manifest(t, r, "web")); fmt.Sprint(got) != fmt.Sprint(kind.want) {
				return fmt.Errorf("%s: feedback is %v", name, got)
			}
			return nil
		})
		require.Equal(t, "True StatusFeedbackSynced ", words(cond(t, manifest(t, r, "web").Conditions, "StatusFeedbackSynced")))
	}
}

func wellKnownOnOtherKinds(b *bench) {
	t := b.t
	e := b.start()
	r := b.apply(e, b.work("web", []string{configMap("c", "k: v")}, withConfig(b.rule(configMaps, "c", wellKnown))))
	require.Contains(t, words(cond(t, manifest(t, r, "c").Conditions, "StatusFeedbackSynced")), "False StatusFeedbackSyncFailed ")
	require.Empty(t, values(manifest(t, r, "c")))
}

func jsonPaths(b *bench) {
	t := b.t
	e := b.start()
	widget := `{apiVersion: test.fairlead.dev/v1, kind: Widget, metadata: {name: w, namespace: NS}, spec: {size: 1}}`
	b.apply(e, b.work("widget", []string{widget}, withConfig(b.rule(widgets, "w", paths(
		workv1.JsonPath{Name: "count", Path: ".status.count"}, workv1.JsonPath{Name: "phase", Path: ".status.phase"},
		workv1.JsonPath{Name: "ok", Path: ".status.ok"}, workv1.JsonPath{Name: "none", Path: ".status.none"},
		workv1.JsonPath{Name: "ready", Path: `.status.conditions[?(@.type=="Ready")].status`},
	)))))
	b.edit(widgets, "w", `{status: {count: 3, phase: Up, ok: true, conditions: [{type: Other, status: "False"}, {type: Ready, status: "True"}]}}`, "status")
	b.waitReport("widget", func(r work.Report) bool {
		return fmt.Sprint(values(manifest(t, r, "w"))) == "[count=3 phase=Up ok=true ready=True]"
	})
}

func feedbackConditions(b *bench) {
	t := b.t
	e := b.start()
	bad := workv1.JsonPath{Name: "bad", Path: ".metadata.labels"}
	good := workv1.JsonPath{Name: "good", Path: ".data.k"}
	text := `{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS, labels: {a: b}}, data: {k: v}}`
	r := b.apply(e, b.work("web", []string{text}, withConfig(b.rule(configMaps, "c", paths(bad, good)))))
	require.Contains(t, words(cond(t, manifest(t, r, "c").Conditions, "StatusFeedbackSynced")), "False StatusFeedbackSyncFailed ")
	require.Equal(t, []string{"good=v"}, values(manifest(t, r, "c")))
	r = b.apply(e, b.work("web", []string{text}, withConfig(b.rule(configMaps, "c", paths(good))), generation(2)))
	require.Equal(t, "True StatusFeedbackSynced ", words(cond(t, manifest(t, r, "c").Conditions, "StatusFeedbackSynced")))
	r = b.apply(e, b.work("web", []string{text}, generation(3)))
	require.Equal(t, "True NoStatusFeedbackSynced ", words(cond(t, manifest(t, r, "c").Conditions, "StatusFeedbackSynced")))
	require.Empty(t, values(manifest(t, r, "c")))
}

func feedbackIsFast(b *bench) {
	t := b.t
	e := b.start(func(c *work.Config) { c.StatusSyncInterval = time.Hour })
	b.apply(e, b.work("web", []string{webDeployment}, withConfig(b.rule(deployments, "web", wellKnown))))
	for i := range 3 {
		b.edit(deployments, "web", fmt.Sprintf(`{status: {replicas: %d}}`, i+1), "status")
		b.waitReport("web", func(r work.Report) bool {
			return fmt.Sprint(values(manifest(t, r, "web"))) == fmt.Sprintf("[Replicas=%d]", i+1)
		})
	}
}

func reportsCarryTheUID(b *bench) {
	t := b.t
	e := b.start()
	r := b.apply(e, b.work("web", []string{configMap("c", "k: v")}, withUID("first"), generation(9)))
	require.Equal(t, "first", r.UID)
	require.EqualValues(t, 9, r.ObservedGeneration)
	require.Equal(t, []byte("web"), r.Digest)
	r = b.apply(e, b.work("web", []string{configMap("c", "k: v")}, withUID("second")))
	require.Equal(t, "second", r.UID)
}

func unreachableSpoke(b *bench) {
	t := b.t
	proxy, behind := b.behind()
	source := &passCounter{bench: b}
	e := b.start(behind, func(c *work.Config) { c.Source = source })
	b.apply(e, b.work("web", []string{configMap("c", "k: v")}))
	proxy.Close()
	count := b.reportCount("web")
	b.put(b.work("web", []string{configMap("c", "k: w")}, generation(2)))
	begun := source.passes.Load()
	e.Enqueue("web")
	// The passes over a work follow each other: when the third begins, two have ended.
	require.Eventually(t, func() bool { return source.passes.Load() >= begun+3 }, patience, tick)
	require.Equal(t, count, b.reportCount("web"), "nothing is known, so nothing is said")
}

// passCounter is the bench as a source that counts the passes over works.
type passCounter struct {
	*bench

	passes atomic.Int64
}

// Get is work.Source; each pass begins with it.
func (p *passCounter) Get(name string) (work.Desired, bool) {
	p.passes.Add(1)
	return p.bench.Get(name)
}
