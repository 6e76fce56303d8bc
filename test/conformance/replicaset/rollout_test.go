// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// by gives the first placementRef a strategy.
func by(strategy clusterv1alpha1.RolloutStrategy) func(*workv1alpha1.ManifestWorkReplicaSet) {
	return func(s *workv1alpha1.ManifestWorkReplicaSet) { s.Spec.PlacementRefs[0].RolloutStrategy = strategy }
}

func progressively(concurrency string, config clusterv1alpha1.RolloutConfig, mandatory ...clusterv1alpha1.MandatoryDecisionGroup) clusterv1alpha1.RolloutStrategy {
	p := &clusterv1alpha1.RolloutProgressive{RolloutConfig: config, MandatoryDecisionGroups: clusterv1alpha1.MandatoryDecisionGroups{MandatoryDecisionGroups: mandatory}}
	if concurrency != "" {
		p.MaxConcurrency = intstr.Parse(concurrency)
	}
	return clusterv1alpha1.RolloutStrategy{Type: clusterv1alpha1.Progressive, Progressive: p}
}

func placementConditions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	s := w.set("web", nil, "p")
	w.awaitCondition(s, "PlacementVerified", "False", "PlacementDecisionNotFound")
	w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing")
	w.awaitCondition(s, "ManifestworkApplied", "False", "PlacementDecisionEmpty")
	w.placement("p", []string{})
	w.awaitCondition(s, "PlacementVerified", "False", "PlacementDecisionEmpty")
	w.awaitCondition(s, "ManifestworkApplied", "False", "PlacementDecisionEmpty")
	w.decide("p", w.clusters)
	w.awaitCondition(s, "PlacementVerified", "True", "AsExpected")
	w.awaitCondition(s, "ManifestworkApplied", "False", "Processing")
	bad := w.set("bad", by(clusterv1alpha1.RolloutStrategy{Type: clusterv1alpha1.Progressive, Progressive: &clusterv1alpha1.RolloutProgressive{
		RolloutConfig: clusterv1alpha1.RolloutConfig{ProgressDeadline: "5mm"},
	}}), "p")
	said := w.awaitCondition(bad, "PlacementVerified", "False", "NotAsExpected")
	require.Contains(t, said.Message, `progressDeadline is "5mm"`)
	require.Empty(t, w.works(t, bad), "nothing is rolled out by a strategy that nobody can read")
}

func counts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	w.placement("p", w.clusters[:2], w.clusters[2:3])
	w.placement("q", w.clusters[3:])
	s := w.set("web", nil, "p", "q")
	w.await(s, "1", w.clusters...)
	w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing")
	w.say(s, succeeded, w.clusters[0])
	w.say(s, progressing, w.clusters[1])
	w.say(s, failed, w.clusters[2])
	w.eventually(func(c *assert.CollectT) {
		require.NoError(c, w.kube.Get(t.Context(), client.ObjectKeyFromObject(s), s))
		require.Equal(c, []workv1alpha1.PlacementSummary{
			{Name: "p", AvailableDecisionGroups: "2 (3 / 3 clusters applied)", Summary: workv1alpha1.ManifestWorkReplicaSetSummary{
				Total: 3, DesiredTotal: 3, Applied: 3, Available: 3, Progressing: 2, Degraded: 1, Updated: 3,
			}},
			{Name: "q", AvailableDecisionGroups: "1 (0 / 2 clusters applied)", Summary: workv1alpha1.ManifestWorkReplicaSetSummary{Total: 2, DesiredTotal: 2}},
		}, s.Status.PlacementsSummary)
		require.Equal(c, workv1alpha1.ManifestWorkReplicaSetSummary{
			Total: 5, DesiredTotal: 5, Applied: 3, Available: 3, Progressing: 2, Degraded: 1, Updated: 3,
		}, s.Status.Summary)
	})
	said := w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing")
	require.Contains(t, said.Message, `placement "p": 1 of 3 clusters succeeded, 1 in progress, 1 failed`)
	w.say(s, succeeded, w.clusters...)
	w.awaitCondition(s, "ManifestworkApplied", "True", "AsExpected")
	w.awaitCondition(s, "PlacementRolledOut", "True", "Complete")
}

func allAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	w.placement("p", w.clusters)
	s := w.set("web", by(clusterv1alpha1.RolloutStrategy{
		Type: clusterv1alpha1.All, Progressive: &clusterv1alpha1.RolloutProgressive{MaxConcurrency: intstr.FromInt32(1)},
	}), "p")
	w.await(s, "1", w.clusters...)
	w.say(s, failed, w.clusters...)
	patch(w, s, func(s *workv1alpha1.ManifestWorkReplicaSet) {
		s.Spec.ManifestWorkTemplate.Workload.Manifests = []workv1.Manifest{configMap("2")}
	})
	w.await(s, "2", w.clusters...)
}

func progressive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	c := w.clusters
	w.placement("p", []string{c[4], c[2], c[0]}, []string{c[3], c[1]})
	s := w.set("web", by(progressively("25%", clusterv1alpha1.RolloutConfig{})), "p")
	w.await(s, "1", c[:2]...) // 25 % of 5, rounded up, by the alphabet across groups
	w.say(s, progressing, c[0])
	w.say(s, succeeded, c[1])
	w.await(s, "1", c[:3]...)
	w.say(s, succeeded, c[0], c[2])
	w.await(s, "1", c...)
	w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing")
	w.say(s, succeeded, c[3:]...)
	w.awaitCondition(s, "PlacementRolledOut", "True", "Complete")

	q := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "q"}}
	q.Spec.DecisionStrategy.GroupStrategy.ClustersPerDecisionGroup = intstr.FromInt32(3)
	require.NoError(t, w.kube.Create(t.Context(), q))
	w.decide("q", c)
	w.await(w.set("default", by(progressively("", clusterv1alpha1.RolloutConfig{})), "q"), "1", c[:3]...)
	w.await(w.set("no-default", by(progressively("", clusterv1alpha1.RolloutConfig{})), "p"), "1", c...)
}

func mandatory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	c := w.clusters
	w.placement("p", c[3:], c[:2], c[2:3])
	groups := []clusterv1alpha1.MandatoryDecisionGroup{{GroupName: "canary"}, {GroupIndex: 2}, {GroupName: "nobody"}}
	s := w.set("web", by(progressively("1", clusterv1alpha1.RolloutConfig{MaxFailures: intstr.FromInt32(3)}, groups...)), "p")
	w.await(s, "1", c[3])
	w.say(s, succeeded, c[3])
	w.await(s, "1", c[3], c[4])
	w.say(s, failed, c[4])
	said := w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing")
	require.Contains(t, said.Message, `no mandatory decision groups "nobody"`)
	w.eventually(func(ct *assert.CollectT) {
		said = w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing")
		require.Contains(ct, said.Message, "stopped since 1 of the mandatory decision group", "maxFailures is not for them")
	})
	require.Len(t, w.works(t, s), 2)
	w.say(s, succeeded, c[4])
	w.await(s, "1", c[2], c[3], c[4])
	w.say(s, succeeded, c[2])
	w.await(s, "1", c[0], c[2], c[3], c[4])
}

func groupByGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6)
	c := w.clusters
	w.placement("p", c[:2], c[2:4], c[4:])
	s := w.set("web", by(clusterv1alpha1.RolloutStrategy{Type: clusterv1alpha1.ProgressivePerGroup, ProgressivePerGroup: &clusterv1alpha1.RolloutProgressivePerGroup{
		RolloutConfig:           clusterv1alpha1.RolloutConfig{MaxFailures: intstr.FromString("50%"), ProgressDeadline: "1h"},
		MandatoryDecisionGroups: clusterv1alpha1.MandatoryDecisionGroups{MandatoryDecisionGroups: []clusterv1alpha1.MandatoryDecisionGroup{{GroupIndex: 1}}},
	}}), "p")
	w.await(s, "1", c[2:4]...)
	w.say(s, succeeded, c[2])
	w.settled(s)
	require.Len(t, w.works(t, s), 2, "the group is not done")
	w.say(s, succeeded, c[3])
	w.await(s, "1", c[:4]...)
	w.say(s, succeeded, c[0])
	w.say(s, failed, c[1])
	w.settled(s)
	require.Len(t, w.works(t, s), 4, "one that failed has its hour")
	w.say(s, failed, c[0])
	w.eventually(func(ct *assert.CollectT) {
		require.Contains(ct, w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing").Message, "stopped since 2 of the decision group")
	})
	w.say(s, succeeded, c[0], c[1])
	w.await(s, "1", c...)
}

