// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cleanup

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	addonv1alpha1 "open-cluster-management.io/api/addon/v1alpha1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/condition"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard()) //nolint:forbidigo // the library logs to nobody in tests
	env.Main(m, env.Options{Name: "cleanup", CRDs: deploy.HubCRDs()})
}

// waits is the finalizer of somebody who has to be waited for.
const waits = "test.fairlead.dev/waits"

// bench is the controller, a step at a time, and one cluster of a test.
type bench struct {
	*controller
	t    *testing.T
	name string
	said *events.FakeRecorder
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	plane := env.Shared(t)
	scheme := runtime.NewScheme()
	require.NoError(t, errors.Join(clientgoscheme.AddToScheme(scheme), clusterv1.Install(scheme), workv1.Install(scheme), addonv1alpha1.Install(scheme)))
	admin, err := client.New(plane.RESTConfig(), client.Options{Scheme: scheme})
	require.NoError(t, err)
	objects, err := metadata.NewForConfig(plane.RESTConfig())
	require.NoError(t, err)
	resources, err := ParseResources(DefaultResources())
	require.NoError(t, err)
	said := events.NewFakeRecorder(16)
	b := &bench{t: t, name: plane.Unique("c"), said: said, controller: &controller{
		client: admin, live: admin, objects: objects, removed: newRemovals(), events: said,
		cfg:        Config{Enabled: true, Resources: resources, Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler)},
		conditions: condition.Writer{Client: admin, FieldManager: FieldManager, Clock: clock.RealClock{}},
	}}
	require.NoError(t, admin.Create(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: b.name}}))
	require.NoError(t, admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: b.name, Labels: map[string]string{identity.ClusterNameLabel: b.name},
	}}))
	b.step()
	return b
}

// step is one look of the controller; again tells whether it wants another.
func (b *bench) step() (again bool) {
	b.t.Helper()
	result, err := b.Reconcile(b.t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: b.name}})
	require.NoError(b.t, err)
	return result.RequeueAfter > 0
}

func (b *bench) cluster() *clusterv1.ManagedCluster {
	b.t.Helper()
	cluster := &clusterv1.ManagedCluster{}
	require.NoError(b.t, b.client.Get(b.t.Context(), client.ObjectKey{Name: b.name}, cluster))
	return cluster
}

func (b *bench) delete() {
	b.t.Helper()
	require.NoError(b.t, b.client.Delete(b.t.Context(), b.cluster()))
}

func (b *bench) condition() *metav1.Condition {
	b.t.Helper()
	return meta.FindStatusCondition(b.cluster().Status.Conditions, clusterv1.ManagedClusterConditionDeleting)
}

func (b *bench) meta(name, priority string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Name: name, Namespace: b.name, Finalizers: []string{waits}}
	if priority != "" {
		m.Annotations = map[string]string{clusterv1.CleanupPriorityAnnotationKey: priority}
	}
	return m
}

func (b *bench) work(name, priority string) *workv1.ManifestWork {
	b.t.Helper()
	work := &workv1.ManifestWork{ObjectMeta: b.meta(name, priority)}
	require.NoError(b.t, b.client.Create(b.t.Context(), work))
	return work
}

func (b *bench) addOn(name string) *addonv1alpha1.ManagedClusterAddOn {
	b.t.Helper()
	addOn := &addonv1alpha1.ManagedClusterAddOn{ObjectMeta: b.meta(name, "")}
	require.NoError(b.t, b.client.Create(b.t.Context(), addOn))
	return addOn
}

// state is "there", "deleted" while it waits for its finalizer, or "gone".
func (b *bench) state(o client.Object) string {
	b.t.Helper()
	err := b.client.Get(b.t.Context(), client.ObjectKeyFromObject(o), o)
	switch {
	case apierrors.IsNotFound(err):
		return "gone"
	case o.GetDeletionTimestamp().IsZero():
		require.NoError(b.t, err)
		return "there"
	}
	return "deleted"
}

// finish is what an agent or an add-on manager does once it is clean.
func (b *bench) finish(objects ...client.Object) {
	b.t.Helper()
	for _, o := range objects {
		require.Equal(b.t, "deleted", b.state(o))
		o.SetFinalizers(nil)
		require.NoError(b.t, b.client.Update(b.t.Context(), o))
	}
}

