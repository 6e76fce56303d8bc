// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/house"
)

// TestAdmission runs the hub as it is deployed, first with the gates as they are
// by default, then with others, and at last without it.
func TestAdmission(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.trusted()
	t.Run("WH-01 how they are called", w.calls)
	t.Run("the Deployment's flags", w.flags)
	t.Run("an agent's whole life", w.agent)
	t.Run("manifests", w.manifests)
	t.Run("clusters", w.clusters)
	t.Run("sets", w.sets)
	t.Run("T74_hostile_works", w.hostile)
	t.Run("WH-17 executors", w.executors)
	t.Run("WH-19 replica sets are off", w.replicaSetsOff)
	t.Run("a bundle that is taken away comes back", w.bundleComesBack)
	w.start("--feature-gates=NilExecutorValidating=true,ManifestWorkReplicaSet=true,CleanUpCompletedManifestWork=true,DefaultClusterSet=false,ClusterProfile=true")
	t.Run("WH-04 no default set", w.noDefaultSet)
	t.Run("WH-18 no executor", w.noExecutor)
	t.Run("WH-19 replica sets", w.replicaSets)
	t.Run("completed works", w.completed)
	t.Run("a certificate of one's own", w.ownCertificate)
	w.stop()
	t.Run("WH-01 the hub is down", w.down)
	w.rightsSuffice()
}

// trusted waits until a work can be created: the hub has told the apiserver whom
// to trust.
func (w *world) trusted() {
	until(w.t, "the apiserver to reach the webhooks", func(ctx context.Context) error {
		return w.kube.Create(ctx, newWork("default", "probe", configMap("a", "")), client.DryRunAll)
	})
}

func (w *world) calls(t *testing.T) {
	var validating admissionregistrationv1.ValidatingWebhookConfiguration
	var mutating admissionregistrationv1.MutatingWebhookConfiguration
	require.NoError(t, w.kube.Get(t.Context(), client.ObjectKey{Name: "fairlead-hub"}, &validating))
	require.NoError(t, w.kube.Get(t.Context(), client.ObjectKey{Name: "fairlead-hub"}, &mutating))
	require.Len(t, validating.Webhooks, 4)
	require.Len(t, mutating.Webhooks, 2)
	for _, hook := range validating.Webhooks {
		require.Equal(t, admissionregistrationv1.Fail, *hook.FailurePolicy, hook.Name)
		require.EqualValues(t, 10, *hook.TimeoutSeconds, hook.Name)
		require.Equal(t, admissionregistrationv1.SideEffectClassNone, *hook.SideEffects, hook.Name)
		require.NotEmpty(t, hook.ClientConfig.CABundle, hook.Name)
	}
	for _, hook := range mutating.Webhooks {
		require.Equal(t, admissionregistrationv1.Fail, *hook.FailurePolicy, hook.Name)
		require.EqualValues(t, 10, *hook.TimeoutSeconds, hook.Name)
		require.Equal(t, admissionregistrationv1.SideEffectClassNone, *hook.SideEffects, hook.Name)
		require.NotEmpty(t, hook.ClientConfig.CABundle, hook.Name)
	}
}