func soak(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.placement("p", w.clusters)
	s := w.set("web", by(progressively("1", clusterv1alpha1.RolloutConfig{MinSuccessTime: metav1.Duration{Duration: 3 * time.Second}})), "p")
	work := w.await(s, "1", w.clusters[0])[w.clusters[0]]
	// It succeeded long ago by what it says, with what it had before.
	w.sayAt(s, succeeded, time.Now().Add(-time.Hour), w.clusters[0])
	second := w.await(s, "1", w.clusters...)[w.clusters[1]]
	require.GreaterOrEqual(t, second.CreationTimestamp.Sub(work.CreationTimestamp.Time), 2*time.Second, "give or take the second that times have; counted from when it got the content")
}

func deadlineRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	c := w.clusters
	w.placement("p", c)
	s := w.set("web", by(progressively("2", clusterv1alpha1.RolloutConfig{ProgressDeadline: "15s", MaxFailures: intstr.FromInt32(2)})), "p")
	work := w.await(s, "1", c[:2]...)[c[0]]
	w.say(s, progressing, c[0]) // and c[1] says nothing: it is not connected
	third := w.await(s, "1", c...)[c[2]]
	require.GreaterOrEqual(t, third.CreationTimestamp.Sub(work.CreationTimestamp.Time), 14*time.Second, "give or take a second")
	w.say(s, succeeded, c[2])
	w.eventually(func(ct *assert.CollectT) {
		require.Contains(ct, w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing").Message, "3 of the clusters failed or timed out, 2 may")
	})
}

// blocked: a cluster whose namespace is missing and one whose old work is still
// being deleted hold no place, and have theirs when they can.
func blocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	c, nowhere := w.clusters, w.plane.Unique("a-nowhere")
	w.placement("p", c[:1])
	s := w.set("web", by(progressively("1", clusterv1alpha1.RolloutConfig{})), "p")
	old := w.await(s, "1", c[0])[c[0]]
	patch(w, &old, func(work *workv1.ManifestWork) { work.Finalizers = []string{"example.com/agent"} })
	require.NoError(t, w.kube.Delete(t.Context(), &old))
	w.decide("p", append([]string{nowhere}, c...))
	w.await(s, "1", c[1])
	w.eventually(func(ct *assert.CollectT) {
		said := w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing")
		require.Contains(ct, said.Message, "1 in progress, 2 could not be given the content yet, 1 wait")
	})
	w.say(s, succeeded, c[1])
	w.await(s, "1", c[1], c[2])
	patch(w, &old, func(work *workv1.ManifestWork) { work.Finalizers = nil })
	w.settled(s)
	require.Len(t, w.works(t, s), 2, "it is one at a time for them, too")
	w.say(s, succeeded, c[2])
	w.await(s, "1", c...)
	require.NoError(t, w.kube.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: nowhere}}))
	w.say(s, succeeded, c[0])
	w.await(s, "1", append([]string{nowhere}, c...)...)
	w.say(s, succeeded, nowhere)
	w.awaitCondition(s, "PlacementRolledOut", "True", "Complete")
}

// blockedTooLong: past its deadline such a cluster counts as a failure, which it
// ends when it has the content and succeeds.
func blockedTooLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	c, nowhere := w.clusters, w.plane.Unique("a-nowhere")
	w.placement("p", append([]string{nowhere}, c...))
	s := w.set("web", by(progressively("1", clusterv1alpha1.RolloutConfig{ProgressDeadline: "15s"})), "p")
	w.await(s, "1", c[0])
	stopped := func(who string) {
		w.eventually(func(ct *assert.CollectT) {
			said := w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing")
			require.Contains(ct, said.Message, "failed or timed out, 0 may: "+who)
		})
	}
	stopped(nowhere + ", " + c[0])
	w.say(s, succeeded, c[0])
	stopped(nowhere)
	require.Len(t, w.works(t, s), 1)
	require.NoError(t, w.kube.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: nowhere}}))
	w.await(s, "1", nowhere, c[0])
	w.say(s, succeeded, nowhere)
	w.await(s, "1", nowhere, c[0], c[1])
}

