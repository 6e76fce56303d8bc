// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/netfault/check"
)

// refusing is a spoke of its own, whose apiserver and etcd are made to refuse
// writes, and an agent that keeps what it receives in Secrets there.
type refusing struct {
	*world
	plane   *env.Plane
	kube    kubernetes.Interface
	hub     *house.Hub
	cluster string
}

func newRefusing(t *testing.T, etcdFlags ...string) *refusing {
	t.Helper()
	r := &refusing{world: newWorld(t)}
	r.cluster = r.unique("t78")
	r.plane = env.StartPlane(t, env.Options{Name: "refusing", NoAudit: true, EtcdFlags: etcdFlags})
	var err error
	r.kube, err = kubernetes.NewForConfig(r.plane.RESTConfig())
	require.NoError(t, err)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: identity.AgentNamespace}}
	_, err = r.kube.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{})
	require.NoError(t, err)
	r.hub = r.replica(hubOptions{}, r.proxy(""))
	out, err := r.hub.CLI(t.Context(), "token", "create", r.cluster, "--auto-accept")
	require.NoError(t, err)
	r.agent(house.AgentConfig{Cluster: r.cluster, Join: strings.TrimSpace(out), Kubeconfig: r.plane.Kubeconfig(), Flags: []string{"--store=secrets"}})
	r.availability(r.cluster, metav1.ConditionTrue)
	return r
}

// name is that of a work and its object.
func (r *refusing) name(n string) string { return r.cluster + "-" + n }

// want gives a work a new value, and returns it.
func (r *refusing) want(n string) string {
	r.t.Helper()
	value := r.value()
	require.NoError(r.t, r.write(r.t.Context(), check.Work(r.cluster, r.name(n), map[string]string{r.name(n): value})))
	return value
}

// has waits until the spoke has the value, and the hub was told of it.
func (r *refusing) has(n, value string) {
	r.t.Helper()
	r.until(fmt.Sprintf("%s to be %q", n, value), func(ctx context.Context) (bool, error) {
		object, err := r.kube.CoreV1().ConfigMaps(check.Namespace).Get(ctx, r.name(n), metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if object.Data["value"] != value {
			return false, fmt.Errorf("it is %q", object.Data["value"])
		}
		applied, err := r.applied(ctx, n)
		return err == nil && applied.Status == metav1.ConditionTrue, err
	})
}

// applied is the condition Applied of a work's only manifest, if it is about the
// present generation.
func (r *refusing) applied(ctx context.Context, n string) (metav1.Condition, error) {
	work, err := r.works.WorkV1().ManifestWorks(r.cluster).Get(ctx, r.name(n), metav1.GetOptions{})
	if err != nil {
		return metav1.Condition{}, err
	}
	whole := meta.FindStatusCondition(work.Status.Conditions, workv1.WorkApplied)
	if whole == nil || whole.ObservedGeneration != work.Generation || len(work.Status.ResourceStatus.Manifests) == 0 {
		return metav1.Condition{}, fmt.Errorf("generation %d has no status: %+v", work.Generation, work.Status)
	}
	if c := meta.FindStatusCondition(work.Status.ResourceStatus.Manifests[0].Conditions, workv1.ManifestApplied); c != nil {
		return *c, nil
	}
	return metav1.Condition{}, fmt.Errorf("the manifest has no Applied: %+v", work.Status)
}

// saysFalse waits until the hub shows that a work is not applied, and why.
func (r *refusing) saysFalse(n, why string) {
	r.t.Helper()
	r.until(fmt.Sprintf("the hub to say of %s: %s", n, why), func(ctx context.Context) (bool, error) {
		applied, err := r.applied(ctx, n)
		if err == nil {
			err = fmt.Errorf("it says %+v", applied)
		}
		return applied.Status == metav1.ConditionFalse && strings.Contains(applied.Message, why), err
	})
}

// saysUndelivered waits until the hub shows that the agent could not take a work,
// and why.
func (r *refusing) saysUndelivered(n, why string) {
	r.t.Helper()
	r.until(fmt.Sprintf("the hub to say why %s is not delivered: %s", n, why), func(ctx context.Context) (bool, error) {
		out, err := r.hub.CLI(ctx, "explain", "work", r.cluster+"/"+r.name(n))
		if err == nil {
			err = fmt.Errorf("it says %s", out)
		}
		return strings.Contains(out, why), err
	})
}

// refused waits until a write that is only tried fails for a reason.
func (r *refusing) refused(why string, try func(ctx context.Context, configMap *corev1.ConfigMap) error) {
	r.t.Helper()
	r.until("a write to be refused: "+why, func(ctx context.Context) (bool, error) {
		err := try(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "tried", Namespace: check.Namespace}})
		return err != nil && strings.Contains(err.Error(), why), err
	})
}

