// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/test/env"
)

// registry is Clusters over a running cache, with a person who administers them.
type registry struct {
	*Clusters
	t       *testing.T
	person  client.Client
	proxy   *env.Proxy
	changes chan string
	name    string
}

func newRegistry(t *testing.T, clock *clocktesting.FakePassiveClock) *registry {
	t.Helper()
	cfg := env.Shared(t).RESTConfig()
	scheme := runtime.NewScheme()
	require.NoError(t, clusterv1.Install(scheme))
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	objects, err := cache.New(cfg, cache.Options{Scheme: scheme})
	require.NoError(t, err)
	person, err := client.New(cfg, client.Options{Scheme: scheme})
	require.NoError(t, err)
	r := &registry{t: t, person: person, proxy: env.StartProxy(t, cfg), changes: make(chan string, 1000), name: fmt.Sprintf("spoke-%d", clusterNumber.Add(1))}
	r.Clusters, err = NewClusters(t.Context(), ClustersConfig{Cache: objects, Config: r.proxy.RESTConfig(), Clock: clock})
	require.NoError(t, err)
	r.OnChange(func(name string) {
		if name == r.name {
			r.changes <- name
		}
	})
	runs(t, objects.Start)
	require.True(t, objects.WaitForCacheSync(t.Context()))
	return r
}

// changed waits for the callback.
func (r *registry) changed() {
	r.t.Helper()
	select {
	case <-r.changes:
	case <-time.After(time.Minute):
		r.t.Fatal("no change was told")
	}
}

func (r *registry) create() (*clusterv1.ManagedCluster, identity.Scope) {
	r.t.Helper()
	o := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: r.name}, Spec: clusterv1.ManagedClusterSpec{HubAcceptsClient: true, LeaseDurationSeconds: 30}}
	require.NoError(r.t, r.person.Create(r.t.Context(), o))
	r.changed()
	return o, scopeOf(r.name, string(o.UID))
}

func (r *registry) stored() *clusterv1.ManagedCluster {
	r.t.Helper()
	var o clusterv1.ManagedCluster
	require.NoError(r.t, r.person.Get(r.t.Context(), client.ObjectKey{Name: r.name}, &o))
	return &o
}

func (r *registry) writes() int { return r.proxy.Count(env.Match{Verbs: env.Writes()}) }

// T45: whatever revokes a cluster is told, and what is read then is the new state.
func TestClusters_T45_changes_are_told(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, nil)
	_, ok := r.Get(t.Context(), r.name)
	require.False(t, ok)
	o, _ := r.create()
	c, ok := r.Get(t.Context(), r.name)
	require.True(t, ok)
	require.Equal(t, Cluster{Name: r.name, UID: string(o.UID), Accepted: true, LeaseDuration: 30 * time.Second}, c)

	began := time.Now()
	o.Spec.HubAcceptsClient, o.Finalizers = false, []string{"example.com/hold"}
	require.NoError(t, r.person.Update(t.Context(), o))
	r.changed()
	require.Less(t, time.Since(began), 5*time.Second)
	c, _ = r.Get(t.Context(), r.name)
	require.False(t, c.Accepted)

	e := &v1alpha1.ClusterEnrollment{ObjectMeta: metav1.ObjectMeta{Name: r.name + "-abcd-efgh-ijkl"}, Spec: v1alpha1.ClusterEnrollmentSpec{
		ClusterName: r.name, HubID: "hub", ManagedClusterUID: string(o.UID), AgentName: "agent", KeySHA256: strings.Repeat("0", 64),
		PublicKey: "a2V5", PairingCode: "ABCD-EFGH-IJKL", CSRName: r.name + "-abcd-efgh-ijkl",
	}}
	require.NoError(t, r.person.Create(t.Context(), e))
	r.changed()
	e.Status.RevokedSerials = []string{"0a"}
	require.NoError(t, r.person.Status().Update(t.Context(), e))
	r.changed()
	all := r.Enrollments(t.Context(), r.name)
	require.Len(t, all, 1)
	require.Equal(t, []string{"0a"}, all[0].Status.RevokedSerials)
	require.Empty(t, r.Enrollments(t.Context(), "another"))

	require.NoError(t, r.person.Delete(t.Context(), o))
	r.changed()
	c, _ = r.Get(t.Context(), r.name)
	require.True(t, c.Deleting)
	o = r.stored()
	o.Finalizers = nil
	require.NoError(t, r.person.Update(t.Context(), o))
	r.changed()
	_, ok = r.Get(t.Context(), r.name)
	require.False(t, ok)
}