func failures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	c := w.clusters
	w.placement("p", c)
	for name, most := range map[string]string{"percent": "26%", "number": "2", "invalid": "1000%"} {
		s := w.set(name, by(progressively("3", clusterv1alpha1.RolloutConfig{MaxFailures: intstr.FromInt32(2)})), "p")
		if name == "invalid" {
			s = w.set("negative", by(progressively("3", clusterv1alpha1.RolloutConfig{MaxFailures: intstr.FromInt32(-5)})), "p")
		} else {
			patch(w, s, by(progressively("3", clusterv1alpha1.RolloutConfig{MaxFailures: intstr.Parse(most)})))
		}
		w.await(s, "1", c[:3]...)
		w.say(s, failed, c[0])
		if name == "invalid" { // as 0
			w.say(s, succeeded, c[1])
			w.settled(s)
			require.Len(t, w.works(t, s), 3)
			continue
		}
		w.say(s, succeeded, c[1])
		w.await(s, "1", c...) // one of two may fail
	}
	s := w.set("none", by(progressively("1", clusterv1alpha1.RolloutConfig{})), "p")
	w.await(s, "1", c[0])
	w.say(s, failed, c[0])
	w.eventually(func(ct *assert.CollectT) {
		said := w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing")
		require.Contains(ct, said.Message, "stopped since 1 of the clusters failed or timed out, 0 may: "+c[0])
	})
	require.Len(t, w.works(t, s), 1)
}

func stateOfAWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.placement("p", w.clusters)
	s := w.set("web", by(progressively("1", clusterv1alpha1.RolloutConfig{})), "p")
	w.await(s, "1", w.clusters[0])
	stays := func(why string) {
		w.settled(s)
		require.Len(t, w.works(t, s), 1, why)
	}
	w.say(s, unsaid, w.clusters[0])
	stays("no condition Progressing")
	w.say(s, progressing, w.clusters[0])
	stays("in progress")
	work := w.works(t, s)[w.clusters[0]]
	report := func(applied, progressing int64, status metav1.ConditionStatus) {
		w.eventually(func(c *assert.CollectT) {
			work = w.works(c, s)[w.clusters[0]]
			now := metav1.Now()
			work.Status.Conditions = []metav1.Condition{
				{Type: "Applied", Status: status, Reason: "R", ObservedGeneration: applied, LastTransitionTime: now},
				{Type: "Progressing", Status: "False", Reason: "R", ObservedGeneration: progressing, LastTransitionTime: now},
			}
			require.NoError(c, w.kube.Status().Update(t.Context(), &work))
		})
	}
	report(work.Generation, work.Generation+1, "True")
	stays("Progressing of another generation")
	report(work.Generation+1, work.Generation, "True")
	stays("Applied of another generation")
	report(work.Generation, work.Generation, "False")
	stays("not applied")
	report(work.Generation, work.Generation, "True")
	w.await(s, "1", w.clusters...)
}

func newTemplate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	c := w.clusters
	w.placement("p", c)
	s := w.set("web", by(progressively("1", clusterv1alpha1.RolloutConfig{})), "p")
	for i := range c {
		w.await(s, "1", c[:i+1]...)
		w.say(s, succeeded, c[i])
	}
	w.awaitCondition(s, "PlacementRolledOut", "True", "Complete")
	before := w.works(t, s)
	patch(w, s, func(s *workv1alpha1.ManifestWorkReplicaSet) {
		s.Spec.ManifestWorkTemplate.Workload.Manifests = []workv1.Manifest{configMap("2")}
	})
	w.await(s, "2", c[0])
	w.await(s, "1", c[1], c[2])
	w.awaitCondition(s, "PlacementRolledOut", "False", "Progressing")
	w.eventually(func(ct *assert.CollectT) {
		require.NoError(ct, w.kube.Get(t.Context(), client.ObjectKeyFromObject(s), s))
		require.Equal(ct, 0, s.Status.Summary.Updated)
		require.Equal(ct, 3, s.Status.Summary.Applied)
	})
	w.say(s, succeeded, c[0])
	w.await(s, "2", c[:2]...)
	w.eventually(func(ct *assert.CollectT) {
		require.NoError(ct, w.kube.Get(t.Context(), client.ObjectKeyFromObject(s), s))
		require.Equal(ct, 1, s.Status.Summary.Updated)
	})
	w.say(s, succeeded, c[1])
	after := w.await(s, "2", c...)
	for _, cluster := range c {
		require.Equal(t, before[cluster].UID, after[cluster].UID, "changed in place")
	}
}

