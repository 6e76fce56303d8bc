// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // the functions of the tables are tests, not helpers
package lease

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/event"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/condition"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard()) //nolint:forbidigo // the library logs to nobody in tests
	env.Main(m, env.Options{Name: "lease"})
}

var plane struct {
	sync.Once
	admin client.Client
	err   error
}

// admin prepares the shared plane and returns a client with every right.
func admin(t *testing.T) client.Client {
	t.Helper()
	p := env.Shared(t)
	plane.Do(func() {
		scheme := runtime.NewScheme()
		plane.err = errors.Join(clientgoscheme.AddToScheme(scheme), clusterv1.Install(scheme), env.InstallCRDs(t.Context(), p.RESTConfig(), deploy.HubCRDs()...))
		if plane.err == nil {
			plane.admin, plane.err = client.New(p.RESTConfig(), client.Options{Scheme: scheme})
		}
		if plane.err == nil {
			plane.err = kube.EnsureNamespace(t.Context(), plane.admin, identity.HubNamespace)
		}
	})
	require.NoError(t, plane.err)
	return plane.admin
}

// bench is a controller whose clock stands still unless the test moves it; the
// test calls Reconcile itself. It has a hub namespace and a cluster of its own.
type bench struct {
	*controller
	t         *testing.T
	clock     *clocktesting.FakeClock
	recorder  *events.FakeRecorder
	cluster   string
	namespace string
}

func newBench(t *testing.T, name string) *bench {
	t.Helper()
	c := admin(t)
	name = env.Shared(t).Unique(name)
	// The apiserver stamps conditions that we compare with: begin at its time.
	clk := clocktesting.NewFakeClock(time.Now().Truncate(time.Second))
	recorder := events.NewFakeRecorder(100)
	b := &bench{t: t, clock: clk, recorder: recorder, cluster: name, namespace: "hub-" + name}
	b.controller = b.start()
	require.NoError(t, kube.EnsureNamespace(t.Context(), c, b.namespace))
	return b
}

// start is the controller of a new leader.
func (b *bench) start() *controller {
	c := admin(b.t)
	log := slog.New(slog.DiscardHandler)
	return &controller{
		client: c, live: c, namespace: b.namespace,
		replicas: &replicas{
			live: c, cached: c, namespace: b.namespace, clock: b.clock, log: log,
			wake: make(chan event.GenericEvent, 100), known: map[string]observation{},
		},
		leases:     &clusterLeases{client: c, refresh: time.Hour, written: map[string]time.Time{}},
		flaps:      &flaps{of: map[string]*flapping{}},
		clocks:     condition.Writer{Client: c, FieldManager: ClockManager, Clock: b.clock},
		conditions: condition.Writer{Client: c, FieldManager: FieldManager, Clock: b.clock},
		clock:      b.clock, events: b.recorder, log: log,
	}
}

// accept makes the cluster as it is after acceptance.
func (b *bench) accept() {
	b.t.Helper()
	c := b.client
	require.NoError(b.t, kube.EnsureNamespace(b.t.Context(), c, b.cluster))
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: b.cluster}}
	cluster.Spec.HubAcceptsClient = true
	require.NoError(b.t, c.Create(b.t.Context(), cluster))
	b.hubAccepted(metav1.ConditionTrue)
}

func (b *bench) hubAccepted(status metav1.ConditionStatus) {
	b.t.Helper()
	cluster := b.read()
	meta.SetStatusCondition(&cluster.Status.Conditions, metav1.Condition{
		Type: clusterv1.ManagedClusterConditionHubAccepted, Status: status, Reason: "Test", LastTransitionTime: metav1.NewTime(b.clock.Now()),
	})
	require.NoError(b.t, b.client.Status().Update(b.t.Context(), cluster))
}

func (b *bench) read() *clusterv1.ManagedCluster {
	b.t.Helper()
	cluster := &clusterv1.ManagedCluster{}
	require.NoError(b.t, b.client.Get(b.t.Context(), client.ObjectKey{Name: b.cluster}, cluster))
	return cluster
}

func (b *bench) available() *metav1.Condition {
	b.t.Helper()
	return meta.FindStatusCondition(b.read().Status.Conditions, clusterv1.ManagedClusterConditionAvailable)
}

