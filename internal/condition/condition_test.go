// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package condition_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/condition"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "condition"}) }

func TestApply(t *testing.T) {
	plane := env.Shared(t)
	cfg, name := plane.RESTConfig(), plane.Unique("c")
	scheme := runtime.NewScheme()
	require.NoError(t, clusterv1.Install(scheme))
	require.NoError(t, env.InstallCRDs(t.Context(), cfg, deploy.HubCRDs()...))
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	require.NoError(t, err)
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
	cluster.Spec.HubAcceptsClient = true
	require.NoError(t, c.Create(t.Context(), cluster))

	clk := clocktesting.NewFakePassiveClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	one := condition.Writer{Client: c, FieldManager: "one", Clock: clk}
	two := condition.Writer{Client: c, FieldManager: "two", Clock: clk}
	a := metav1.Condition{Type: "A", Status: metav1.ConditionTrue, Reason: "R", Message: "m"}
	b := metav1.Condition{Type: "B", Status: metav1.ConditionFalse, Reason: "R"}
	read := func() *clusterv1.ManagedCluster {
		got := &clusterv1.ManagedCluster{}
		require.NoError(t, c.Get(t.Context(), client.ObjectKey{Name: name}, got))
		return got
	}
	apply := func(w condition.Writer, wrote bool, wanted ...metav1.Condition) {
		t.Helper()
		got := read()
		did, err := w.Apply(t.Context(), got, got.Status.Conditions, wanted...)
		require.NoError(t, err)
		require.Equal(t, wrote, did)
		require.Equal(t, read().ResourceVersion, got.ResourceVersion, "the object has the version of the write")
	}

	before := read()
	apply(one, true, a)
	apply(two, true, b)
	require.Len(t, read().Status.Conditions, 2, "each keeps to its own")
	require.True(t, read().Spec.HubAcceptsClient, "and to the status")
	since := meta.FindStatusCondition(read().Status.Conditions, "A").LastTransitionTime

	version := read().ResourceVersion
	apply(one, false, a)
	require.Equal(t, version, read().ResourceVersion, "equal: no write")

	clk.SetTime(clk.Now().Add(time.Hour))
	a.Message = "other words"
	apply(one, true, a)
	require.Equal(t, since, meta.FindStatusCondition(read().Status.Conditions, "A").LastTransitionTime, "no transition")
	a.Status = metav1.ConditionFalse
	apply(one, true, a)
	require.True(t, clk.Now().Equal(meta.FindStatusCondition(read().Status.Conditions, "A").LastTransitionTime.Time))

	a.Status = metav1.ConditionTrue
	_, err = one.Apply(t.Context(), before, before.Status.Conditions, a)
	require.True(t, apierrors.IsConflict(err), "an old object: %v", err)
	require.NoError(t, c.Delete(t.Context(), read()))
	_, err = one.Apply(t.Context(), before, before.Status.Conditions, a)
	require.True(t, apierrors.IsNotFound(err) || apierrors.IsConflict(err), "nothing is made anew: %v", err)
	namesake := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
	require.NoError(t, c.Create(t.Context(), namesake))
	_, err = one.Apply(t.Context(), before, before.Status.Conditions, a)
	require.True(t, apierrors.IsConflict(err), "another object of that name: %v", err)
}
