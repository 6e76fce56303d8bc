// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/test/env"
)

// Whichever replica a person asks, they hear what the one knows that has the
// session, by their own rights; of one that died, that it does not answer.
func TestHub_another_replica_has_the_session(t *testing.T) {
	t.Parallel()
	plane := env.Shared(t)
	one, two := startHub(t, plane.RESTConfig(), nil).ready(), startHub(t, plane.RESTConfig(), nil).ready()
	cluster := env.Shared(t).Unique("elsewhere")
	agent := newAgent(t, one, cluster)
	agent.join(one.token(cluster, true), false)
	s := agent.session(&agentv1.Hello{})
	s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_ClusterReport{ClusterReport: &agentv1.ClusterReport{
		ApiserverHealthy: true, Held: []*agentv1.HeldBatch{{BatchId: "b1", Reason: agentv1.HeldReason_HELD_REASON_COUNT}},
	}}})
	two.create(newWork(cluster, "w", "v"))
	s.stored(s.change("w"))

	conn := adminConn(t, two, agent)
	works, clusters := adminv1.NewWorkAdminServiceClient(conn), adminv1.NewClusterAdminServiceClient(conn)
	admin := personOf(t, plane, two, "admin-"+cluster, rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}})
	until(t, "the other replica to be asked", func() error {
		answer, err := works.ListHeldDeletes(admin, &adminv1.ListHeldDeletesRequest{ClusterName: cluster})
		if err == nil && len(answer.GetBatches()) != 1 {
			err = errors.New(answer.String())
		}
		return err
	})
	sessions, err := clusters.ListSessions(admin, &adminv1.ListSessionsRequest{ClusterName: cluster})
	require.NoError(t, err)
	require.True(t, sessions.GetSessions()[0].GetLive(), "what only the session's holder knows")
	explained, err := works.ExplainDelivery(admin, &adminv1.ExplainDeliveryRequest{ClusterName: cluster, Name: "w"})
	require.NoError(t, err)
	require.Contains(t, explained.GetVerdict(), `stands before "applied"`)

	_, err = works.ReleaseHeldDeletes(admin, &adminv1.ReleaseHeldDeletesRequest{ClusterName: cluster, BatchId: "b2"})
	require.Equal(t, codes.NotFound, status.Code(err), "the other's refusal is passed on: %v", err)
	require.Equal(t, reason.NotFound, rpcerr.ReasonOf(err))
	_, err = works.ReleaseHeldDeletes(admin, &adminv1.ReleaseHeldDeletesRequest{ClusterName: cluster, BatchId: "b1"})
	require.NoError(t, err)
	for {
		if release := s.next().GetDirective().GetReleaseHold(); release != nil {
			require.Equal(t, "b1", release.GetBatchId())
			break
		}
	}
	nobody := personOf(t, plane, two, "nobody-"+cluster)
	_, err = works.ListHeldDeletes(nobody, &adminv1.ListHeldDeletesRequest{ClusterName: cluster})
	require.Equal(t, codes.PermissionDenied, status.Code(err))

	_, err = clusters.KickSession(admin, &adminv1.KickSessionRequest{ClusterName: cluster})
	require.NoError(t, err)
	require.Equal(t, reason.Kicked, rpcerr.ReasonOf(s.end()))

	// Watches, over what is in memory and over the apiserver, end with the replica.
	followed, err := clusters.WatchSessions(admin, &adminv1.WatchSessionsRequest{})
	require.NoError(t, err)
	listed, err := works.WatchWorks(admin, &adminv1.WatchWorksRequest{ClusterName: cluster})
	require.NoError(t, err)
	_, err = listed.Recv()
	require.NoError(t, err)
	begun := time.Now()
	two.stop()
	require.Less(t, time.Since(begun), unhurried(4*time.Second), "nobody's watch holds a stop up")
	for err = nil; err == nil; {
		_, err = followed.Recv()
	}
	require.Equal(t, reason.Draining, rpcerr.ReasonOf(err))
	for err = nil; err == nil; {
		_, err = listed.Recv()
	}
	require.Equal(t, reason.Draining, rpcerr.ReasonOf(err))
}

// A replica that advertises an address where nobody is leaves the others with
// what they know, and says so.
func TestHub_a_silent_replica_is_named(t *testing.T) {
	t.Parallel()
	plane := env.Shared(t)
	one := startHub(t, plane.RESTConfig(), func(c *server.Config) { c.AdvertiseAdmin = "127.0.0.1:1" }).ready()
	two := startHub(t, plane.RESTConfig(), nil).ready()
	cluster := env.Shared(t).Unique("silent")
	agent := newAgent(t, one, cluster)
	agent.join(one.token(cluster, true), false)
	s := agent.session(&agentv1.Hello{})
	two.create(newWork(cluster, "w", "v"))
	s.stored(s.change("w"))

	works := adminv1.NewWorkAdminServiceClient(adminConn(t, two, agent))
	admin := personOf(t, plane, two, "admin-"+cluster, rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}})
	until(t, "the silent one to be named", func() error {
		_, err := works.ListHeldDeletes(admin, &adminv1.ListHeldDeletesRequest{ClusterName: cluster})
		if rpcerr.ReasonOf(err) == reason.ReplicaSilent {
			return nil
		}
		return err
	})
	explained, err := works.ExplainDelivery(admin, &adminv1.ExplainDeliveryRequest{ClusterName: cluster, Name: "w"})
	require.NoError(t, err)
	require.Contains(t, explained.GetVerdict(), "unknown at hub replica "+s.welcome.GetHubReplica()+", and does not answer")
}

// adminConn is a connection to a hub's admin listener, without a certificate.
func adminConn(t *testing.T, hub *running, agent *rawAgent) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(hub.addresses.Admin, grpc.WithTransportCredentials(credentials.NewTLS(pki.NewClient(agent.trust).TLSConfig("127.0.0.1"))))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// personOf makes a ServiceAccount with these rights, and a context that calls
// as it.
func personOf(t *testing.T, plane *env.Plane, hub *running, name string, rules ...rbacv1.PolicyRule) context.Context {
	t.Helper()
	require.NoError(t, hub.kube.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}))
	require.NoError(t, hub.kube.Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}))
	require.NoError(t, hub.kube.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: name, APIGroup: rbacv1.GroupName},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: "default"}},
	}))
	env.AwaitRights(t, hub.config, "system:serviceaccount:default:"+name, "", rules...)
	config, err := plane.TokenConfig(t.Context(), "default", name)
	require.NoError(t, err)
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+config.BearerToken)
}