func (b *bench) gone() {
	b.t.Helper()
	err := b.client.Get(b.t.Context(), client.ObjectKey{Name: b.name}, &clusterv1.ManagedCluster{})
	require.True(b.t, apierrors.IsNotFound(err), "%v", err)
}

func TestCleanup(t *testing.T) {
	for name, row := range map[string]func(*testing.T, *bench){
		"RC-66_every_cluster_has_the_finalizer":            everyCluster,
		"RC-66_gate_off_takes_it_off":                      gateOff,
		"RC-67_in_order_each_batch_awaited":                inOrder,
		"RC-68_condition_and_events":                       conditions,
		"RC-68_an_error_is_in_the_condition":               failing,
		"RC-70_leftovers_of_a_cluster_gone_by_force":       leftovers,
		"RC-70_absence_alone_deletes_nothing":              absence,
		"RC-70_what_was_begun_goes_on_in_another_process":  another,
		"a_namesake_does_not_inherit_the_mark":             namesake,
		"a_cluster_without_a_namespace_goes_at_once":       noNamespace,
		"kinds_that_are_not_served_have_nothing_to_delete": notServed,
	} {
		t.Run(name, func(t *testing.T) { row(t, newBench(t)) })
	}
}

func everyCluster(t *testing.T, b *bench) {
	t.Helper()
	cluster := b.cluster()
	require.False(t, cluster.Spec.HubAcceptsClient)
	require.Equal(t, []string{"cluster.open-cluster-management.io/resource-cleanup"}, cluster.Finalizers)
	version := cluster.ResourceVersion
	require.False(t, b.step())
	require.Equal(t, version, b.cluster().ResourceVersion, "nothing is written twice")
}

func gateOff(t *testing.T, b *bench) {
	t.Helper()
	work := b.work("stays", "")
	b.delete()
	b.cfg.Enabled = false
	require.False(t, b.step())
	b.gone()
	require.Equal(t, "there", b.state(work), "with the gate off the user deletes works")
}

func inOrder(t *testing.T, b *bench) {
	t.Helper()
	addOn, plain, bad := b.addOn("addon"), b.work("plain", ""), b.work("bad", "101")
	ten, last := b.work("ten", "10"), b.work("last", "100")
	b.delete()
	batches := [][]client.Object{{addOn}, {plain, bad}, {ten}, {last}}
	for i, batch := range batches {
		require.True(t, b.step())
		for _, o := range batch {
			require.Equal(t, "deleted", b.state(o), "batch %d", i)
		}
		require.True(t, b.step(), "a batch is awaited")
		for _, later := range batches[i+1:] {
			for _, o := range later {
				require.Equal(t, "there", b.state(o), "it is not its turn: batch %d", i)
			}
		}
		b.finish(batch...)
	}
	require.False(t, b.step())
	b.gone()
}

func conditions(t *testing.T, b *bench) {
	t.Helper()
	first, second := b.work("first", ""), b.work("second", "5")
	cluster := b.cluster()
	cluster.Finalizers = append(cluster.Finalizers, waits) // somebody else's: to see the last word
	require.NoError(t, b.client.Update(t.Context(), cluster))
	b.delete()
	b.step()
	said := b.condition()
	require.Equal(t, metav1.ConditionFalse, said.Status)
	require.Equal(t, "ResourceRemaining", said.Reason)
	require.Equal(t, "2 manifestworks.work.open-cluster-management.io left", said.Message)
	b.step()
	require.Equal(t, "2 manifestworks.work.open-cluster-management.io left, 1 of them deleted and waiting for finalizers", b.condition().Message)
	b.finish(first)
	b.step()
	b.finish(second)
	b.step()
	said = b.condition()
	require.Equal(t, metav1.ConditionTrue, said.Status)
	require.Equal(t, "NoResource", said.Reason)
	require.Contains(t, <-b.said.Events, "Normal ResourceCleanupCompleted")
	cluster = b.cluster()
	require.Equal(t, []string{waits}, cluster.Finalizers)
	cluster.Finalizers = nil
	require.NoError(t, b.client.Update(t.Context(), cluster))
}