// agent joins, is accepted, gets a work that kubectl made, and gives it up: so the
// rights of the manifests are enough, and the finalizer comes with the work.
func (w *world) agent(t *testing.T) {
	managed := w.plane.Unique("managed")
	join := strings.TrimSpace(w.cli("token", "create", managed, "--auto-accept"))
	agent, err := house.StartAgent(house.AgentConfig{Binaries: w.binaries, Dir: t.TempDir(), Cluster: managed, Join: join, Kubeconfig: w.plane.Kubeconfig()})
	require.NoError(t, err)
	defer agent.Kill()
	until(t, "the cluster to be available", func(ctx context.Context) error {
		cluster := &clusterv1.ManagedCluster{}
		if err := w.kube.Get(ctx, client.ObjectKey{Name: managed}, cluster); err != nil {
			return err
		}
		for _, c := range cluster.Status.Conditions {
			if c.Type == clusterv1.ManagedClusterConditionAvailable && c.Status == metav1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("%+v", cluster.Status.Conditions)
	})
	require.Equal(t, "default", w.cluster(t, managed).Labels[setLabel], "WH-04, with the right of the hub's own account to join it")
	work := newWork(managed, "web", configMap("from-the-hub", "1"))
	require.NoError(t, w.kube.Create(t.Context(), work))
	require.Equal(t, []string{identity.ManifestWorkFinalizer}, work.Finalizers, "MW-02, with the first write")
	require.EqualValues(t, 1, work.Generation)
	config := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: "default", Name: "from-the-hub"}
	until(t, "the work to be applied", func(ctx context.Context) error { return w.kube.Get(ctx, key, config) })
	require.NoError(t, w.kube.Delete(t.Context(), work))
	until(t, "the work to be gone", func(ctx context.Context) error {
		err := w.kube.Get(ctx, client.ObjectKeyFromObject(work), work)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there (%w)", errors.Join(err, errStill))
	})
	require.True(t, apierrors.IsNotFound(w.kube.Get(t.Context(), key, config)))

	elsewhere := newWork(w.plane.Namespace(t, "nobody"), "web", configMap("a", "1"))
	require.NoError(t, w.kube.Create(t.Context(), elsewhere))
	require.Empty(t, elsewhere.Finalizers, "where no agent comes, nobody would take it off")
}

var errStill = errors.New("still")

// manifests creates bad works, and changes a good one into each.
func (w *world) manifests(t *testing.T) {
	namespace := w.plane.Namespace(t, "manifests")
	good := newWork(namespace, "good", configMap("a", "1"))
	require.NoError(t, w.kube.Create(t.Context(), good))
	sized := func(size int) string { return configMap("a", strings.Repeat("x", size-len(configMap("a", "")))) }
	atLimit := newWork(namespace, "at-limit", sized(512_000))
	require.NoError(t, w.kube.Create(t.Context(), atLimit), "WH-16")
	for name, tc := range map[string]struct {
		raw  []string
		is   func(error) bool
		why  string
		says string
	}{
		"WH-14 none":         {nil, apierrors.IsBadRequest, reason.InvalidArgument, "Workload manifests should not be empty"},
		"WH-15 no name":      {[]string{`{"apiVersion":"v1","kind":"ConfigMap"}`}, apierrors.IsBadRequest, reason.Undecodable, "spec.workload.manifests[0]: metadata.name is missing"},
		"WH-15 generateName": {[]string{`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"x-"}}`}, apierrors.IsBadRequest, reason.Undecodable, `generateName is "x-"`},
		"WH-15 duplicate":    {[]string{configMap("a", "1"), configMap("a", "2")}, apierrors.IsBadRequest, reason.InvalidArgument, `spec.workload.manifests[1]: is v1 ConfigMap "a" in namespace "default"`},
		"WH-16 too large":    {[]string{sized(512_001)}, apierrors.IsRequestEntityTooLargeError, reason.ObjectTooLarge, "512001 bytes in all, the limit is 512000"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := newWork(namespace, "bad", tc.raw...)
			changed := good.DeepCopy()
			changed.Spec = *bad.Spec.DeepCopy()
			for verb, err := range map[string]error{"create": w.kube.Create(t.Context(), bad), "update": w.kube.Update(t.Context(), changed)} {
				require.Error(t, err, verb)
				require.True(t, tc.is(err), "%s: %v", verb, err)
				require.ErrorContains(t, err, tc.says, verb)
				require.ErrorContains(t, err, `admission webhook "manifestworks.fairlead.dev" denied the request`, verb)
				_, found := apierrors.StatusCause(err, metav1.CauseType(tc.why))
				require.True(t, found, "%s: machines find %s in %#v", verb, tc.why, err)
			}
		})
	}
	t.Run("WH-15 text", func(t *testing.T) { // which the CRD refuses first
		require.Error(t, w.kube.Create(t.Context(), newWork(namespace, "bad", `"text"`)))
	})
}

