// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
)

func newWork(cluster, name, value string) *workv1.ManifestWork {
	raw := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":"default"},"data":{"value":%q}}`, name, value)
	return &workv1.ManifestWork{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: cluster},
		Spec: workv1.ManifestWorkSpec{Workload: workv1.ManifestsTemplate{
			Manifests: []workv1.Manifest{{RawExtension: runtime.RawExtension{Raw: raw}}},
		}},
	}
}

// create makes a work, once its cluster has a namespace: a certificate may be there
// before.
func (r *running) create(work *workv1.ManifestWork) {
	r.t.Helper()
	until(r.t, "the cluster to have a namespace", func() error {
		err := r.kube.Create(r.t.Context(), work)
		if !isNotFound(err) {
			require.NoError(r.t, err)
		}
		return err
	})
}

// One work there and back: Enroll, accept, Session, Delta, StatusBatch,
// PERSISTED, and the status as the apiserver has it. The hub also installs the
// CRDs, over those that are there.
func TestHub_there_and_back(t *testing.T) {
	hub := startHub(t, env.Shared(t).RESTConfig(), func(c *server.Config) { c.LeaderElect, c.InstallCRDs = false, true }).ready() // the only one
	cluster := env.Shared(t).Unique("there-and-back")
	agent := newAgent(t, hub, cluster)
	agent.join(hub.token(cluster, false), true)

	s := agent.session(&agentv1.Hello{})
	require.Equal(t, uint64(1), s.welcome.GetSessionEpoch())
	require.NotEmpty(t, s.welcome.GetHighWater().GetProof())
	require.NotZero(t, s.welcome.GetTrustBundle().GetVersion(), "the bundle is newer than none")

	hub.create(newWork(cluster, "web", "1"))
	change := s.change("web")
	var delivered workv1.ManifestWork
	require.NoError(t, json.Unmarshal(change.GetUpsert().GetObjectJson(), &delivered))
	require.Equal(t, "web", delivered.Name)
	require.Empty(t, delivered.ManagedFields, "noise stays on the hub")
	s.stored(change)

	result := s.status(&agentv1.ObjectStatus{
		Key: change.GetKey(), Uid: change.GetRevision().GetUid(), ObservedGeneration: 1, ObservedDigest: change.GetRevision().GetDigest(), StatusSeq: 1,
		StatusJson: []byte(`{"conditions":[{"type":"Applied","status":"True","reason":"AppliedManifestWorkComplete","message":"ok","observedGeneration":1,"lastTransitionTime":"2026-01-01T00:00:00Z"}]}`),
	})
	require.Equal(t, agentv1.StatusCode_STATUS_CODE_PERSISTED, result.GetCode(), "%v", result)
	work := &workv1.ManifestWork{}
	key := client.ObjectKey{Namespace: cluster, Name: "web"}
	require.NoError(t, hub.kube.Get(t.Context(), key, work), "PERSISTED means that it is there")
	require.True(t, meta.IsStatusConditionTrue(work.Status.Conditions, "Applied"))
	require.Contains(t, work.Finalizers, identity.ManifestWorkFinalizer)

	// The delete travels, and the hub lets the object go when the agent is clean.
	require.NoError(t, hub.kube.Delete(t.Context(), work))
	deleted := s.change("web")
	require.Equal(t, agentv1.DeleteReason_DELETE_REASON_REQUESTED, deleted.GetDelete().GetReason())
	s.stored(deleted)
	result = s.status(&agentv1.ObjectStatus{Key: change.GetKey(), Uid: change.GetRevision().GetUid(), StatusSeq: 2, Finalized: true})
	require.Equal(t, agentv1.StatusCode_STATUS_CODE_PERSISTED, result.GetCode())
	require.True(t, isNotFound(hub.kube.Get(t.Context(), key, work)))
}

func isNotFound(err error) bool { return client.IgnoreNotFound(err) == nil && err != nil }

