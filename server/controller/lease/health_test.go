// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // these are tests of a table
package lease

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
)

func (b *bench) drainEvents() (list []string) {
	for len(b.recorder.Events) > 0 {
		list = append(list, <-b.recorder.Events)
	}
	return list
}

// leave releases the session now.
func (b *bench) leave() { b.session("", LastSeenAnnotation, b.clock.Now().Format(time.RFC3339Nano)) }

func oneSecond(t *testing.T) {
	b := connected(t, "one-second")
	b.duration(1)
	b.pass(time.Minute, "r1")
	b.leave()
	require.Equal(t, time.Second, b.reconcile().RequeueAfter)
	b.clock.Step(time.Second)
	b.is(metav1.ConditionUnknown, "ManagedClusterLeaseUpdateStopped")
	b.session("r1/i2")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
}

// clockSteps: neither a wrong clock of the agent nor a step of the hub's turns
// an available cluster.
func clockSteps(t *testing.T) {
	b := connected(t, "clock-steps")
	b.pass(2*time.Minute, "r1")
	version := b.available().LastTransitionTime
	for _, offset := range []string{"10m0s", "-10m0s"} {
		b.session("r1/i1", ClockOffsetAnnotation, offset)
		b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	}
	for _, step := range []time.Duration{10 * time.Minute, -20 * time.Minute, 10 * time.Minute} {
		b.clock.Step(step)
		b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
		b.pass(10*time.Second, "r1")
		b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	}
	require.Equal(t, version, b.available().LastTransitionTime)
}

func deletedUnknown(t *testing.T) {
	b := connected(t, "rc-38")
	cluster := b.read()
	cluster.Finalizers = append(cluster.Finalizers, "test.dev/stay")
	require.NoError(t, b.client.Update(t.Context(), cluster))
	require.NoError(t, b.client.Delete(t.Context(), cluster))
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	lease := sessionLease(b.cluster, "r1/i1")
	lease.Namespace = b.namespace
	require.NoError(t, b.client.Delete(t.Context(), lease))
	b.is(metav1.ConditionUnknown, "ManagedClusterLeaseUpdateStopped")
	cluster = b.read()
	cluster.Finalizers = nil
	require.NoError(t, b.client.Update(t.Context(), cluster))
}

func (b *bench) clockIs(status metav1.ConditionStatus) string {
	b.t.Helper()
	b.reconcile()
	found := meta.FindStatusCondition(b.read().Status.Conditions, clusterv1.ManagedClusterConditionClockSynced)
	require.NotNil(b.t, found)
	require.Equal(b.t, status, found.Status, found.Message)
	return found.Message
}

func clockJudged(t *testing.T) {
	b := connected(t, "rc-39")
	require.Nil(t, meta.FindStatusCondition(b.read().Status.Conditions, clusterv1.ManagedClusterConditionClockSynced), "nothing was measured yet")
	b.session("r1/i1", ClockOffsetAnnotation, "10ms")
	b.clockIs(metav1.ConditionTrue)
	b.drainEvents()
	b.session("r1/i1", ClockOffsetAnnotation, "4m59s") // five lease durations
	b.clockIs(metav1.ConditionTrue)
	b.session("r1/i1", ClockOffsetAnnotation, "-10m0s")
	require.Contains(t, b.clockIs(metav1.ConditionFalse), "CLOCK_SKEW: the agent's clock is 10m0s ahead of the hub's")
	version := b.read().ResourceVersion
	b.session("r1/i1", ClockOffsetAnnotation, "-11m0s")
	b.session("r1/i1", ClockOffsetAnnotation, "4m59s")
	b.clockIs(metav1.ConditionFalse)
	require.Equal(t, version, b.read().ResourceVersion, "along the border it does not flap")
	b.session("r1/i1", ClockOffsetAnnotation, "3m")
	b.clockIs(metav1.ConditionTrue)
	list := b.drainEvents()
	require.Len(t, list, 2)
	require.Contains(t, list[0], "Warning ClockOutOfSync")
	require.Contains(t, list[1], "Normal ManagedClusterClockSyncedConditionUpdated")
	require.Equal(t, metav1.ConditionTrue, b.available().Status)
}

func clockSkipped(t *testing.T) {
	b := connected(t, "rc-40")
	b.session("r1/i1", ClockOffsetAnnotation, "1h")
	b.clockIs(metav1.ConditionFalse)
	cluster := b.read()
	cluster.Annotations = map[string]string{SkipClockAnnotation: "true"}
	require.NoError(t, b.client.Update(t.Context(), cluster))
	b.clockIs(metav1.ConditionTrue)
}

func bothEvents(t *testing.T) {
	b := connected(t, "ra-39")
	b.drainEvents()
	b.session("r1/i1", SpokeHealthyAnnotation, "false")
	b.reconcile()
	b.session("r1/i1")
	b.reconcile()
	list := b.drainEvents()
	require.Len(t, list, 2)
	require.Contains(t, list[0], "Warning Unavailable")
	require.Contains(t, list[1], "Normal Available")
}

// damped: a cluster with a lease of one second is there for three seconds and
// gone for three, for an hour; then it stays.
func damped(t *testing.T) {
	b := connected(t, "damped")
	b.duration(1)
	b.pass(time.Minute, "r1")
	b.drainEvents()
	statuses, before := 0, b.read().ResourceVersion
	look := func() {
		b.reconcile()
		if now := b.read().ResourceVersion; now != before {
			statuses, before = statuses+1, now
		}
	}
	cycle := func() {
		b.leave()
		look()
		b.clock.Step(3 * time.Second)
		require.NoError(t, b.replicas.poll(t.Context()))
		look()
		b.session("r1/i1")
		look()
		b.clock.Step(3 * time.Second)
		b.renew("r1")
		require.NoError(t, b.replicas.poll(t.Context()))
		look()
	}
	for range 200 { // twenty minutes
		cycle()
		require.LessOrEqual(t, statuses, 2*flapLimit-1, "they go on")
	}
	require.Equal(t, 2*flapLimit-1, statuses, "worse three times, better twice, and then nothing")
	require.Len(t, b.drainEvents(), 2*flapLimit-1)
	found := b.available()
	require.Equal(t, metav1.ConditionUnknown, found.Status)
	require.Contains(t, found.Message, "comes and goes")

	require.LessOrEqual(t, b.reconcile().RequeueAfter, flapHold, "looked at when it has stayed")
	for range 12 {
		b.pass(5*time.Second, "r1")
		b.reconcile()
	}
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
}