func executor(name string) *workv1.ManifestWorkExecutor {
	return &workv1.ManifestWorkExecutor{Subject: workv1.ManifestWorkExecutorSubject{
		Type: workv1.ExecutorSubjectTypeServiceAccount, ServiceAccount: &workv1.ManifestWorkSubjectServiceAccount{Namespace: "apps", Name: name},
	}}
}

// editor lets a group write works in a namespace.
func (w *world) editor(t *testing.T, namespace string) client.Client {
	t.Helper()
	group := "editors-of-" + namespace
	w.allow(namespace, group, "editor", rbacv1.PolicyRule{APIGroups: []string{workv1.GroupName}, Resources: []string{"manifestworks"}, Verbs: []string{"get", "create", "update"}})
	bob := w.client("bob", group)
	untilKnown(t, bob, namespace, &workv1.ManifestWork{})
	return bob
}

func executeAs(names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{workv1.GroupName}, Resources: []string{"manifestworks"}, ResourceNames: names, Verbs: []string{"execute-as"}}
}

func (w *world) executors(t *testing.T) {
	namespace := w.plane.Namespace(t, "executors")
	bob := w.editor(t, namespace)
	work := newWork(namespace, "w", configMap("a", "1"))
	work.Spec.Executor = executor("deployer")
	err := bob.Create(t.Context(), work.DeepCopy())
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	for _, part := range []string{`user "bob"`, `"system:serviceaccount:apps:deployer"`, namespace, "execute-as"} {
		require.ErrorContains(t, err, part)
	}
	require.NoError(t, w.kube.Create(t.Context(), work), "an admin may")

	work.Spec.Workload = newWork("", "", configMap("a", "2")).Spec.Workload
	require.NoError(t, bob.Update(t.Context(), work), "the executor stays as it was")
	changed := work.DeepCopy()
	changed.Spec.Executor = executor("other")
	require.True(t, apierrors.IsForbidden(bob.Update(t.Context(), changed)), "a change of the executor is asked for")

	w.allow(namespace, "editors-of-"+namespace, "executor", executeAs("system:serviceaccount:apps:other"))
	until(t, "the right to be known", func(ctx context.Context) error { return bob.Update(ctx, changed) })
	changed.Spec.Executor = executor("deployer")
	require.True(t, apierrors.IsForbidden(bob.Update(t.Context(), changed)), "another name is another right")
	changed.Spec.Executor = nil
	require.NoError(t, bob.Update(t.Context(), changed), "nobody asks about works without one while the gate is off")
}

func (w *world) noExecutor(t *testing.T) {
	namespace := w.plane.Namespace(t, "no-executor")
	bob := w.editor(t, namespace)
	work := newWork(namespace, "w", configMap("a", "1"))
	err := bob.Create(t.Context(), work.DeepCopy())
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, `"system:serviceaccount::klusterlet-work-sa"`)
	w.allow(namespace, "editors-of-"+namespace, "executor", executeAs("system:serviceaccount::klusterlet-work-sa"))
	until(t, "the right to be known", func(ctx context.Context) error { return bob.Create(ctx, work) })
}

func newReplicaSet(namespace string, raw ...string) *workv1alpha1.ManifestWorkReplicaSet {
	set := &workv1alpha1.ManifestWorkReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "set"}}
	set.Spec.ManifestWorkTemplate = newWork("", "", raw...).Spec
	set.Spec.PlacementRefs = []workv1alpha1.LocalPlacementReference{{Name: "placement"}}
	return set
}

func (w *world) replicaSetsOff(t *testing.T) {
	err := w.kube.Create(t.Context(), newReplicaSet("default", configMap("a", "1")))
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, "ManifestWorkReplicaSet=true")
}