func (b *bench) clusterLease() *coordinationv1.Lease {
	b.t.Helper()
	lease := &coordinationv1.Lease{}
	require.NoError(b.t, b.client.Get(b.t.Context(), client.ObjectKey{Namespace: b.cluster, Name: "managed-cluster-lease"}, lease))
	return lease
}

// session writes the cluster's session Lease; holder "" is released.
func (b *bench) session(holder string, annotations ...string) {
	b.t.Helper()
	lease := sessionLease(b.cluster, holder, annotations...)
	lease.Namespace = b.namespace
	old := &coordinationv1.Lease{}
	if b.client.Get(b.t.Context(), client.ObjectKeyFromObject(lease), old) == nil {
		lease.ResourceVersion = old.ResourceVersion
		require.NoError(b.t, b.client.Update(b.t.Context(), lease))
		return
	}
	require.NoError(b.t, b.client.Create(b.t.Context(), lease))
}

// renew writes a replica's Lease, as that replica does every few seconds.
func (b *bench) renew(id string) {
	b.t.Helper()
	lease := replicaLease(id, b.clock.Now())
	lease.Namespace = b.namespace
	old := &coordinationv1.Lease{}
	if b.client.Get(b.t.Context(), client.ObjectKeyFromObject(&lease), old) == nil {
		lease.ResourceVersion = old.ResourceVersion
		require.NoError(b.t, b.client.Update(b.t.Context(), &lease))
		return
	}
	require.NoError(b.t, b.client.Create(b.t.Context(), &lease))
}

// pass lets time go by in steps of the poll, with the replicas renewing.
func (b *bench) pass(d time.Duration, renewing ...string) {
	b.t.Helper()
	for ; d > 0; d -= pollInterval {
		b.clock.Step(min(d, pollInterval))
		for _, id := range renewing {
			b.renew(id)
		}
		require.NoError(b.t, b.replicas.poll(b.t.Context()))
	}
}

func (b *bench) reconcile() reconcile.Result {
	b.t.Helper()
	result, err := b.Reconcile(b.t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: b.cluster}})
	require.NoError(b.t, err)
	return result
}

func (b *bench) is(status metav1.ConditionStatus, reason string) {
	b.t.Helper()
	b.reconcile()
	got := b.available()
	require.NotNil(b.t, got)
	require.Equal(b.t, status, got.Status, "%+v", got)
	require.Equal(b.t, reason, got.Reason)
}

// connected is a bench whose cluster is accepted, connected and available.
func connected(t *testing.T, name string) *bench {
	t.Helper()
	b := newBench(t, name)
	b.accept()
	b.renew("r1")
	b.session("r1/i1")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	return b
}

func TestLease(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"RC-33_lease_is_made_on_acceptance":              leaseMade,
		"RC-33_nothing_before_acceptance":                nothingBefore,
		"RC-34_silence_turns_unknown":                    silenceUnknown,
		"RC-35_lease_duration_takes_effect_at_once":      durationChanges,
		"RC-35_zero_is_sixty":                            zeroIsSixty,
		"RC-34_a_lease_of_one_second":                    oneSecond,
		"RC-36_no_agent_s_clock_counts":                  clockSteps,
		"RC-37_event_in_the_cluster_s_namespace":         unknownEvent,
		"RC-38_deleted_without_a_lease_is_Unknown":       deletedUnknown,
		"RC-39_clock_synced_by_the_measured_offset":      clockJudged,
		"RC-40_skip_the_clock_check":                     clockSkipped,
		"RA-39_events_of_both_transitions":               bothEvents,
		"T37_flaps_are_damped":                           damped,
		"decision-11_unhealthy_spoke_is_False":           unhealthySpoke,
		"decision-11_a_takeover_changes_nothing":         takeover,
		"decision-11_dead_replica_then_unknown":          deadReplica,
		"decision-11_a_new_leader_is_patient":            newLeader,
		"decision-11_a_lost_apiserver_proves_no_silence": lostApiserver,
		"decision-11_a_deaf_hub_concludes_nothing":       deaf,
		"decision-11_a_lagging_cache_proves_no_silence":  laggingCache,
		"T36_short_cuts_make_no_transition":              shortCuts,
		"T39_an_idle_cluster_costs_a_write_an_hour":      idle,
		"a_denied_cluster_that_left_turns_unknown":       deniedTurnsUnknown,
		"the_conditions_of_other_writers_stay":           otherWriters,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func leaseMade(t *testing.T) {
	b := newBench(t, "rc-33")
	b.accept()
	b.reconcile()
	lease := b.clusterLease()
	require.Equal(t, b.cluster, lease.Labels["open-cluster-management.io/cluster-name"])
	require.Equal(t, "managed-cluster-lease", *lease.Spec.HolderIdentity)
	require.WithinDuration(t, b.clock.Now(), lease.Spec.RenewTime.Time, time.Second)
	require.Nil(t, b.available(), "nothing is known about it yet")
}

func nothingBefore(t *testing.T) {
	b := newBench(t, "rc-33-before")
	require.NoError(t, b.client.Create(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: b.cluster}}))
	require.Zero(t, b.reconcile())
	require.Empty(t, b.read().Status.Conditions)
	require.NoError(t, b.client.Delete(t.Context(), b.read()))
	require.Zero(t, b.reconcile())
}

