// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard()) //nolint:forbidigo // the library logs to nobody in tests
	env.Main(m, env.Options{Name: "gc", CRDs: deploy.HubCRDs()})
}

func TestDeadEnrollment(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(-d)} }
	issued := &v1alpha1.Certificate{Serial: "01"}
	for name, tc := range map[string]struct {
		reason string
		status v1alpha1.ClusterEnrollmentStatus
		want   bool
	}{
		"pending":           {"it waits for a person", v1alpha1.ClusterEnrollmentStatus{State: v1alpha1.StatePending}, false},
		"denied lately":     {"people want to see it", v1alpha1.ClusterEnrollmentStatus{State: v1alpha1.StateDenied, LastTransitionTime: ago(endedKept - time.Second)}, false},
		"denied":            {"it came to nothing", v1alpha1.ClusterEnrollmentStatus{State: v1alpha1.StateDenied, LastTransitionTime: ago(endedKept)}, true},
		"expired":           {"likewise", v1alpha1.ClusterEnrollmentStatus{State: v1alpha1.StateExpired, LastTransitionTime: ago(endedKept)}, true},
		"no time":           {"nobody knows when it ended", v1alpha1.ClusterEnrollmentStatus{State: v1alpha1.StateDenied}, false},
		"revoked":           {"it guards the name", v1alpha1.ClusterEnrollmentStatus{State: v1alpha1.StateRevoked, Current: issued, LastTransitionTime: ago(365 * 24 * time.Hour)}, false},
		"active for a year": {"it is in use", v1alpha1.ClusterEnrollmentStatus{State: v1alpha1.StateActive, Current: issued, LastTransitionTime: ago(365 * 24 * time.Hour)}, false},
		"removed lately":    {"its agent is yet to be told", v1alpha1.ClusterEnrollmentStatus{State: v1alpha1.StateRevoked, Current: issued, ClusterRemoved: ago(removedKept - time.Second)}, false},
		"removed long ago":  {"no certificate is left", v1alpha1.ClusterEnrollmentStatus{State: v1alpha1.StateRevoked, Current: issued, ClusterRemoved: ago(removedKept)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, deadEnrollment(&v1alpha1.ClusterEnrollment{Status: tc.status}, now), tc.reason)
		})
	}
}

// admin is a client with every right, on a plane that has the hub's kinds.
func admin(t *testing.T) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, errors.Join(clientgoscheme.AddToScheme(scheme), clusterv1.Install(scheme), v1alpha1.AddToScheme(scheme)))
	plane := env.Shared(t)
	c, err := client.New(plane.RESTConfig(), client.Options{Scheme: scheme})
	require.NoError(t, err)
	return c
}

// TestSweep leaves what is in use, and removes what nobody needs, a day later.
func TestSweep(t *testing.T) {
	c := admin(t)
	plane := env.Shared(t)
	namespace, there := plane.Namespace(t, "hub"), plane.Unique("there")
	require.NoError(t, c.Create(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: there}}))
	for _, l := range []struct{ name, kind, cluster, holder string }{
		{"replica-dead", identity.LeaseOfReplica, "", "dead"},
		{"replica-alive", identity.LeaseOfReplica, "", "alive"},
		{"replica-last", identity.LeaseOfReplica, "", "last"},
		{"session-certified", identity.LeaseOfSession, "certified", "alive/s3"},
		{"session-there", identity.LeaseOfSession, there, "last/s1"},
		{"session-gone", identity.LeaseOfSession, "gone", "elsewhere/s2"},
		{"leader-election", "", "", "somebody"},
	} {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: l.name, Namespace: namespace, Labels: map[string]string{}}}
		if l.kind != "" {
			lease.Labels[identity.LeaseLabel] = l.kind
		}
		if l.cluster != "" {
			lease.Labels[identity.ClusterNameLabel] = l.cluster
		}
		lease.Spec.HolderIdentity = &l.holder
		require.NoError(t, c.Create(t.Context(), lease))
	}
	used := []string{"replica-last", "replica-alive", "session-certified", "session-there", "leader-election"}
	clock := clocktesting.NewFakeClock(time.Now())
	collector := &collector{client: c, live: c, cfg: Config{HubNamespace: namespace, Clock: clock, Log: slog.New(slog.DiscardHandler)}}
	require.NoError(t, collector.sweep(t.Context()))
	require.Equal(t, sets.New("replica-dead", "session-gone").Insert(used...), leases(t, c, namespace), "they are young")
	clock.Step(leaseKept + time.Minute)
	renew(t, c, client.ObjectKey{Namespace: namespace, Name: "replica-alive"}, clock.Now())
	require.NoError(t, collector.sweep(t.Context()))
	require.Equal(t, sets.New(used...), leases(t, c, namespace))

	blind := &blindTo{Client: c} // a cache that lost its clusters
	collector.client = blind
	require.NoError(t, collector.sweep(t.Context()))
	require.Equal(t, sets.New(used...), leases(t, c, namespace), "absence from a cache proves nothing")
}