func (w *world) replicaSets(t *testing.T) {
	namespace := w.plane.Namespace(t, "sets")
	set := newReplicaSet(namespace, configMap("a", "1"))
	require.NoError(t, w.kube.Create(t.Context(), set))
	none := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"manifestWorkTemplate":{"workload":{"manifests":[]}}}}`))
	err := w.kube.Patch(t.Context(), set, none)
	require.True(t, apierrors.IsBadRequest(err), "%v", err)
	require.ErrorContains(t, err, "spec.manifestWorkTemplate.workload.manifests: Workload manifests should not be empty")
	bad := newReplicaSet(namespace, configMap("a", "1"), configMap("a", "1"))
	bad.Name = "bad"
	require.True(t, apierrors.IsBadRequest(w.kube.Create(t.Context(), bad)))
	t.Run("WH-17 WH-18 their authors", w.replicaSetAuthors)
}

// replicaSetAuthors: who may write replica sets may not, by the hub's rights, have
// works applied as anybody; and those rights suffice for what they may.
func (w *world) replicaSetAuthors(t *testing.T) {
	namespace, cluster := w.plane.Namespace(t, "authors"), w.plane.Namespace(t, "cluster")
	group := "authors-of-" + namespace
	w.allow(namespace, group, "author", rbacv1.PolicyRule{APIGroups: []string{workv1.GroupName}, Resources: []string{"*"}, Verbs: []string{"*"}})
	bob := w.client("bob", group)
	untilKnown(t, bob, namespace, &workv1alpha1.ManifestWorkReplicaSet{})
	set := newReplicaSet(namespace, configMap("a", "1"))
	err := bob.Create(t.Context(), set.DeepCopy())
	require.True(t, apierrors.IsForbidden(err), "WH-18: every right in the namespace of the set is not enough: %v", err)
	require.ErrorContains(t, err, `ask for a ClusterRole with verb execute-as`)
	set.Spec.ManifestWorkTemplate.Executor = executor("deployer")
	err = bob.Create(t.Context(), set.DeepCopy())
	require.True(t, apierrors.IsForbidden(err), "WH-17: %v", err)
	w.allowEverywhere(group, executeAs("system:serviceaccount:apps:deployer"))
	until(t, "the right to be known", func(ctx context.Context) error { return bob.Create(ctx, set) })

	require.NoError(t, w.kube.Create(t.Context(), &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: "placement", Annotations: map[string]string{v1alpha1.AnnotationScheduler: "this-test"}, // the hub's own leaves it alone
	}}))
	decision := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "d", Labels: map[string]string{clusterv1beta1.PlacementLabel: "placement"}}}
	require.NoError(t, w.kube.Create(t.Context(), decision))
	decision.Status.Decisions = []clusterv1beta1.ClusterDecision{{ClusterName: cluster}}
	require.NoError(t, w.kube.Status().Update(t.Context(), decision))
	works := &workv1.ManifestWorkList{}
	found := func(many int) func(context.Context) error {
		return func(ctx context.Context) error {
			if err := w.kube.List(ctx, works, client.InNamespace(cluster)); err != nil || len(works.Items) != many {
				return fmt.Errorf("%d works (%w)", len(works.Items), errors.Join(err, errStill))
			}
			return nil
		}
	}
	until(t, "the work to be made", found(1))
	require.Equal(t, set.Spec.ManifestWorkTemplate.Executor, works.Items[0].Spec.Executor)
	changed := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"manifestWorkTemplate":{"workload":{"manifests":[`+configMap("a", "2")+`]}}}}`))
	require.NoError(t, bob.Patch(t.Context(), set, changed), "the executor stays as it was")
	until(t, "the work to be changed", func(ctx context.Context) error {
		if err := found(1)(ctx); err != nil || works.Items[0].Generation != 2 {
			return fmt.Errorf("%w", errors.Join(err, errStill))
		}
		return nil
	})
	require.NoError(t, bob.Delete(t.Context(), set))
	until(t, "the work to be gone", found(0))
}