func silenceUnknown(t *testing.T) {
	b := connected(t, "rc-34")
	b.pass(2*time.Minute, "r1")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	b.session("", LastSeenAnnotation, b.clock.Now().Format(time.RFC3339Nano))
	require.Equal(t, time.Minute, b.reconcile().RequeueAfter, "exactly when silence is over, not earlier and not later")
	b.pass(59*time.Second, "r1")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	seen := b.clock.Now().Add(-59 * time.Second)
	b.pass(time.Second, "r1")
	b.is(metav1.ConditionUnknown, "ManagedClusterLeaseUpdateStopped")
	require.Equal(t, "Registration agent stopped updating its lease.", b.available().Message)
	require.WithinDuration(t, seen, b.clusterLease().Spec.RenewTime.Time, time.Millisecond, "the Lease says when it was last heard from")

	b.session("r1/i2")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	require.WithinDuration(t, b.clock.Now(), b.clusterLease().Spec.RenewTime.Time, time.Millisecond)
}

func durationChanges(t *testing.T) {
	b := connected(t, "rc-35")
	b.pass(time.Minute, "r1")
	b.session("", LastSeenAnnotation, b.clock.Now().Format(time.RFC3339Nano))
	b.pass(20*time.Second, "r1")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	b.duration(15)
	b.is(metav1.ConditionUnknown, "ManagedClusterLeaseUpdateStopped")
}

func (b *bench) duration(seconds int32) {
	b.t.Helper()
	cluster := b.read()
	cluster.Spec.LeaseDurationSeconds = seconds
	require.NoError(b.t, b.client.Update(b.t.Context(), cluster))
}

func zeroIsSixty(t *testing.T) {
	b := connected(t, "rc-35-zero")
	b.duration(0)
	b.pass(time.Minute, "r1")
	b.session("", LastSeenAnnotation, b.clock.Now().Format(time.RFC3339Nano))
	require.Equal(t, time.Minute, b.reconcile().RequeueAfter)
}

func unknownEvent(t *testing.T) {
	b := connected(t, "rc-37")
	for len(b.recorder.Events) > 0 {
		<-b.recorder.Events
	}
	b.pass(time.Minute, "r1")
	b.session("", LastSeenAnnotation, b.clock.Now().Add(-time.Minute).Format(time.RFC3339Nano))
	b.pass(5*time.Second, "r1")
	b.is(metav1.ConditionUnknown, "ManagedClusterLeaseUpdateStopped")
	b.reconcile()
	require.Len(t, b.recorder.Events, 1, "one, however often one looks")
	require.Contains(t, <-b.recorder.Events, "Warning AvailableUnknown")
}

func unhealthySpoke(t *testing.T) {
	b := connected(t, "unhealthy")
	b.session("r1/i1", SpokeHealthyAnnotation, "false")
	b.is(metav1.ConditionFalse, "ManagedClusterKubeAPIServerUnavailable")
	b.session("r1/i1", SpokeHealthyAnnotation, "true")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	b.session("r1/i1", SpokeHealthyAnnotation, "false")
	b.is(metav1.ConditionFalse, "ManagedClusterKubeAPIServerUnavailable")
	b.pass(time.Minute, "r1")
	b.session("", LastSeenAnnotation, b.clock.Now().Add(-time.Minute).Format(time.RFC3339Nano))
	b.pass(5*time.Second, "r1")
	b.is(metav1.ConditionUnknown, "ManagedClusterLeaseUpdateStopped")
}

