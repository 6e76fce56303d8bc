// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// What the table says of an object.
const (
	nothing = ""
	done    = "done"
	going   = "progressing: "
	failed  = "failed: "
)

func TestOf(t *testing.T) {
	cases := map[string]struct{ reason, object, want string }{
		"ConfigMap":                {"a kind without such state says nothing", `{apiVersion: v1, kind: ConfigMap}`, nothing},
		"a Deployment of somebody": {"the group counts", `{apiVersion: example.com/v1, kind: Deployment}`, nothing},

		"Deployment, not seen":      {"nobody looked at it", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}}`, going + unseen},
		"Deployment, new spec":      {"what its status says is of an older spec", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 2}, status: {observedGeneration: 1, replicas: 2, updatedReplicas: 2, availableReplicas: 2}}`, going + unseen},
		"Deployment, updating":      {"replicas are missing", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 2}, status: {observedGeneration: 2, replicas: 2, updatedReplicas: 1, availableReplicas: 2}}`, going + updating},
		"Deployment, old ones":      {"old replicas go last", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 2}, status: {observedGeneration: 2, replicas: 3, updatedReplicas: 2, availableReplicas: 3}}`, going + replacing},
		"Deployment, not available": {"new replicas must be available", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 2}, status: {observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 1}}`, going + unavailable},
		"Deployment, done":          {"all there", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 2}, status: {observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 2}}`, done},
		"Deployment, scaled to 0":   {"zero is a number", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 0}, status: {observedGeneration: 2}}`, done},
		"Deployment, one is away later": {
			"a rollout that was done is not begun anew while enough are available",
			`{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 3}, status: {observedGeneration: 2, replicas: 3, updatedReplicas: 3, availableReplicas: 2,
			  conditions: [{type: Available, status: "True"}, {type: Progressing, status: "True", reason: NewReplicaSetAvailable}]}}`, done,
		},
		"Deployment, too many are away later": {
			"with less than that it is not what was wanted",
			`{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 3}, status: {observedGeneration: 2, replicas: 3, updatedReplicas: 3, availableReplicas: 1,
			  conditions: [{type: Available, status: "False"}, {type: Progressing, status: "True", reason: NewReplicaSetAvailable}]}}`, going + unavailable,
		},
		"Deployment, deadline": {
			"the controller gave up",
			`{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 1}, status: {observedGeneration: 2, replicas: 1, updatedReplicas: 1,
			  conditions: [{type: Progressing, status: "False", reason: ProgressDeadlineExceeded, message: timed out}]}}`, failed + "ProgressDeadlineExceeded: timed out",
		},
		"Deployment, quota": {
			"Pods cannot be made",
			`{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, status: {observedGeneration: 1, conditions: [{type: ReplicaFailure, status: "True", reason: FailedCreate, message: quota}]}}`, failed + "FailedCreate: quota",
		},
		"Deployment, failed before": {
			"a failure of an older spec is none of the new one",
			`{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 3}, status: {observedGeneration: 2, conditions: [{type: Progressing, status: "False", reason: ProgressDeadlineExceeded}]}}`, going + unseen,
		},
		"Deployment, being deleted": {"it goes", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1, deletionTimestamp: "2026-01-01T00:00:00Z"}, status: {observedGeneration: 1}}`, going + "it is being deleted"},

		"StatefulSet, not seen":    {"nobody looked at it", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 1}}`, going + unseen},
		"StatefulSet, done":        {"all ready", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 1}, spec: {replicas: 2}, status: {observedGeneration: 1, replicas: 2, readyReplicas: 2, availableReplicas: 2, updatedReplicas: 2, updateRevision: b, currentRevision: b}}`, done},
		"StatefulSet, updating":    {"one by one", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 1}, spec: {replicas: 2}, status: {observedGeneration: 1, replicas: 2, readyReplicas: 2, availableReplicas: 2, updatedReplicas: 1, updateRevision: b, currentRevision: a}}`, going + updating},
		"StatefulSet, partition":   {"those below the partition stay old", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 1}, spec: {replicas: 2, updateStrategy: {rollingUpdate: {partition: 1}}}, status: {observedGeneration: 1, replicas: 2, readyReplicas: 2, availableReplicas: 2, updatedReplicas: 1, updateRevision: b, currentRevision: a}}`, done},
		"StatefulSet, OnDelete":    {"nobody updates it", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 1}, spec: {replicas: 1, updateStrategy: {type: OnDelete}}, status: {observedGeneration: 1, replicas: 1, readyReplicas: 1, availableReplicas: 1, updateRevision: b, currentRevision: a}}`, done},
		"StatefulSet, not ready":   {"it waits for its Pods", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 1}, spec: {replicas: 1}, status: {observedGeneration: 1, replicas: 1, updatedReplicas: 1}}`, going + unready},
		"StatefulSet, too few":     {"replicas are missing", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 1}, spec: {replicas: 3}, status: {observedGeneration: 1, replicas: 1}}`, going + "the number of replicas is not reached"},
		"StatefulSet, minReady":    {"ready is not available yet", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 1}, spec: {replicas: 1}, status: {observedGeneration: 1, replicas: 1, readyReplicas: 1, updatedReplicas: 1}}`, going + unavailable},
		"DaemonSet, not seen":      {"nobody looked at it", `{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}}`, going + unseen},
		"DaemonSet, updating":      {"node by node", `{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 2, updatedNumberScheduled: 1, numberAvailable: 2}}`, going + updating},
		"DaemonSet, not available": {"one is not up", `{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 1}}`, going + unavailable},
		"DaemonSet, done":          {"all up", `{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 2}}`, done},
		"DaemonSet, no node":       {"nothing to run on", `{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 0}}`, done},
		"DaemonSet, OnDelete":      {"nobody updates it", `{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, spec: {updateStrategy: {type: OnDelete}}, status: {observedGeneration: 1, desiredNumberScheduled: 1, numberAvailable: 1}}`, done},
		"ReplicaSet, not seen":     {"nobody looked at it", `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {generation: 1}}`, going + unseen},
		"ReplicaSet, too few":      {"replicas are missing", `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {generation: 1}, status: {observedGeneration: 1}}`, going + "the number of replicas is not reached"},
		"ReplicaSet, not up":       {"there, not available", `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {generation: 1}, status: {observedGeneration: 1, replicas: 1}}`, going + unavailable},
		"ReplicaSet, done":         {"all there", `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {generation: 1}, status: {observedGeneration: 1, replicas: 1, availableReplicas: 1}}`, done},
		"ReplicationController":    {"as a ReplicaSet", `{apiVersion: v1, kind: ReplicationController, metadata: {generation: 1}, status: {observedGeneration: 1, replicas: 1, conditions: [{type: ReplicaFailure, status: "True"}]}}`, failed + "replicas cannot be made"},

		"Job, running":   {"not finished", `{apiVersion: batch/v1, kind: Job, status: {active: 1}}`, going + "the Job is not finished"},
		"Job, complete":  {"finished", `{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Complete, status: "True"}]}}`, done},
		"Job, failed":    {"finished badly", `{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Failed, status: "True", reason: BackoffLimitExceeded, message: too often}]}}`, failed + "BackoffLimitExceeded: too often"},
		"Job, suspended": {"as its spec wants it", `{apiVersion: batch/v1, kind: Job, spec: {suspend: true}}`, done},

		"Pod, pending":   {"not ready", `{apiVersion: v1, kind: Pod, status: {phase: Pending}}`, going + "the Pod is not ready"},
		"Pod, ready":     {"ready", `{apiVersion: v1, kind: Pod, status: {phase: Running, conditions: [{type: Ready, status: "True"}]}}`, done},
		"Pod, succeeded": {"it ran to its end", `{apiVersion: v1, kind: Pod, status: {phase: Succeeded}}`, done},
		"Pod, failed":    {"it did not", `{apiVersion: v1, kind: Pod, status: {phase: Failed, reason: Evicted}}`, failed + "Evicted"},
		"Pod, crashing":  {"in the kubelet's words", `{apiVersion: v1, kind: Pod, status: {phase: Running, containerStatuses: [{name: a, state: {running: {}}}, {name: b, state: {waiting: {reason: CrashLoopBackOff}}}]}}`, failed + "container b: CrashLoopBackOff"},
		"Pod, creating":  {"waiting is no failure", `{apiVersion: v1, kind: Pod, status: {phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}}]}}`, going + "the Pod is not ready"},

		"PersistentVolumeClaim, pending": {"no volume", `{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Pending}}`, going + "it is not bound to a volume"},
		"PersistentVolumeClaim, bound":   {"a volume", `{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Bound}}`, done},
		"PersistentVolumeClaim, lost":    {"it lost its volume", `{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Lost}}`, failed + "the volume that it was bound to is lost"},

		"CustomResourceDefinition, new":         {"not served", `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition}`, going + "it is not established"},
		"CustomResourceDefinition, established": {"served", `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, status: {conditions: [{type: NamesAccepted, status: "True"}, {type: Established, status: "True"}]}}`, done},
		"CustomResourceDefinition, names":       {"its names are another's", `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, status: {conditions: [{type: NamesAccepted, status: "False", reason: PluralConflict, message: taken}]}}`, failed + "PluralConflict: taken"},
		"APIService, away":                      {"its server does not answer", `{apiVersion: apiregistration.k8s.io/v1, kind: APIService, status: {conditions: [{type: Available, status: "False", message: no response}]}}`, going + "no response"},
		"APIService":                            {"its server answers", `{apiVersion: apiregistration.k8s.io/v1, kind: APIService, status: {conditions: [{type: Available, status: "True"}]}}`, done},

		"nonsense": {"a status of other types is no status", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: many}, status: {observedGeneration: x, conditions: [1, {type: 2}]}}`, going + unseen},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			raw, err := yaml.YAMLToJSON([]byte(tc.object))
			require.NoError(t, err)
			live := &unstructured.Unstructured{}
			require.NoError(t, live.UnmarshalJSON(raw))
			got := Of(live)
			require.Equal(t, tc.want, told(t, got), tc.reason)
			after, err := json.Marshal(live.Object)
			require.NoError(t, err)
			require.JSONEq(t, string(raw), string(after), "the object is only read")
		})
	}
}

func told(t *testing.T, conditions []metav1.Condition) string {
	t.Helper()
	if conditions == nil {
		return nothing
	}
	require.Len(t, conditions, 2)
	progressing, degraded := conditions[0], conditions[1]
	require.Equal(t, []string{"Progressing", "Degraded"}, []string{progressing.Type, degraded.Type})
	require.NotEmpty(t, progressing.Reason)
	require.NotEmpty(t, degraded.Reason)
	switch {
	case degraded.Status == metav1.ConditionTrue:
		require.Equal(t, metav1.ConditionTrue, progressing.Status, "what failed is not done: rollouts must not take it for success")
		return failed + degraded.Message
	case progressing.Status == metav1.ConditionTrue:
		return going + progressing.Message
	}
	require.Equal(t, metav1.ConditionFalse, progressing.Status)
	return done
}