// completed makes works, completes them as an agent would, and sees which stay.
func (w *world) completed(t *testing.T) {
	namespace := w.plane.Namespace(t, "completed")
	completed := func(name string, ttl *int64, label string, complete metav1.ConditionStatus, ago time.Duration) *workv1.ManifestWork {
		work := newWork(namespace, name, configMap("a", "1"))
		work.Spec.DeleteOption = &workv1.DeleteOption{PropagationPolicy: workv1.DeletePropagationPolicyTypeForeground, TTLSecondsAfterFinished: ttl}
		if label != "" {
			work.Labels = map[string]string{label: "ns.set"}
		}
		require.NoError(t, w.kube.Create(t.Context(), work))
		work.Status.Conditions = []metav1.Condition{{
			Type: workv1.WorkComplete, Status: complete, Reason: "R", LastTransitionTime: metav1.NewTime(time.Now().Add(-ago)),
		}}
		require.NoError(t, w.kube.Status().Update(t.Context(), work))
		return work
	}
	stays := []*workv1.ManifestWork{
		completed("not-yet", new(int64(3600)), "", metav1.ConditionTrue, time.Minute),
		completed("for-ever", new(int64(math.MaxInt64)), "", metav1.ConditionTrue, time.Hour),
		completed("not-complete", new(int64(0)), "", metav1.ConditionFalse, time.Hour),
		completed("no-ttl", nil, "", metav1.ConditionTrue, time.Hour),
		completed("of-a-set", new(int64(0)), "work.open-cluster-management.io/manifestworkreplicaset", metav1.ConditionTrue, time.Hour),
	}
	gone := func(work *workv1.ManifestWork) func(context.Context) error {
		return func(ctx context.Context) error {
			if err := w.kube.Get(ctx, client.ObjectKeyFromObject(work), &workv1.ManifestWork{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("%s is there (%w)", work.Name, errors.Join(err, errStill))
			}
			return nil
		}
	}
	t.Run("MH-01 at once", func(t *testing.T) {
		until(t, "it to be gone", gone(completed("zero", new(int64(0)), "", metav1.ConditionTrue, 0)))
	})
	t.Run("MH-01 some seconds later", func(t *testing.T) {
		work := completed("short", new(int64(3)), "", metav1.ConditionTrue, 0)
		due := work.Status.Conditions[0].LastTransitionTime.Add(3 * time.Second)
		until(t, "it to be gone", gone(work))
		require.False(t, time.Now().Before(due), "not before its time")
	})
	t.Run("MH-02 what stays", func(t *testing.T) { // what came later was judged, so these were too
		for _, work := range stays {
			require.NoError(t, w.kube.Get(t.Context(), client.ObjectKeyFromObject(work), work), work.Name)
			require.Nil(t, work.DeletionTimestamp, work.Name)
		}
	})
	t.Run("MH-01 completed while no hub ran", func(t *testing.T) {
		w.stop()
		late := stays[0]
		late.Status.Conditions[0].LastTransitionTime = metav1.NewTime(time.Now().Add(-2 * time.Hour))
		require.NoError(t, w.kube.Status().Update(t.Context(), late))
		w.start("--feature-gates=CleanUpCompletedManifestWork=true")
		until(t, "it to be gone", gone(late))
	})
}

// flags of the Deployment are such that the hub knows: it goes on to look for its
// apiserver.
func (w *world) flags(t *testing.T) {
	var deployment appsv1.Deployment
	require.NoError(t, w.kube.Get(t.Context(), client.ObjectKey{Namespace: identity.HubNamespace, Name: "fairlead-hub"}, &deployment))
	args := []string{"--kubeconfig=/does/not/exist"}
	for _, arg := range slices.Backward(deployment.Spec.Template.Spec.Containers[0].Args) {
		args = slices.Insert(args, 0, strings.NewReplacer("$(POD_IP)", "192.0.2.1", "$(POD_NAME)", "fairlead-hub-0").Replace(arg))
	}
	require.Equal(t, "serve", args[0])
	out, err := exec.CommandContext(t.Context(), w.binaries.Hub, args...).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), `--kubeconfig="/does/not/exist"`)
}