func takeover(t *testing.T) {
	b := connected(t, "takeover")
	before := b.available().LastTransitionTime
	b.renew("r2")
	b.session("r2/i2")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	b.pass(2*time.Minute, "r2")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	require.Equal(t, before, b.available().LastTransitionTime)
}

func deadReplica(t *testing.T) {
	b := connected(t, "dead-replica")
	b.pass(time.Minute, "r1", "r2")
	for len(b.replicas.wake) > 0 {
		<-b.replicas.wake
	}
	b.pass(20*time.Second, "r2") // r1 was killed
	require.Len(t, b.replicas.wake, 1, "its clusters are looked at when it is found dead")
	require.Equal(t, b.cluster, (<-b.replicas.wake).Object.GetLabels()[identity.ClusterNameLabel])
	require.Equal(t, 40*time.Second, b.reconcile().RequeueAfter, "a minute since the replica was last seen")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	b.pass(40*time.Second, "r2")
	b.is(metav1.ConditionUnknown, "ManagedClusterLeaseUpdateStopped")
	b.session("r2/i2")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
}

func newLeader(t *testing.T) {
	b := connected(t, "new-leader")
	b.session("", LastSeenAnnotation, b.clock.Now().Format(time.RFC3339Nano))
	b.clock.Step(time.Hour) // nobody was there to see
	b.controller = b.start()
	require.NotZero(t, b.reconcile().RequeueAfter, "before the first poll too")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	b.pass(5 * time.Second)
	result := b.reconcile()
	require.Equal(t, time.Minute+minSpread, result.RequeueAfter, "one lease duration and the reconnect spread")
	b.pass(result.RequeueAfter - time.Second)
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	b.pass(time.Second)
	b.is(metav1.ConditionUnknown, "ManagedClusterLeaseUpdateStopped")
}

// lostApiserver: no read succeeds for ten minutes, so no replica could renew
// and no session could move.
func lostApiserver(t *testing.T) {
	b := connected(t, "lost-apiserver")
	b.pass(2*time.Minute, "r1")
	b.clock.Step(10 * time.Minute)
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	require.NoError(t, b.replicas.poll(t.Context())) // back, before any replica has renewed
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	b.pass(55 * time.Second)
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	b.pass(10 * time.Second)
	b.is(metav1.ConditionUnknown, "ManagedClusterLeaseUpdateStopped")
}

// deaf: what was said before the silence of the hub itself proves nothing either.
func deaf(t *testing.T) {
	b := connected(t, "deaf")
	b.pass(2*time.Minute, "r1")
	b.session("", LastSeenAnnotation, b.clock.Now().Format(time.RFC3339Nano))
	b.clock.Step(10 * time.Minute)
	require.Equal(t, pollInterval, b.reconcile().RequeueAfter, "look again, conclude nothing")
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
	b.pass(5 * time.Second)
	require.Equal(t, time.Minute+minSpread, b.reconcile().RequeueAfter)
}

// stale is a cache that shows a session as it was.
type stale struct {
	client.Client
	session *coordinationv1.Lease
}

func (s stale) Get(ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
	if lease, ok := into.(*coordinationv1.Lease); ok && key.Name == s.session.Name {
		s.session.DeepCopyInto(lease)
		return nil
	}
	return s.Client.Get(ctx, key, into, opts...)
}

func laggingCache(t *testing.T) {
	b := connected(t, "lagging")
	b.pass(2*time.Minute, "r1")
	old := sessionLease(b.cluster, "", LastSeenAnnotation, b.clock.Now().Add(-2*time.Minute).Format(time.RFC3339Nano))
	b.client = stale{Client: b.client, session: old}
	b.is(metav1.ConditionTrue, "ManagedClusterAvailable")
}

func shortCuts(t *testing.T) {
	b := connected(t, "cuts")
	before := b.read().ResourceVersion
	for i := range 20 {
		b.pass(time.Duration(5+i*2)*time.Second, "r1")
		b.session("", LastSeenAnnotation, b.clock.Now().Format(time.RFC3339Nano))
		b.reconcile()
		b.pass(time.Duration(10+i*2)*time.Second, "r1")
		b.reconcile()
		b.session("r1/i1")
		b.reconcile()
	}
	require.Equal(t, before, b.read().ResourceVersion)
}