// everything: what the apiserver makes of a spec is what it is compared with, so a
// work is not patched again and again.
func everything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.placement("p", w.clusters)
	s := w.set("web", func(s *workv1alpha1.ManifestWorkReplicaSet) {
		spec := &s.Spec.ManifestWorkTemplate
		spec.DeleteOption = &workv1.DeleteOption{PropagationPolicy: workv1.DeletePropagationPolicyTypeSelectivelyOrphan, SelectivelyOrphan: &workv1.SelectivelyOrphan{
			OrphaningRules: []workv1.OrphaningRule{{Resource: "configmaps", Namespace: "default", Name: "a"}},
		}, TTLSecondsAfterFinished: new(int64(9007199254740993))}
		spec.ManifestConfigs = []workv1.ManifestConfigOption{{
			ResourceIdentifier: workv1.ResourceIdentifier{Resource: "configmaps", Namespace: "default", Name: "a"},
			FeedbackRules:      []workv1.FeedbackRule{{Type: workv1.JSONPathsType, JsonPaths: []workv1.JsonPath{{Name: "x", Path: ".data.v"}}}},
			UpdateStrategy:     &workv1.UpdateStrategy{Type: workv1.UpdateStrategyTypeServerSideApply, ServerSideApply: &workv1.ServerSideApplyConfig{Force: true}},
			ConditionRules:     []workv1.ConditionRule{{Condition: "Progressing", Type: workv1.CelConditionExpressionsType, CelExpressions: []string{"true"}}},
		}}
		spec.Executor = &workv1.ManifestWorkExecutor{Subject: workv1.ManifestWorkExecutorSubject{
			Type: workv1.ExecutorSubjectTypeServiceAccount, ServiceAccount: &workv1.ManifestWorkSubjectServiceAccount{Namespace: "apps", Name: "deployer"},
		}}
		spec.Workload.Manifests = append(spec.Workload.Manifests, workv1.Manifest{})
		spec.Workload.Manifests[1].Raw = []byte(` {"kind" : "Thing", "apiVersion":"example.com/v1", "metadata":{"name":"<&>"}, "spec":{"n":1.0, "z":null, "e":{}, "big":9007199254740993, "l":[]}}`)
	}, "p")
	work := w.await(s, "1", w.clusters...)[w.clusters[0]]
	require.JSONEq(t, inJSON(t, s.Spec.ManifestWorkTemplate), inJSON(t, work.Spec))
	w.say(s, succeeded, w.clusters[0])
	w.awaitCondition(s, "PlacementRolledOut", "True", "Complete")
	w.settled(s)
	require.EqualValues(t, 1, w.works(t, s)[w.clusters[0]].Generation)
}

// burst: many statuses within a moment are few writes of the set's own.
func burst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 12)
	w.placement("p", w.clusters)
	s := w.set("web", nil, "p")
	w.await(s, "1", w.clusters...)
	w.settled(s)
	watch := w.plane.RESTConfig()
	watching, err := client.NewWithWatch(watch, client.Options{Scheme: w.kube.Scheme()})
	require.NoError(t, err)
	stream, err := watching.Watch(t.Context(), &workv1alpha1.ManifestWorkReplicaSetList{}, client.InNamespace(w.namespace))
	require.NoError(t, err)
	defer stream.Stop()
	began := time.Now()
	for range 5 {
		w.say(s, progressing, w.clusters...)
		w.say(s, succeeded, w.clusters...)
	}
	w.awaitCondition(s, "PlacementRolledOut", "True", "Complete")
	took := time.Since(began)
	stream.Stop()
	written := 0
	for range stream.ResultChan() {
		written++
	}
	require.LessOrEqual(t, written, int(took/(50*time.Millisecond))+5, "at most one for each time that changes are gathered")
	require.Less(t, written, 120, "of as many statuses")
	require.NotContains(t, strings.ToLower(s.Status.Conditions[0].Message), "fail")
}
