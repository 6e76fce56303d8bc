// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package taint

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "taint", CRDs: deploy.HubCRDs()}) }

// bench is a controller that the test calls, and one cluster.
type bench struct {
	*controller
	t        *testing.T
	name     string
	now      time.Time
	recorder *events.FakeRecorder
}

func newBench(t *testing.T, c client.Client, name string) *bench {
	t.Helper()
	b := &bench{t: t, name: env.Shared(t).Unique(name), now: time.Now().Truncate(time.Second), recorder: events.NewFakeRecorder(100)}
	b.controller = &controller{client: c, clock: clocktesting.NewFakePassiveClock(b.now), events: b.recorder, log: slog.New(slog.DiscardHandler)}
	require.NoError(t, c.Create(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: b.name}}))
	return b
}

func (b *bench) read() *clusterv1.ManagedCluster {
	b.t.Helper()
	cluster := &clusterv1.ManagedCluster{}
	require.NoError(b.t, b.client.Get(b.t.Context(), client.ObjectKey{Name: b.name}, cluster))
	return cluster
}

func (b *bench) reconcile() {
	b.t.Helper()
	_, err := b.Reconcile(b.t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: b.name}})
	require.NoError(b.t, err)
}

func (b *bench) available(status metav1.ConditionStatus) {
	b.t.Helper()
	cluster := b.read()
	meta.SetStatusCondition(&cluster.Status.Conditions, metav1.Condition{Type: clusterv1.ManagedClusterConditionAvailable, Status: status, Reason: "Test"})
	require.NoError(b.t, b.client.Status().Update(b.t.Context(), cluster))
	b.reconcile()
}

// has says which taints the cluster has, in any order.
func (b *bench) has(keys ...string) {
	b.t.Helper()
	have := []string{}
	for _, t := range b.read().Spec.Taints {
		require.Equal(b.t, clusterv1.TaintEffectNoSelect, t.Effect)
		have = append(have, t.Key)
	}
	require.ElementsMatch(b.t, keys, have)
}

func TestTaints(t *testing.T) {
	const unreachable, unavailable = "cluster.open-cluster-management.io/unreachable", "cluster.open-cluster-management.io/unavailable"
	scheme := runtime.NewScheme()
	require.NoError(t, clusterv1.Install(scheme))
	c, err := client.New(env.Shared(t).RESTConfig(), client.Options{Scheme: scheme})
	require.NoError(t, err)

	t.Run("RC-41_by_health_and_never_both", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, c, "rc-41")
		b.reconcile()
		b.has(unreachable)
		b.available(metav1.ConditionTrue)
		b.has()
		b.available(metav1.ConditionFalse)
		b.has(unavailable)
		b.available(metav1.ConditionUnknown)
		b.has(unreachable)
		cluster := b.read()
		cluster.Spec.Taints = append(cluster.Spec.Taints, clusterv1.Taint{Key: unavailable, Effect: clusterv1.TaintEffectNoSelect})
		require.NoError(t, c.Update(t.Context(), cluster))
		b.reconcile()
		b.has(unreachable)
	})
	t.Run("RC-42_time_and_taints_of_others", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, c, "rc-42")
		cluster := b.read()
		cluster.Spec.Taints = []clusterv1.Taint{{Key: "gpu", Value: "only", Effect: clusterv1.TaintEffectNoSelect, TimeAdded: metav1.NewTime(b.now.Add(-time.Hour))}}
		require.NoError(t, c.Update(t.Context(), cluster))
		theirs := b.read().Spec.Taints[0]
		b.reconcile()
		b.has("gpu", unreachable)
		require.Equal(t, theirs, b.read().Spec.Taints[0])
		require.True(t, b.now.Equal(b.read().Spec.Taints[1].TimeAdded.Time))
		version := b.read().ResourceVersion
		b.reconcile()
		require.Equal(t, version, b.read().ResourceVersion, "nothing is written without a change")
		b.available(metav1.ConditionTrue)
		b.has("gpu")

		cluster = b.read()
		cluster.Finalizers = append(cluster.Finalizers, "test.dev/stay")
		require.NoError(t, c.Update(t.Context(), cluster))
		require.NoError(t, c.Delete(t.Context(), cluster))
		b.available(metav1.ConditionUnknown)
		b.has("gpu")
		cluster = b.read()
		cluster.Finalizers = nil
		require.NoError(t, c.Update(t.Context(), cluster))
		b.reconcile() // gone
	})
	t.Run("RC-43_one_event_a_change", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, c, "rc-43")
		b.reconcile()
		b.reconcile()
		b.available(metav1.ConditionTrue)
		require.Len(t, b.recorder.Events, 2)
		first := <-b.recorder.Events
		require.Contains(t, first, "ManagedClusterConditionAvailableUpdated")
		require.Contains(t, first, unreachable)
		require.NotContains(t, <-b.recorder.Events, unreachable)
	})
}