// What an agent reports of its cluster, and that a session is one, shows on the
// ManagedCluster and on its Leases.
func TestHub_cluster_report_and_leases(t *testing.T) {
	t.Parallel()
	hub := startHub(t, env.Shared(t).RESTConfig(), nil).ready()
	name := env.Shared(t).Unique("reporting")
	agent := newAgent(t, hub, name)
	agent.join(hub.token(name, true), false)
	s := agent.session(&agentv1.Hello{})
	s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_ClusterReport{ClusterReport: &agentv1.ClusterReport{
		KubernetesVersion: "v1.37.2", Claims: map[string]string{"region": "north"}, Capacity: map[string]string{"cpu": "4"}, ApiserverHealthy: true,
		Held: []*agentv1.HeldBatch{{BatchId: "b1", Reason: agentv1.HeldReason_HELD_REASON_COUNT}},
	}}})
	s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{Sent: timestamppb.Now()}}})
	until(t, "the report to show", func() error {
		cluster := &clusterv1.ManagedCluster{}
		if err := hub.kube.Get(t.Context(), client.ObjectKey{Name: name}, cluster); err != nil {
			return err
		}
		for _, condition := range []string{"ManagedClusterJoined", "HubAcceptedManagedCluster", "ManagedClusterConditionAvailable", "ManagedClusterConditionClockSynced", "DeletesHeld"} {
			if !meta.IsStatusConditionTrue(cluster.Status.Conditions, condition) {
				return fmt.Errorf("condition %s is not True: %+v", condition, cluster.Status.Conditions)
			}
		}
		if len(cluster.Spec.Taints) > 0 {
			return fmt.Errorf("taints: %+v", cluster.Spec.Taints)
		}
		if cluster.Status.Version.Kubernetes != "v1.37.2" || len(cluster.Status.ClusterClaims) != 1 || !cluster.Status.Capacity[clusterv1.ResourceCPU].Equal(resource.MustParse("4")) {
			return fmt.Errorf("status: %+v", cluster.Status)
		}
		return nil
	})
	s.cancel()
	until(t, "the Lease to be released", func() error {
		lease := &coordinationv1.Lease{}
		if err := hub.kube.Get(t.Context(), client.ObjectKey{Namespace: identity.HubNamespace, Name: "session-" + name}, lease); err != nil {
			return err
		}
		if lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "" || lease.Annotations["fairlead.dev/last-seen"] == "" {
			return fmt.Errorf("lease: %+v", lease)
		}
		return nil
	})
}

// RA-30: the hub says that an agent's clock is off, and takes its statuses all the
// same: nothing is decided by that clock.
func TestHub_a_clock_that_is_off(t *testing.T) {
	t.Parallel()
	hub := startHub(t, env.Shared(t).RESTConfig(), nil).ready()
	cluster := env.Shared(t).Unique("off")
	agent := newAgent(t, hub, cluster)
	agent.join(hub.token(cluster, true), false)
	s := agent.session(&agentv1.Hello{})
	hub.create(newWork(cluster, "web", "1"))
	change := s.change("web")
	s.stored(change)
	s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_ClusterReport{ClusterReport: &agentv1.ClusterReport{ApiserverHealthy: true}}})
	key := client.ObjectKey{Namespace: cluster, Name: "web"}
	t.Run("RA-30_statuses_flow_meanwhile", func(t *testing.T) {
		until(t, "the condition", func() error {
			s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{Sent: timestamppb.New(time.Now().Add(-10 * time.Minute))}}})
			managed := &clusterv1.ManagedCluster{}
			if err := hub.kube.Get(t.Context(), client.ObjectKey{Name: cluster}, managed); err != nil {
				return err
			}
			if !meta.IsStatusConditionFalse(managed.Status.Conditions, clusterv1.ManagedClusterConditionClockSynced) {
				return fmt.Errorf("conditions %+v", managed.Status.Conditions)
			}
			return nil
		})
		result := s.status(&agentv1.ObjectStatus{
			Key: change.GetKey(), Uid: change.GetRevision().GetUid(), ObservedGeneration: 1, ObservedDigest: change.GetRevision().GetDigest(), StatusSeq: 1,
			StatusJson: []byte(`{"conditions":[{"type":"Applied","status":"True","reason":"R","message":"","observedGeneration":1,"lastTransitionTime":"2026-01-01T00:00:00Z"}]}`),
		})
		require.Equal(t, agentv1.StatusCode_STATUS_CODE_PERSISTED, result.GetCode(), "%v", result)
		work := &workv1.ManifestWork{}
		require.NoError(t, hub.kube.Get(t.Context(), key, work))
		require.True(t, meta.IsStatusConditionTrue(work.Status.Conditions, "Applied"))
	})
}

