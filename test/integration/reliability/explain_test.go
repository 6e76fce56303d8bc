// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
)

// stuck is a way in which a work does not get where it should, in namespace why-NAME
// of the spoke, and the words of «fairlead explain work» that name the manifest, the
// field and what the apiserver said.
type stuck struct {
	name    string
	byHand  string // what is on the spoke before
	work    string // spec of the work, of which NS is the namespace
	explain []string
}

// Rights of the agent of these tests: all but those of groups that it has not.
const mostRights = `
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: why}, rules: [{verbs: ["*"], resources: ["*"], apiGroups: ["", apps,
  work.open-cluster-management.io, cluster.open-cluster-management.io, coordination.k8s.io, apiextensions.k8s.io, authorization.k8s.io, rbac.authorization.k8s.io]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: why}, subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: why}],
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: why}}
`

// feedback and rule are configurations of the ConfigMap c.
const (
	configMapC = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS}, data: {k: v}}"
	configOfC  = "manifestConfigs: [{resourceIdentifier: {group: '', resource: configmaps, namespace: NS, name: c}, "
)

func ways() []stuck {
	const refused, here = `stands before "applied": AppliedManifestWorkFailed`, "manifest 0 (v1 ConfigMap NS/c): Applied=False: "
	one := "workload: {manifests: [" + configMapC + "]}"
	return []stuck{
		{
			name: "kind", work: "workload: {manifests: [{apiVersion: test.example.com/v1, kind: Gadget, metadata: {name: g, namespace: NS}}]}",
			explain: []string{refused, "manifest 0 (test.example.com/v1 Gadget NS/g): Applied=False", "test.example.com/v1", "Gadget"},
		},
		{
			name: "field", work: "workload: {manifests: [" + configMapC + ", {apiVersion: v1, kind: Service, metadata: {name: s, namespace: NS}, spec: {ports: [{port: 99999}]}}]}",
			explain: []string{refused, "manifest 1 (v1 Service NS/s): Applied=False: ", `Service "s" is invalid: `, "spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive"},
		},
		{
			name: "type", work: "workload: {manifests: [{apiVersion: v1, kind: Service, metadata: {name: s, namespace: NS}, spec: {ports: many}}]}",
			explain: []string{refused, "manifest 0 (v1 Service NS/s): Applied=False: ", "failed to create typed patch object (NS/s; /v1, Kind=Service): .spec.ports: expected list"},
		},
		{
			name: "forbidden", work: "workload: {manifests: [{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: NS}, spec: {podSelector: {}}}]}",
			explain: []string{refused, "manifest 0 (networking.k8s.io/v1 NetworkPolicy NS/p): Applied=False: ", `User "why" cannot`, `resource "networkpolicies" in API group "networking.k8s.io" in the namespace "NS"`},
		},
		{name: "webhook", work: one, explain: []string{refused, here, `admission webhook "no.example.com" denied the request: not on a Friday`}},
		{name: "quota", work: one, explain: []string{refused, here, `configmaps "c" is forbidden: exceeded quota: small, requested: configmaps=1, used: configmaps=1, limited: configmaps=1`}},
		{name: "terminating", work: one, explain: []string{refused, here, "unable to create new content in namespace NS because it is being terminated"}},
		{
			name: "missing", work: strings.ReplaceAll(one, "NS", "why-nowhere"),
			explain: []string{refused, "manifest 0 (v1 ConfigMap why-nowhere/c): Applied=False: ", `namespaces "why-nowhere" not found`},
		},
		{
			name: "immutable", byHand: "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS}, immutable: true, data: {k: other}}", work: one,
			explain: []string{refused, here, `ConfigMap "c" is invalid: data: Forbidden: field is immutable when `},
		},
		{
			name: "conflict", byHand: "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: NS}, data: {k: other}}",
			work:    one + "\n  " + configOfC + "updateStrategy: {type: ServerSideApply, serverSideApply: {force: false}}}]",
			explain: []string{refused, here, `conflict with "by-hand"`, ".data.k"},
		},
		{
			name: "executor", work: one + "\n  executor: {subject: {type: ServiceAccount, serviceAccount: {namespace: NS, name: nobody}}}",
			explain: []string{refused, here, "not allowed to apply the resource", "configmaps", "system:serviceaccount:NS:nobody"},
		},
		{
			name: "ignored", work: one + "\n  " + configOfC + "updateStrategy: {type: ServerSideApply, serverSideApply: {ignoreFields: [{condition: OnSpokePresent, jqPathExpressions: ['.data[']}]}}}]",
			explain: []string{refused, here, "ignoreFields[0].jqPathExpressions[0]", ".data["},
		},
		{
			name: "feedback", work: one + "\n  " + configOfC + "feedbackRules: [{type: JSONPaths, jsonPaths: [{name: x, path: '.data['}]}]}]",
			explain: []string{"is applied and available", "manifest 0, v1 ConfigMap NS/c: StatusFeedbackSynced=False: ", `"x"`, ".data["},
		},
		{
			name: "rule", work: one + "\n  " + configOfC + "conditionRules: [{condition: Up, type: CEL, celExpressions: ['object.data.k == ']}, {condition: Down, type: CEL, celExpressions: ['object.data.gone == \"\"']}]}]",
			explain: []string{"is applied and available", "manifest 0, v1 ConfigMap NS/c: Up=Unknown: ConditionRuleInvalid: ", "Syntax error", "Down=False: ConditionRuleExpressionError: ", "no such key: gone"},
		},
	}
}