// ownCertificate is read from files; whom the apiserver trusts is then its
// admin's business.
func (w *world) ownCertificate(t *testing.T) {
	ca, err := pki.NewCA("own", time.Now(), time.Hour)
	require.NoError(t, err)
	serving, err := ca.IssueServing([]string{"fairlead-hub-webhook." + identity.HubNamespace + ".svc"}, time.Now(), time.Hour)
	require.NoError(t, err)
	key, err := pki.EncodeKey(serving.PrivateKey.(crypto.Signer))
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/tls.crt", pki.EncodeCertificates(serving.Leaf), 0o600))
	require.NoError(t, os.WriteFile(dir+"/tls.key", key, 0o600))
	w.start("--webhook-cert="+dir+"/tls.crt", "--webhook-key="+dir+"/tls.key")

	bundle := base64.StdEncoding.EncodeToString(pki.EncodeCertificates(ca.Cert))
	out, err := w.plane.KubectlInput(t.Context(), strings.NewReader(strings.ReplaceAll(w.rendered(), "clientConfig:", "clientConfig:\n    caBundle: "+bundle)), "apply", "-f", "-")
	require.NoError(t, err, out)
	w.trusted()
	var configuration admissionregistrationv1.ValidatingWebhookConfiguration
	require.NoError(t, w.kube.Get(t.Context(), client.ObjectKey{Name: "fairlead-hub"}, &configuration))
	require.Equal(t, string(pki.EncodeCertificates(ca.Cert)), string(configuration.Webhooks[0].ClientConfig.CABundle), "the hub adds nothing")
	require.True(t, apierrors.IsBadRequest(w.kube.Create(t.Context(), newWork("default", "bad"))))
}

func (w *world) bundleComesBack(t *testing.T) {
	_, err := w.plane.KubectlInput(t.Context(), strings.NewReader(w.rendered()), "replace", "-f", "-")
	require.NoError(t, err)
	w.trusted()
}

// down shows what goes on without the hub, and what does not.
func (w *world) down(t *testing.T) {
	namespace := "default"
	err := w.kube.Create(t.Context(), newWork(namespace, "late", configMap("a", "1")))
	require.True(t, apierrors.IsInternalError(err), "%v", err)
	require.ErrorContains(t, err, "fairlead-hub-webhook."+identity.HubNamespace+".svc")

	var list workv1.ManifestWorkList
	require.NoError(t, w.kube.List(t.Context(), &list))
	i := slices.IndexFunc(list.Items, func(work workv1.ManifestWork) bool { return work.Name == "good" })
	require.GreaterOrEqual(t, i, 0)
	work := &list.Items[i]
	changed := work.DeepCopy()
	changed.Spec.Workload = newWork("", "", configMap("b", "1")).Spec.Workload
	require.True(t, apierrors.IsInternalError(w.kube.Update(t.Context(), changed)), "specs cannot be changed")

	patch := func(text string) client.Patch { return client.RawPatch("application/merge-patch+json", []byte(text)) }
	require.NoError(t, w.kube.Patch(t.Context(), work, patch(`{"metadata":{"labels":{"a":"b"},"finalizers":["`+identity.ManifestWorkFinalizer+`"]}}`)))
	condition := `{"type":"Applied","status":"True","reason":"R","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}`
	require.NoError(t, w.kube.Status().Patch(t.Context(), work, patch(`{"status":{"conditions":[`+condition+`]}}`)))
	require.NoError(t, w.kube.Delete(t.Context(), work))
	require.NoError(t, w.kube.Patch(t.Context(), work, patch(`{"metadata":{"finalizers":null}}`)), "as the hub does once the spoke is clean")
	require.True(t, apierrors.IsNotFound(w.kube.Get(t.Context(), client.ObjectKeyFromObject(work), work)))
}

// rightsSuffice looks for what the apiserver refused the hub.
func (w *world) rightsSuffice() {
	events, err := w.plane.AuditEvents()
	require.NoError(w.t, err)
	seen := 0
	for _, e := range events {
		if e.User.Username != hubUser || e.ResponseStatus == nil {
			continue
		}
		seen++
		if e.ResponseStatus.Code == 403 {
			w.t.Errorf("deploy/hub/rbac lacks: %s %s: %s", e.Verb, e.RequestURI, e.ResponseStatus.Message)
		}
	}
	require.Positive(w.t, seen)
}