// TestSweepSparesTheAgentOfAClusterThatIsStillThere: however long a removal takes,
// only the cluster's agent can finish its works.
func TestSweepSparesTheAgentOfAClusterThatIsStillThere(t *testing.T) {
	c := admin(t)
	leaving := env.Shared(t).Unique("leaving")
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: leaving}}
	require.NoError(t, c.Create(t.Context(), cluster))
	now := time.Now()
	for name, uid := range map[string]string{leaving + "-now": string(cluster.UID), leaving + "-before": "another"} {
		e := &v1alpha1.ClusterEnrollment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ClusterEnrollmentSpec{
			ClusterName: leaving, HubID: "hub", ManagedClusterUID: uid, AgentName: "a", PairingCode: "code", CSRName: name,
		}}
		e.Spec.SetPublicKey([]byte(name))
		require.NoError(t, c.Create(t.Context(), e))
		e.SetState(v1alpha1.StateActive, "Used", "", metav1.NewTime(now))
		e.Status.Current = &v1alpha1.Certificate{KeySHA256: e.Spec.KeySHA256, CSRName: name, Serial: "01"}
		e.Status.ClusterRemoved = &metav1.Time{Time: now.Add(-removedKept)}
		require.NoError(t, c.Status().Update(t.Context(), e))
	}
	collector := &collector{client: c, live: c, cfg: Config{HubNamespace: identity.HubNamespace, Clock: clocktesting.NewFakeClock(now), Log: slog.New(slog.DiscardHandler)}}
	require.NoError(t, collector.sweep(t.Context()))
	list := &v1alpha1.ClusterEnrollmentList{}
	require.NoError(t, c.List(t.Context(), list))
	list.Items = slices.DeleteFunc(list.Items, func(e v1alpha1.ClusterEnrollment) bool { return e.Spec.ClusterName != leaving })
	require.Len(t, list.Items, 1)
	require.Equal(t, leaving+"-now", list.Items[0].Name)
}

func renew(t *testing.T, c client.Client, key client.ObjectKey, now time.Time) {
	t.Helper()
	lease := &coordinationv1.Lease{}
	require.NoError(t, c.Get(t.Context(), key, lease))
	lease.Spec.RenewTime = &metav1.MicroTime{Time: now}
	require.NoError(t, c.Update(t.Context(), lease))
}

// blindTo shows no ManagedClusters.
type blindTo struct{ client.Client }

func (b *blindTo) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if _, ok := list.(*clusterv1.ManagedClusterList); ok {
		return nil
	}
	return b.Client.List(ctx, list, opts...)
}

func leases(t *testing.T, c client.Client, namespace string) sets.Set[string] {
	t.Helper()
	list := &coordinationv1.LeaseList{}
	require.NoError(t, c.List(t.Context(), list, client.InNamespace(namespace)))
	names := sets.New[string]()
	for i := range list.Items {
		names.Insert(list.Items[i].Name)
	}
	return names
}