// TestExplainWork: for every way in which a work can be stuck, the CLI names it.
func TestExplainWork(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t)
	config, err := w.spoke.ConfigFor("why")
	require.NoError(t, err)
	kubeconfig := filepath.Join(t.TempDir(), "why.kubeconfig")
	require.NoError(t, env.WriteKubeconfig(kubeconfig, config))
	w.onSpoke(mostRights)
	agent := w.join("why", "--spoke-kubeconfig="+kubeconfig)
	all := ways()
	w.obstacles(all)
	var works []string
	for _, way := range all {
		works = append(works, fmt.Sprintf("apiVersion: work.open-cluster-management.io/v1\nkind: ManifestWork\nmetadata: {name: %s, namespace: why}\nspec:\n  %s\n", way.name, way.local(way.work)))
	}
	_, err = w.hubPlane.KubectlInput(t.Context(), strings.NewReader(strings.Join(works, "---\n")), "create", "-f", "-")
	require.NoError(t, err)
	for _, way := range all {
		t.Run(way.name, func(t *testing.T) {
			for i, words := range way.explain {
				way.explain[i] = way.local(words)
			}
			w.explained(t, "why/"+way.name, way.explain...)
		})
	}
	t.Run("finalizer", func(t *testing.T) { w.explainFinalizer(t) })
	t.Run("on_the_hub", func(t *testing.T) { w.explainOnHub(t) })
	t.Run("agent_away", func(t *testing.T) { w.explainAway(t, agent) })
}

func (s stuck) local(text string) string { return strings.ReplaceAll(text, "NS", "why-"+s.name) }

// explained waits until the CLI says all of words about a work, also as an error.
func (w *world) explained(t *testing.T, work string, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, house.Until(ctx, "the reason of "+work, func(ctx context.Context) (bool, error) {
		out, err := w.hub.CLI(ctx, "explain", "work", work)
		if err != nil {
			out += err.Error()
		}
		return containsAll(out, words...), fmt.Errorf("want %q, and explain says: %s", words, out)
	}))
}

func (w *world) onSpoke(text string) {
	w.t.Helper()
	_, err := w.spoke.KubectlInput(w.t.Context(), strings.NewReader(text), "create", "--field-manager=by-hand", "-f", "-")
	require.NoError(w.t, err)
}

// obstacles makes the namespaces and what stands in the way there.
func (w *world) obstacles(all []stuck) {
	w.t.Helper()
	ctx := w.t.Context()
	var objects []string
	for _, way := range all {
		objects = append(objects, fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: why-%s}}", way.name))
		if way.byHand != "" {
			objects = append(objects, way.local(way.byHand))
		}
	}
	w.onSpoke(strings.Join(objects, "\n---\n"))
	require.NoError(w.t, w.kube.CoreV1().Namespaces().Delete(ctx, "why-terminating", metav1.DeleteOptions{})) // nobody ends it here

	one := corev1.ResourceList{corev1.ResourceConfigMaps: resource.MustParse("1")}
	quotas := w.kube.CoreV1().ResourceQuotas("why-quota")
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "small"}, Spec: corev1.ResourceQuotaSpec{Hard: one}}
	quota, err := quotas.Create(ctx, quota, metav1.CreateOptions{})
	require.NoError(w.t, err)
	quota.Status = corev1.ResourceQuotaStatus{Hard: one, Used: one} // nobody counts here
	_, err = quotas.UpdateStatus(ctx, quota, metav1.UpdateOptions{})
	require.NoError(w.t, err)
	w.refusingWebhook()
	for namespace, why := range map[string]string{"why-quota": "exceeded quota", "why-webhook": "not on a Friday", "why-terminating": "being terminated"} {
		w.until(why, func(ctx context.Context) (bool, error) {
			tried := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "tried"}}
			_, err := w.kube.CoreV1().ConfigMaps(namespace).Create(ctx, tried, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err != nil && strings.Contains(err.Error(), why), err
		})
	}
}