func TestClusters_reports(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakePassiveClock(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
	r := newRegistry(t, clock)
	_, scope := r.create()
	report := Report{
		KubernetesVersion: "v1.37.2", Claims: map[string]string{"b": "2", "a": "1", "": "no name", "empty": "", "long": strings.Repeat("x", 2000)},
		Capacity: map[string]string{"cpu": "4", "memory": "8Gi", "odd": "lots"}, Allocatable: map[string]string{"cpu": "3500m"},
	}
	settle := func() {
		for now := r.stored().ResourceVersion; ; r.changed() {
			if known, ok := r.managed(t.Context(), scope.Cluster()); ok && known.ResourceVersion == now {
				return
			}
		}
	}
	apply := func() {
		t.Helper()
		require.NoError(t, r.ApplyReport(t.Context(), scope, report))
		settle()
	}
	apply()
	o := r.stored()
	require.Equal(t, "v1.37.2", o.Status.Version.Kubernetes)
	require.Equal(t, []clusterv1.ManagedClusterClaim{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}}, o.Status.ClusterClaims)
	require.Equal(t, "8Gi", new(o.Status.Capacity["memory"]).String())
	require.Len(t, o.Status.Capacity, 2)
	truncated := meta.FindStatusCondition(o.Status.Conditions, ConditionTruncated)
	require.Equal(t, metav1.ConditionTrue, truncated.Status)
	require.Contains(t, truncated.Message, "4 entries of the agent's report are left out")
	joined := meta.FindStatusCondition(o.Status.Conditions, clusterv1.ManagedClusterConditionJoined)
	require.Equal(t, "ManagedClusterJoined", joined.Reason)
	require.Equal(t, metav1.NewTime(clock.Now().Truncate(time.Second)).UTC(), joined.LastTransitionTime.UTC())

	clock.SetTime(clock.Now().Add(time.Hour))
	writes := r.writes()
	report.Allocatable["cpu"] = "3.5"
	apply()
	require.Equal(t, writes, r.writes(), "the same quantity, written in another way")

	require.NoError(t, r.ApplyCondition(t.Context(), scope, metav1.Condition{Type: "DuplicateAgent", Status: metav1.ConditionFalse, Reason: "NoDuplicate"}))
	require.Equal(t, writes, r.writes(), "a finding that never was is not denied")
	duplicate := metav1.Condition{Type: "DuplicateAgent", Status: metav1.ConditionTrue, Reason: "DUPLICATE_CLUSTER", Message: "two of them"}
	require.NoError(t, r.ApplyCondition(t.Context(), scope, duplicate))
	settle()
	require.NoError(t, r.ApplyCondition(t.Context(), scope, duplicate))
	require.NoError(t, r.ApplyCondition(t.Context(), scope, metav1.Condition{Type: "AgentFlapping", Status: metav1.ConditionTrue, Reason: "AGENT_FLAPPING"}))
	settle()
	require.Equal(t, writes+2, r.writes())

	report.KubernetesVersion, report.Claims = "v1.38.0", map[string]string{"a": "1"}
	apply()
	o = r.stored()
	require.Len(t, o.Status.ClusterClaims, 1)
	require.Equal(t, joined.LastTransitionTime, meta.FindStatusCondition(o.Status.Conditions, clusterv1.ManagedClusterConditionJoined).LastTransitionTime)
	for _, kind := range []string{"DuplicateAgent", "AgentFlapping"} {
		require.True(t, meta.IsStatusConditionTrue(o.Status.Conditions, kind), "a report takes no finding away: %s", kind)
	}
	duplicate.Status, duplicate.Reason = metav1.ConditionFalse, "NoDuplicate"
	require.NoError(t, r.ApplyCondition(t.Context(), scope, duplicate))
	require.True(t, meta.IsStatusConditionFalse(r.stored().Status.Conditions, "DuplicateAgent"))
}