func failing(t *testing.T, b *bench) {
	t.Helper()
	work := b.work("work", "")
	right := b.cfg.Resources
	b.cfg.Resources = append([]schema.GroupVersionResource{{Version: "v1", Resource: "bindings"}}, right...) // these cannot be listed
	b.delete()
	_, err := b.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: b.name}})
	require.ErrorContains(t, err, "listing bindings")
	said := b.condition()
	require.Equal(t, metav1.ConditionFalse, said.Status)
	require.Equal(t, "DeletingError", said.Reason)
	require.Contains(t, said.Message, "listing bindings")
	require.Contains(t, <-b.said.Events, "Warning ResourceCleanupFail")
	require.Equal(t, "there", b.state(work), "what cannot be looked at may have to go first")
	b.cfg.Resources = right
	b.step()
	b.finish(work)
	b.step()
	b.gone()
}

// force takes all finalizers off a cluster that is deleted.
func (b *bench) force() types.UID {
	b.t.Helper()
	cluster := b.cluster()
	cluster.Finalizers = nil
	require.NoError(b.t, b.client.Update(b.t.Context(), cluster))
	b.gone()
	return cluster.UID
}

func (b *bench) marked() string {
	b.t.Helper()
	namespace, err := b.namespace(b.t.Context(), b.name)
	require.NoError(b.t, err)
	return namespace.Labels[LeavingLabel]
}

func leftovers(t *testing.T, b *bench) {
	t.Helper()
	first, second := b.work("first", ""), b.work("second", "1")
	b.delete()
	uid := b.force()
	b.removed.add(b.name, uid) // the watch said so
	require.True(t, b.step())
	require.Equal(t, "deleted", b.state(first))
	require.Equal(t, "there", b.state(second))
	require.Equal(t, string(uid), b.marked())
	b.finish(first)
	require.True(t, b.step())
	b.finish(second)
	require.False(t, b.step())
	require.Empty(t, b.marked(), "it is clean")
}

func absence(t *testing.T, b *bench) {
	t.Helper()
	work := b.work("precious", "")
	b.delete()
	b.force() // and nobody saw it: as after a restore
	require.False(t, b.step())
	require.Equal(t, "there", b.state(work), "absence never deletes")
}

func another(t *testing.T, b *bench) {
	t.Helper()
	work, next := b.work("work", ""), b.work("next", "1")
	b.delete()
	b.step()
	uid := b.force()
	require.Equal(t, string(uid), b.marked())
	b.removed = newRemovals() // a process that has seen nothing
	b.finish(work)
	require.True(t, b.step())
	require.Equal(t, "deleted", b.state(next))
	b.finish(next)
	require.False(t, b.step())
}

func namesake(t *testing.T, b *bench) {
	t.Helper()
	work := b.work("work", "")
	b.delete()
	b.step()
	b.force()
	require.NotEmpty(t, b.marked())
	require.NoError(t, b.client.Create(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: b.name}}))
	b.step()
	require.Empty(t, b.marked())
	b.finish(work)
	b.work("its-own", "")
	require.False(t, b.step())
}

func noNamespace(t *testing.T, b *bench) {
	t.Helper()
	b.name = env.Shared(t).Unique("bare")
	require.NoError(t, b.client.Create(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: b.name}}))
	b.step()
	b.delete()
	require.False(t, b.step())
	b.gone()
}

func notServed(t *testing.T, b *bench) {
	t.Helper()
	b.cfg.Resources = append([]schema.GroupVersionResource{{Group: "nowhere.example", Version: "v1", Resource: "things"}}, b.cfg.Resources...)
	b.delete()
	require.False(t, b.step())
	b.gone()
}

func TestParseResources(t *testing.T) {
	got, err := ParseResources([]string{"work.open-cluster-management.io/v1/manifestworks", "/v1/secrets"})
	require.NoError(t, err)
	require.Equal(t, schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, got[1])
	_, err = ParseResources([]string{"secrets", "a/b/c/d"})
	require.ErrorContains(t, err, `"secrets" is not group/version/resource`)
	require.ErrorContains(t, err, `"a/b/c/d" is not`)
}

func TestPause(t *testing.T) {
	c := &controller{cfg: Config{Clock: clock.RealClock{}}}
	require.Equal(t, pollFirst, c.pause(time.Now()))
	require.Equal(t, pollMax, c.pause(time.Now().Add(-time.Hour)), "RC-67: every 5 s")
}