// refusingWebhook refuses every ConfigMap in namespace why-webhook.
func (w *world) refusingWebhook() {
	w.t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Result: &metav1.Status{Message: "not on a Friday"}}
		_ = json.NewEncoder(answer).Encode(review) // the apiserver reports what is missing
	}))
	w.t.Cleanup(server.Close)
	fail, none := registrationv1.Fail, registrationv1.SideEffectClassNone
	_, err := w.kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(w.t.Context(), &registrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "why"},
		Webhooks: []registrationv1.ValidatingWebhook{{
			Name: "no.example.com", FailurePolicy: &fail, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: "why-webhook"}},
			ClientConfig: registrationv1.WebhookClientConfig{
				URL: &server.URL, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
			},
			Rules: []registrationv1.RuleWithOperations{{
				Operations: []registrationv1.OperationType{registrationv1.Create},
				Rule:       registrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
			}},
		}},
	}, metav1.CreateOptions{})
	require.NoError(w.t, err)
}

// explainFinalizer deletes a work whose object somebody keeps on the spoke.
func (w *world) explainFinalizer(t *testing.T) {
	t.Helper()
	w.create("why", "why-kept", "1")
	w.settled("why", "why-kept", "1")
	finalizers := func(value string) {
		patch := fmt.Appendf(nil, `{"metadata":{"finalizers":%s}}`, value)
		_, err := w.kube.CoreV1().ConfigMaps("default").Patch(t.Context(), "why-kept", types.MergePatchType, patch, metav1.PatchOptions{})
		require.NoError(t, err)
	}
	finalizers(`["example.com/keep"]`)
	require.NoError(t, w.works.WorkV1().ManifestWorks("why").Delete(t.Context(), "why-kept", metav1.DeleteOptions{}))
	w.explained(t, "why/why-kept", `stands before "hub-object": it is being deleted`, "configmaps default/why-kept", `it waits for its finalizers ["example.com/keep"]`)
	finalizers("null")
	w.explained(t, "why/why-kept", `cluster "why" has no work "why-kept"`)
}

// explainOnHub has works that do not leave the hub.
func (w *world) explainOnHub(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	w.explained(t, "nowhere/any", `UNKNOWN_CLUSTER`, `no cluster "nowhere"`, "«fairlead get clusters»")
	w.explained(t, "why/any", `cluster "why" has no work "any"`, "«fairlead create work any")
	_, err := w.clusters.ClusterV1().ManagedClusters().Create(ctx, &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: "why-not"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = w.hubKube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "why-not"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	w.create("why-not", "any", "1")
	w.explained(t, "why-not/any", `stands before "cluster-accepted": the hub has not accepted the cluster: «fairlead accept why-not»`)
	w.create("why", "why-large", strings.Repeat("x", 600<<10))
	w.explained(t, "why/why-large", `stands before "hub-object": the hub cannot deliver it: OBJECT_TOO_LARGE`, "bytes, the limit is 512000: split it into several works")
}

// explainAway has an agent that does not answer, one that is not there, and one that may not come.
func (w *world) explainAway(t *testing.T, agent *house.Agent) {
	t.Helper()
	w.create("why", "why-late", "1")
	w.settled("why", "why-late", "1")
	require.NoError(t, agent.Signal(syscall.SIGSTOP))
	w.update("why", "why-late", "2")
	w.explained(t, "why/why-late", `stands before "stored": sent `, "ago, not acknowledged yet", "the spoke has reported generation 1, the hub has 2")
	agent.Kill()
	w.explained(t, "why/why-late", `stands before "session": the cluster's agent has no session`, "«fairlead explain cluster why»")
	_, err := w.clusters.ClusterV1().ManagedClusters().Patch(t.Context(), "why", types.MergePatchType, []byte(`{"spec":{"hubAcceptsClient":false}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	w.explained(t, "why/why-late", `stands before "cluster-accepted": the cluster's acceptance was taken back: set spec.hubAcceptsClient`)
}