// T45 on one replica: however a cluster is revoked, its stream ends at once.
func TestT45_revocation_ends_the_session(t *testing.T) {
	t.Parallel()
	hub := startHub(t, env.Shared(t).RESTConfig(), nil).ready()
	cases := map[string]struct {
		reason string
		revoke func(cluster string)
		want   []string
	}{
		"not-accepted": {"hubAcceptsClient=false", func(cluster string) {
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"hubAcceptsClient":false}}`))
			require.NoError(t, hub.kube.Patch(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: cluster}}, patch))
		}, []string{reason.NotAccepted, reason.Revoked}},
		"deleted": {"the ManagedCluster is gone", func(cluster string) {
			object := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: cluster}}
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
			require.NoError(t, hub.kube.Patch(t.Context(), object, patch))
			require.NoError(t, hub.kube.Delete(t.Context(), object))
			until(t, "the cluster to be gone", func() error {
				_ = hub.kube.Patch(t.Context(), object, patch)
				if err := hub.kube.Get(t.Context(), client.ObjectKey{Name: cluster}, object); !isNotFound(err) {
					return fmt.Errorf("still there: %w", err)
				}
				return nil
			})
		}, []string{reason.UnknownCluster, reason.ClusterRemoved, reason.Revoked}},
		"serial": {"somebody lists the certificate's serial in revokedSerials", func(cluster string) {
			enrollments := &v1alpha1.ClusterEnrollmentList{}
			require.NoError(t, hub.kube.List(t.Context(), enrollments))
			at := slices.IndexFunc(enrollments.Items, func(e v1alpha1.ClusterEnrollment) bool { return e.Spec.ClusterName == cluster })
			require.GreaterOrEqual(t, at, 0)
			enrollment := &enrollments.Items[at]
			patch := client.MergeFrom(enrollment.DeepCopy())
			enrollment.Status.RevokedSerials = append(enrollment.Status.RevokedSerials, enrollment.Status.Current.Serial)
			require.NoError(t, hub.kube.Status().Patch(t.Context(), enrollment, patch))
		}, []string{reason.Revoked}},
	}
	for name, tc := range cases {
		t.Run("RQ-05_"+name, func(t *testing.T) {
			cluster := env.Shared(t).Unique("t45-" + name)
			agent := newAgent(t, hub, cluster)
			agent.join(hub.token(cluster, true), false)
			s := agent.session(&agentv1.Hello{})
			tc.revoke(cluster)
			revoked := time.Now()
			err := s.end()
			require.Less(t, time.Since(revoked), unhurried(5*time.Second), tc.reason)
			require.Contains(t, tc.want, rpcerr.ReasonOf(err), "%v", err)
			_, err = agent.trySession(&agentv1.Hello{})
			require.Equal(t, codes.PermissionDenied, status.Code(err), "the next call: %v", err)
		})
	}
}

// TestT05_no_session_before_everything_is_read: while an apiserver does not answer
// one of the LISTs that sessions are decided by, the hub's own gate turns agents away.
func TestT05_no_session_before_everything_is_read(t *testing.T) {
	t.Parallel()
	config := env.Shared(t).RESTConfig()
	cluster := env.Shared(t).Unique("t5")
	one := startHub(t, config, nil).ready()
	agent := newAgent(t, one, cluster)
	agent.join(one.token(cluster, true), false)
	for condition, resource := range map[string]string{"works index": "manifestworks", "session leases": "leases"} {
		t.Run(condition, func(t *testing.T) {
			proxy := env.StartProxy(t, config)
			answer := proxy.Inject(env.Fault{Match: env.Match{Verbs: []string{"list"}, Resources: []string{resource}}, Status: http.StatusServiceUnavailable})
			hub := startHub(t, proxy.RESTConfig(), nil)
			until(t, "everything else to be there", func() error {
				_, text := hub.get("/readyz?verbose")
				if others := strings.ReplaceAll(text, "[-] "+condition, ""); strings.Contains(others, "[-]") || !strings.Contains(others, "[+]") {
					return errors.New(text)
				}
				return nil
			})
			agent.hub = hub
			agent.dial()
			_, err := agent.trySession(&agentv1.Hello{})
			require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
			require.Equal(t, reason.HubStarting, rpcerr.ReasonOf(err))
			require.ErrorContains(t, err, condition)
			answer()
			agent.session(&agentv1.Hello{})
		})
	}
}

// A second session of the same agent takes over; the first is told so.
func TestHub_newer_session_wins(t *testing.T) {
	t.Parallel()
	hub := startHub(t, env.Shared(t).RESTConfig(), nil).ready()
	cluster := env.Shared(t).Unique("twice")
	agent := newAgent(t, hub, cluster)
	agent.join(hub.token(cluster, true), false)
	first := agent.session(&agentv1.Hello{InstanceId: "one"})
	second := agent.session(&agentv1.Hello{InstanceId: "two"})
	require.Greater(t, second.welcome.GetSessionEpoch(), first.welcome.GetSessionEpoch())
	require.Equal(t, reason.Superseded, rpcerr.ReasonOf(first.end()))
	hub.stop()
	require.Equal(t, reason.Draining, rpcerr.ReasonOf(second.end()), "a stop drains")
}

// Two replicas on one apiserver: a session on one ends the other's.
func TestHub_two_replicas(t *testing.T) {
	t.Parallel()
	config := env.Shared(t).RESTConfig()
	const drain = 25 * time.Second
	one, two := startHub(t, config, func(c *server.Config) { c.DrainTime = drain }).ready(), startHub(t, config, nil).ready()
	cluster := env.Shared(t).Unique("roaming")
	agent := newAgent(t, one, cluster)
	agent.join(one.token(cluster, true), false)
	first := agent.session(&agentv1.Hello{})
	agent.hub = two
	agent.dial()
	second := agent.session(&agentv1.Hello{})
	require.NotEqual(t, first.welcome.GetHubReplica(), second.welcome.GetHubReplica())
	require.Equal(t, first.welcome.GetHubId(), second.welcome.GetHubId())
	require.Equal(t, reason.Superseded, rpcerr.ReasonOf(first.end()), "the other replica learns it by watch")
	begun := time.Now()
	one.stop()
	// Beside other tests, what tells it from waiting for a session.
	require.Less(t, time.Since(begun), house.Scaled(drain-5*time.Second, 5*time.Second), "an idle replica stops at once")
}
