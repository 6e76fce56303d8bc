// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// conditions makes conditions of "Type Status Reason message".
func conditions(generation int64, texts ...string) []metav1.Condition {
	var list []metav1.Condition
	for _, text := range texts {
		parts := strings.SplitN(text+" ", " ", 4)
		list = append(list, metav1.Condition{
			Type: parts[0], Status: metav1.ConditionStatus(parts[1]), Reason: parts[2], Message: strings.TrimSpace(parts[3]), ObservedGeneration: generation,
		})
	}
	return list
}

const (
	appliedWell   = "Applied True AppliedManifestComplete"
	availableWell = "Available True ResourceAvailable"
	notApplied    = "Applied False AppliedManifestWorkFailed Failed to apply manifest work"
	workWell      = "Applied True AppliedManifestWorkComplete Apply manifest work complete"
	workAvailable = "Available True ResourcesAvailable All resources are available"
)

func TestExplanationOfWhatTheSpokeSays(t *testing.T) {
	cases := map[string]struct {
		reason             string
		work, manifest     []string
		observed           int64 // 7 is the hub's
		deleting           bool
		option             *workv1.DeleteOption
		held               *adminv1.HeldBatch
		verdict, manifests string
	}{
		"applied": {
			reason: "all is well; what is not Degraded and not Progressing is no trouble", observed: 7,
			work: []string{workWell, workAvailable, "Progressing False Completed", "Degraded False ResourcesNotDegraded"}, manifest: []string{appliedWell, availableWell, "Progressing False Done", "Degraded False NotFailed"},
			verdict: "eu-1/web generation 7 is applied and available",
		},
		"bad kind": {
			reason: "the apiserver's words, with the manifest", observed: 7, work: []string{notApplied},
			manifest:  []string{`Applied False AppliedManifestFailed Failed to apply manifest: the server doesn't have a resource type "Gadget"`, "Available Unknown IncompleteResourceMeta Resource meta is incomplete"},
			verdict:   `stands before "applied": AppliedManifestWorkFailed: Failed to apply manifest work; manifest 3 (apps/v1 Deployment ns/web): Applied=False: Failed to apply manifest: the server doesn't have a resource type "Gadget"`,
			manifests: `Applied=False: Failed to apply manifest: the server doesn't have a resource type "Gadget" | Available=Unknown: Resource meta is incomplete`,
		},
		"MW-70 executor": {
			reason: "verb, resource and subject", observed: 7, work: []string{notApplied},
			manifest: []string{`Applied False AppliedManifestFailed Failed to apply manifest: not allowed to apply the resource apps deployments, ns web: system:serviceaccount:a:b lacks create`, availableWell},
			verdict:  "Applied=False: Failed to apply manifest: not allowed to apply the resource apps deployments, ns web: system:serviceaccount:a:b lacks create",
		},
		"MW-29 conflict": {
			reason: "the field and its owner", observed: 7, work: []string{notApplied},
			manifest: []string{`Applied False AppliedManifestFailed Failed to apply manifest: conflict with "hpa": .spec.replicas`, availableWell},
			verdict:  `Applied=False: Failed to apply manifest: conflict with "hpa": .spec.replicas`,
		},
		"MW-33 ignoreFields": {
			reason: "the rule", observed: 7, work: []string{notApplied},
			manifest: []string{`Applied False AppliedManifestSSAIgnoreFieldError Failed to apply manifest: ignoreFields[0].jqPathExpressions[1] "..": it is no jq expression`, availableWell},
			verdict:  `ignoreFields[0].jqPathExpressions[1] "..": it is no jq expression`,
		},
		"MW-47 CEL": {
			reason: "a rule that is not valid is shown although the work is applied", observed: 7, work: []string{workWell, workAvailable, "Up Unknown ConditionRulesAggregated"},
			manifest:  []string{appliedWell, availableWell, "Up Unknown ConditionRuleInvalid celExpressions[0]: ERROR: <input>:1:8: Syntax error"},
			verdict:   "eu-1/web generation 7 is applied and available",
			manifests: "Up=Unknown: ConditionRuleInvalid: celExpressions[0]: ERROR: <input>:1:8: Syntax error",
		},
		"MW-46 a rule that is false": {
			reason: "in the rule's words", observed: 7, work: []string{workWell, workAvailable}, manifest: []string{appliedWell, availableWell, "Up False ConditionRuleEvaluated it is down"},
			verdict: "is applied and available", manifests: "Up=False: it is down",
		},
		"MW-43 feedback": {
			reason: "the path", observed: 7, work: []string{workWell, workAvailable}, manifest: []string{appliedWell, availableWell, `StatusFeedbackSynced False StatusFeedbackSyncFailed feedback "x": path ".status[" does not parse`},
			verdict: "is applied and available", manifests: `StatusFeedbackSynced=False: feedback "x": path ".status[" does not parse`,
		},
		"MW-14 not available": {
			reason: "the manifest that is not there, not one with another fault", observed: 7, work: []string{workWell, "Available False ResourcesNotAvailable 1 of 1 resources are not available"},
			manifest: []string{appliedWell, "Up False ConditionRuleEvaluated down", "Available False ResourceNotAvailable Resource is not available"},
			verdict:  `stands before "available": ResourcesNotAvailable: 1 of 1 resources are not available; manifest 3 (apps/v1 Deployment ns/web): Available=False: Resource is not available`,
		},
		"MH-22 degraded": {
			reason: "applied is not well", observed: 7, work: []string{workWell, workAvailable, "Progressing True Applying x", "Degraded True ResourcesDegraded Deployment ns/web: ProgressDeadlineExceeded"},
			manifest: []string{appliedWell, availableWell, "Progressing True Failed ProgressDeadlineExceeded", "Degraded True Failed ProgressDeadlineExceeded"},
			verdict:  "is applied and available, and degraded: Deployment ns/web: ProgressDeadlineExceeded", manifests: "Progressing=True: ProgressDeadlineExceeded | Degraded=True: ProgressDeadlineExceeded",
		},
		"MH-22 progressing": {
			reason: "nor done", observed: 7, work: []string{workWell, workAvailable, "Progressing True Applying Deployment ns/web: not all replicas are updated"},
			manifest: []string{appliedWell, availableWell}, verdict: "is applied and available, and still on its way: Deployment ns/web: not all replicas are updated",
		},
		"MW-51 complete": {
			reason: "edits have no effect any more", observed: 5, work: []string{workWell, workAvailable, "Complete True ConditionRulesAggregated Job ns/once: Job is finished"},
			manifest: []string{appliedWell, availableWell}, verdict: "eu-1/web generation 5 is applied and available, and complete: Job ns/once: Job is finished",
		},
		"MW-59 deleting": {
			reason: "the object that blocks it, and why", observed: 7, deleting: true, work: []string{workWell, `Deleting True WorkDeleting waiting for 1 resources to go: configmaps ns/c; removing configmaps ns/c: it waits for its finalizers ["example.com/keep"]`},
			verdict: `stands before "hub-object": it is being deleted and goes when the spoke is clean; its agent is waiting for 1 resources to go: configmaps ns/c; removing configmaps ns/c: it waits for its finalizers ["example.com/keep"]`,
		},
		"MW-54 selective orphan": {
			reason: "what stays", observed: 7, deleting: true, work: []string{workWell},
			option: &workv1.DeleteOption{PropagationPolicy: workv1.DeletePropagationPolicyTypeSelectivelyOrphan, SelectivelyOrphan: &workv1.SelectivelyOrphan{
				OrphaningRules: []workv1.OrphaningRule{{Group: "apps", Resource: "deployments", Namespace: "ns", Name: "web"}, {Resource: "namespaces", Name: "ns"}},
			}},
			verdict: "goes when the spoke is clean; what stays (spec.deleteOption): apps deployments ns/web, namespaces ns",
		},
		"MW-53 orphan": {
			reason: "all stays", observed: 7, deleting: true, work: []string{workWell},
			option:  &workv1.DeleteOption{PropagationPolicy: workv1.DeletePropagationPolicyTypeOrphan},
			verdict: "goes when the spoke is clean; all that it applied stays (spec.deleteOption)",
		},
		"held prune": {
			reason: "which batch, of how many, why, and what to do", observed: 7, work: []string{workWell, workAvailable},
			held: &adminv1.HeldBatch{ClusterName: "eu-1", BatchId: "b7f3", Names: []string{"db", "web"}, Reason: "the hub was restored"},
			verdict: `stands before "stored": what it does not name any more stays on the spoke: its agent holds batch b7f3, of 2 works, ` +
				"because the hub was restored; if they are really meant to go: «fairlead release eu-1 b7f3»",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			work := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Namespace: "eu-1", Name: "web", Generation: 7}}
			if tc.deleting {
				work.DeletionTimestamp = &metav1.Time{Time: time.Now()}
			}
			work.Spec.DeleteOption = tc.option
			work.Status.Conditions = conditions(tc.observed, tc.work...)
			if tc.manifest != nil {
				work.Status.ResourceStatus.Manifests = []workv1.ManifestCondition{{
					ResourceMeta: workv1.ManifestResourceMeta{Ordinal: 3, Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "ns", Name: "web"},
					Conditions:   conditions(tc.observed, tc.manifest...),
				}}
			}
			e := explanation{work: work, readable: true, session: &adminv1.SessionInfo{}, stateKnown: true, held: tc.held, cluster: clusterv1.ManagedCluster{
				Spec: clusterv1.ManagedClusterSpec{HubAcceptsClient: true},
			}}
			answer := e.answer()
			require.Contains(t, answer.GetVerdict(), tc.verdict, tc.reason)
			var shown []string
			for _, m := range answer.GetManifests() {
				require.EqualValues(t, 3, m.GetOrdinal())
				require.Equal(t, "apps/v1 Deployment ns/web", m.GetResource())
				shown = append(shown, m.GetMessage())
			}
			if tc.manifests != "" {
				require.Equal(t, tc.manifests, strings.Join(shown, " | "), tc.reason)
			}
			if name == "applied" {
				require.Empty(t, shown)
			}
		})
	}
}