func idle(t *testing.T) {
	b := connected(t, "idle")
	version, lease := b.read().ResourceVersion, b.clusterLease()
	after := b.reconcile().RequeueAfter
	require.InDelta(t, time.Hour, after, float64(time.Second), "the only timer is the hourly refresh")
	halfAnHour := func() {
		b.clock.Step(30 * time.Minute)
		b.renew("r1")
		require.NoError(t, b.replicas.poll(t.Context()))
	}
	halfAnHour()
	b.reconcile()
	require.Equal(t, lease.ResourceVersion, b.clusterLease().ResourceVersion)
	halfAnHour()
	b.reconcile()
	require.Equal(t, version, b.read().ResourceVersion)
	require.WithinDuration(t, b.clock.Now(), b.clusterLease().Spec.RenewTime.Time, time.Millisecond)
	for len(b.replicas.wake) > 0 {
		<-b.replicas.wake
	}
	b.pass(time.Minute, "r1")
	require.Empty(t, b.replicas.wake, "renewals of replicas wake nobody")
}

func deniedTurnsUnknown(t *testing.T) {
	b := connected(t, "denied")
	b.pass(time.Minute, "r1")
	b.hubAccepted(metav1.ConditionFalse)
	b.session("", LastSeenAnnotation, b.clock.Now().Format(time.RFC3339Nano))
	b.pass(time.Minute, "r1")
	b.is(metav1.ConditionUnknown, "ManagedClusterLeaseUpdateStopped")
}

func otherWriters(t *testing.T) {
	b := connected(t, "other-writers")
	cluster := b.read()
	other := condition.Writer{Client: b.client, FieldManager: "somebody", Clock: b.clock}
	_, err := other.Apply(t.Context(), cluster, cluster.Status.Conditions, metav1.Condition{Type: "Theirs", Status: metav1.ConditionTrue, Reason: "R"})
	require.NoError(t, err)
	b.session("r1/i1", SpokeHealthyAnnotation, "false")
	b.is(metav1.ConditionFalse, "ManagedClusterKubeAPIServerUnavailable")
	require.True(t, meta.IsStatusConditionTrue(b.read().Status.Conditions, "Theirs"))
	require.True(t, meta.IsStatusConditionTrue(b.read().Status.Conditions, clusterv1.ManagedClusterConditionHubAccepted))
}

// TestLeaseRuns runs the controller in a manager, on the real clock.
func TestLeaseRuns(t *testing.T) {
	c := admin(t)
	mgr, err := manager.New(env.Shared(t).RESTConfig(), manager.Options{
		Scheme: c.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"},
		Cache:      cache.Options{ByObject: CacheOptions(identity.HubNamespace)},
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)}, // the test may run again
	})
	require.NoError(t, err)
	require.NoError(t, Setup(mgr, Config{Log: slog.New(slog.DiscardHandler)}))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})

	b := &bench{t: t, cluster: env.Shared(t).Unique("runs"), namespace: identity.HubNamespace, clock: clocktesting.NewFakeClock(time.Now())}
	b.controller = b.start()
	b.accept()
	b.renew("r1")
	b.session("r1/i1")
	await := func(status metav1.ConditionStatus) {
		t.Helper()
		require.EventuallyWithT(t, func(ct *assert.CollectT) {
			b.clock.SetTime(time.Now())
			found := b.available()
			require.NotNil(ct, found)
			require.Equal(ct, status, found.Status)
		}, time.Minute, 50*time.Millisecond)
	}
	await(metav1.ConditionTrue)
	b.session("r1/i1", SpokeHealthyAnnotation, "false")
	await(metav1.ConditionFalse)
	b.duration(1)
	b.session("", LastSeenAnnotation, time.Now().Format(time.RFC3339Nano))
	await(metav1.ConditionUnknown)
	b.renew("r2")
	b.session("r2/i2")
	await(metav1.ConditionTrue)
	require.NoError(t, c.Delete(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "replica-r2"}}))
	await(metav1.ConditionUnknown)

	require.EventuallyWithT(t, func(ct *assert.CollectT) {
		list := &corev1.EventList{}
		require.NoError(ct, c.List(t.Context(), list, client.InNamespace(b.cluster)))
		reasons := map[string]string{}
		for _, e := range list.Items {
			reasons[e.Reason] = e.Type
		}
		require.Equal(ct, "Warning", reasons["AvailableUnknown"], "RC-37, in the cluster's namespace")
	}, time.Minute, 50*time.Millisecond)
}