func (r *refusing) dryRun(ctx context.Context, configMap *corev1.ConfigMap) error {
	_, err := r.kube.CoreV1().ConfigMaps(configMap.Namespace).Create(ctx, configMap, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// TestT78_spoke_takes_no_writes uses up a quota, makes the spoke's apiserver
// refuse every write, and fills its etcd until that has no space: each time the
// hub shows why nothing happens, and all comes right once the cause is gone.
func TestT78_spoke_takes_no_writes(t *testing.T) {
	t.Parallel()
	r := newRefusing(t, "--quota-backend-bytes=16777216")
	first := r.want("first")
	r.has("first", first)
	r.quota()
	r.readOnly()
	r.noSpace()
}

// quota allows one ConfigMap; there is one.
func (r *refusing) quota() {
	ctx, quotas := r.t.Context(), r.kube.CoreV1().ResourceQuotas(check.Namespace)
	limit := func(n string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceConfigMaps: resource.MustParse(n)}
	}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "small"}, Spec: corev1.ResourceQuotaSpec{Hard: limit("1")}}
	quota, err := quotas.Create(ctx, quota, metav1.CreateOptions{})
	require.NoError(r.t, err)
	quota.Status = corev1.ResourceQuotaStatus{Hard: limit("1"), Used: limit("1")} // nobody counts here
	_, err = quotas.UpdateStatus(ctx, quota, metav1.UpdateOptions{})
	require.NoError(r.t, err)
	r.refused("exceeded quota", r.dryRun)
	value := r.want("second")
	r.saysFalse("second", "exceeded quota: small")
	require.NoError(r.t, quotas.Delete(ctx, "small", metav1.DeleteOptions{}))
	r.has("second", value)
}

// readOnly refuses writes to ConfigMaps, and to the Secrets that are the agent's
// store.
func (r *refusing) readOnly() {
	ctx, policies := r.t.Context(), r.kube.AdmissionregistrationV1()
	const text = "the cluster is read-only for maintenance"
	operations := []admissionv1.OperationType{admissionv1.OperationAll}
	rule := admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps", "secrets"}}
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "read-only"}, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{
			ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{Operations: operations, Rule: rule}}},
		},
		Validations: []admissionv1.Validation{{Expression: "false", Message: text}},
	}}
	_, err := policies.ValidatingAdmissionPolicies().Create(ctx, policy, metav1.CreateOptions{})
	require.NoError(r.t, err)
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "read-only"}, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: "read-only", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
	}}
	_, err = policies.ValidatingAdmissionPolicyBindings().Create(ctx, binding, metav1.CreateOptions{})
	require.NoError(r.t, err)
	r.refused(text, r.dryRun)
	value := r.want("first")
	r.saysUndelivered("first", text)
	require.NoError(r.t, policies.ValidatingAdmissionPolicyBindings().Delete(ctx, "read-only", metav1.DeleteOptions{}))
	r.has("first", value)
}

// noSpace fills etcd. What is applied already cannot be corrected then, and what
// is new cannot be stored.
func (r *refusing) noSpace() {
	ctx, configMaps := r.t.Context(), r.kube.CoreV1().ConfigMaps(check.Namespace)
	const text = "database space exceeded"
	kept := r.want("first")
	r.has("first", kept)
	fill := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "fill"}}
	_, err := configMaps.Create(ctx, fill, metav1.CreateOptions{})
	require.NoError(r.t, err)
	n := 0
	r.refused(text, func(ctx context.Context, _ *corev1.ConfigMap) error {
		n++
		fill.Data = map[string]string{"text": strings.Repeat(string(rune('a'+n%26)), 900<<10)}
		_, err := configMaps.Update(ctx, fill, metav1.UpdateOptions{})
		return err
	})
	require.NoError(r.t, configMaps.Delete(ctx, r.name("first"), metav1.DeleteOptions{}), "etcd takes deletes")
	r.saysFalse("first", text)
	value := r.want("third")
	r.saysUndelivered("third", text)

	require.NoError(r.t, configMaps.Delete(ctx, "fill", metav1.DeleteOptions{}))
	require.NoError(r.t, r.plane.FreeEtcd(ctx))
	r.has("first", kept)
	r.has("third", value)
}