// TestClusterReport shows reports on ManagedClusters.
func TestClusterReport(t *testing.T) {
	t.Parallel()
	t.Run("RA-32_names_of_other_writers_stay", func(t *testing.T) {
		t.Parallel()
		r := newRegistry(t, clocktesting.NewFakePassiveClock(time.Now()))
		_, scope := r.create()
		report := Report{Capacity: map[string]string{"cpu": "4", "memory": "8Gi"}, Allocatable: map[string]string{"cpu": "3"}}
		require.NoError(t, r.ApplyReport(t.Context(), scope, report))
		o := r.stored()
		o.Status.Capacity["theirs.dev/gpu"] = resource.MustParse("2")
		require.NoError(t, r.person.Status().Update(t.Context(), o))
		r.until(func(o *clusterv1.ManagedCluster) bool { return len(o.Status.Capacity) == 3 })
		report.Capacity["cpu"] = "8"
		require.NoError(t, r.ApplyReport(t.Context(), scope, report))
		r.until(func(o *clusterv1.ManagedCluster) bool { return new(o.Status.Capacity["cpu"]).String() == "8" })
		require.Equal(t, "2", new(r.stored().Status.Capacity["theirs.dev/gpu"]).String())
		writes := r.writes()
		require.NoError(t, r.ApplyReport(t.Context(), scope, report))
		require.Equal(t, writes, r.writes(), "what others have there causes no writes")
		delete(report.Capacity, "memory")
		require.NoError(t, r.ApplyReport(t.Context(), scope, report))
		require.Len(t, r.stored().Status.Capacity, 2, "what the agent reported goes with its report")
	})
	t.Run("RA-35_reserved_claims_first", func(t *testing.T) {
		t.Parallel()
		r := newRegistry(t, clocktesting.NewFakePassiveClock(time.Now()))
		_, scope := r.create()
		report := Report{Claims: map[string]string{"a": "1", "z": "2", "product.open-cluster-management.io": "p", "id.k8s.io": "i", "long": strings.Repeat("x", 1025)}}
		require.NoError(t, r.ApplyReport(t.Context(), scope, report))
		names := []string{}
		for _, c := range r.stored().Status.ClusterClaims {
			names = append(names, c.Name)
		}
		require.Equal(t, []string{"id.k8s.io", "product.open-cluster-management.io", "a", "z"}, names)
	})
	t.Run("T59_claims_are_no_labels", func(t *testing.T) {
		t.Parallel()
		r := newRegistry(t, clocktesting.NewFakePassiveClock(time.Now()))
		o, scope := r.create()
		before := r.stored()
		everything := map[string]string{"region": "1", "cluster.open-cluster-management.io/clusterset": "2", "metadata": "3", "labels": "4"}
		require.NoError(t, r.ApplyReport(t.Context(), scope, Report{
			KubernetesVersion: "region=eu", Claims: everything, Capacity: everything, Allocatable: everything, LeftOut: 3,
		}))
		after := r.stored()
		require.Len(t, after.Status.ClusterClaims, 4)
		require.Equal(t, before.Labels, after.Labels)
		require.Equal(t, before.Annotations, after.Annotations)
		require.Equal(t, before.Spec, after.Spec)
		require.Equal(t, before.Generation, after.Generation)
		for _, selector := range []string{"region", "region=1", "cluster.open-cluster-management.io/clusterset=2", "labels"} {
			found := &clusterv1.ManagedClusterList{}
			require.NoError(t, r.person.List(t.Context(), found, &client.ListOptions{Raw: &metav1.ListOptions{LabelSelector: selector}}))
			for i := range found.Items {
				require.NotEqual(t, o.Name, found.Items[i].Name, selector)
			}
		}
	})
}

// until waits for the cache to show it.
func (r *registry) until(is func(*clusterv1.ManagedCluster) bool) {
	r.t.Helper()
	for {
		if o, ok := r.managed(r.t.Context(), r.name); ok && is(o) {
			return
		}
		r.changed()
	}
}

func TestClusters_T62_of_another_UID_are_not_written(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, nil)
	o, scope := r.create()
	require.ErrorIs(t, r.ApplyReport(t.Context(), scopeOf(r.name, "another"), Report{}), ErrNoCluster)
	require.ErrorIs(t, r.ApplyCondition(t.Context(), identity.Scope{}, metav1.Condition{Type: "X"}), ErrNoCluster)
	// The cache may not know yet that the name was given away: the apiserver does.
	old, ok := r.managed(t.Context(), scope.Cluster())
	require.True(t, ok)
	old = old.DeepCopy()
	require.NoError(t, r.person.Delete(t.Context(), o))
	version := map[string]any{"version": map[string]any{"kubernetes": "v0.0.1"}}
	require.Error(t, r.apply(t.Context(), old, "m", version), "nothing is created")
	r.create()
	require.ErrorIs(t, r.apply(t.Context(), old, "m", version), ErrNoCluster)
	require.Empty(t, r.stored().Status.Version.Kubernetes)
	now := r.stored()
	now.ResourceVersion = old.ResourceVersion
	require.NoError(t, r.apply(t.Context(), now, "m", version), "the same cluster, from a cache that is behind")
	require.NotEmpty(t, r.stored().Status.Version.Kubernetes)
}
