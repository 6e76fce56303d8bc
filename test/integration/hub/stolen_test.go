// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	agentenroll "fairlead.dev/fairlead/agent/enroll"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/enroll"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/test/env"
)

// theft is what became of a join token that two keys have used.
type theft struct {
	hub     *running
	log     *journal // the hub's at its loudest, and the honest agent's
	person  string   // the token of somebody who runs the fleet
	cluster string
	made    *adminv1.CreateJoinTokenResponse
	thief   *rawAgent
	csr     []byte
	stolen  *agentv1.EnrollResponse
	honest  *memory
	told    error // what the honest agent is told
}

// steal has a thief use a join token first and the honest agent next.
func steal(t *testing.T) *theft {
	t.Helper()
	plane := env.Shared(t)
	x := &theft{log: &journal{}, cluster: plane.Unique("stolen"), honest: &memory{}}
	x.hub = startHub(t, plane.RESTConfig(), func(c *server.Config) {
		c.LeaderElect = false
		c.Log = slog.New(slog.NewJSONHandler(x.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}).ready()
	x.thief = newAgent(t, x.hub, x.cluster)
	x.person = x.hub.person(plane, plane.Unique("person"), manager, "")
	x.hub.admin = x.hub.desk(x.thief.trust, x.person, nil)
	var err error
	x.made, err = x.hub.admin.enrollments.CreateJoinToken(x.hub.admin.ctx, &adminv1.CreateJoinTokenRequest{ClusterName: x.cluster, Endpoints: []string{x.hub.addresses.Agent}})
	require.NoError(t, err)
	x.csr, err = pki.NewCSR(x.thief.key, identity.Subject(x.cluster, "agent"))
	require.NoError(t, err)
	x.stolen, err = x.thief.api.Enroll(t.Context(), &agentv1.EnrollRequest{ClusterName: x.cluster, JoinToken: x.made.GetToken(), CsrDer: x.csr})
	require.NoError(t, err)
	joining, err := agentenroll.New(agentenroll.Config{Vault: x.honest, Log: slog.New(slog.NewJSONHandler(x.log, nil)), Join: x.made.GetJoinString()})
	require.NoError(t, err)
	_, x.told = joining.Credentials(t.Context())
	return x
}

// T65: whoever steals a join token and is first is not let in by the honest
// agent's pairing code, that agent is told that another key used its token, and a
// condition tells whoever looks at the cluster's enrollment both codes.
func TestT65_a_stolen_token(t *testing.T) {
	x := steal(t)
	require.ErrorIs(t, x.told, &agentenroll.Error{Reason: reason.TokenUsed})
	require.ErrorContains(t, x.told, "another key")
	key, err := pki.ParseKey(x.honest.record.PendingKey)
	require.NoError(t, err)
	spki, err := pki.SPKI(key.Public())
	require.NoError(t, err)
	code := identity.PairingCode(spki, x.cluster, x.stolen.GetHubId())
	e := x.hub.enrollmentOf(t, x.cluster)
	require.Equal(t, x.stolen.GetPairingCode(), e.Spec.PairingCode)
	conflict := meta.FindStatusCondition(e.Status.Conditions, enroll.ConditionTokenConflict)
	require.NotNil(t, conflict)
	require.Equal(t, metav1.ConditionTrue, conflict.Status)
	require.Contains(t, conflict.Message, code)
	_, err = x.hub.admin.enrollments.AcceptEnrollment(x.hub.admin.ctx, &adminv1.AcceptEnrollmentRequest{ClusterName: x.cluster, PairingCode: code})
	require.Equal(t, reason.PairingCodeMismatch, rpcerr.ReasonOf(err))
	cluster := &clusterv1.ManagedCluster{}
	require.NoError(t, x.hub.kube.Get(t.Context(), client.ObjectKey{Name: x.cluster}, cluster))
	require.False(t, cluster.Spec.HubAcceptsClient)
}

// T60: what an agent has is copied to another cluster. There it is refused within
// a second, and the first one's session goes on.
func TestT60_a_copy_in_another_cluster(t *testing.T) {
	t.Parallel()
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	agent := newAgent(t, hub, plane.Unique("copied"))
	agent.join(hub.token(agent.cluster, true), false)
	own := agent.session(&agentv1.Hello{})
	elsewhere := agent.thief()
	elsewhere.cluster = "elsewhere" // of its fingerprint
	shown := time.Now()
	_, err := elsewhere.trySession(&agentv1.Hello{InstanceId: "copy"})
	took := time.Since(shown)
	require.Equal(t, reason.DuplicateCluster, rpcerr.ReasonOf(err), "%v", err)
	require.Less(t, took, aSecond())
	hub.create(newWork(agent.cluster, "web", "1"))
	own.stored(own.change("web"))
	until(t, "a condition that names both", func() error {
		cluster := &clusterv1.ManagedCluster{}
		if err := hub.kube.Get(t.Context(), client.ObjectKey{Name: agent.cluster}, cluster); err != nil {
			return err
		}
		found := meta.FindStatusCondition(cluster.Status.Conditions, "DuplicateAgent")
		if found == nil || found.Status != metav1.ConditionTrue || !strings.Contains(found.Message, "fp-"+agent.cluster) || !strings.Contains(found.Message, "fp-elsewhere") {
			return fmt.Errorf("it is %+v", found)
		}
		return nil
	})
}

// T73: of tokens, keys, and what works have in them nothing is in the hub's log at
// its loudest, its metrics, Events, conditions or errors.
func TestT73_nothing_secret_is_told(t *testing.T) {
	x := steal(t)
	hub := x.hub
	_, err := x.thief.api.Enroll(t.Context(), &agentv1.EnrollRequest{ClusterName: x.cluster, JoinToken: x.made.GetToken() + "x", CsrDer: x.csr})
	require.Error(t, err)
	said := []string{x.told.Error(), err.Error()}
	hub.accept(x.cluster, x.stolen.GetEnrollmentId())
	x.thief.join(x.made.GetToken(), false)
	const canary = "canary-in-a-work"
	session := x.thief.session(&agentv1.Hello{})
	hub.create(newWork(x.cluster, "secret", canary))
	session.stored(session.change("secret"))
	for _, raw := range []string{`{"spec":{"workload":{"manifests":[{"a":"` + canary + `"}]}}}`, canary} {
		_, err = hub.admin.works.ApplyWork(hub.admin.ctx, &adminv1.ApplyWorkRequest{ClusterName: x.cluster, Name: "bad", WorkJson: raw})
		require.Error(t, err)
		said = append(said, err.Error())
	}
	key, err := pki.EncodeKey(x.thief.key)
	require.NoError(t, err)
	_, metrics := hub.get("/metrics")
	_, ready := hub.get("/readyz?verbose")
	_, secret, _ := strings.Cut(x.made.GetToken(), ".")
	for what, canary := range map[string]string{
		"a work's content": canary, "a join token's secret": secret, "a join string": x.made.GetJoinString(), "a person's token": x.person,
		"an agent's key": string(key), "the honest agent's key": string(x.honest.record.PendingKey),
	} {
		for where, text := range map[string]string{"log": x.log.String(), "metrics": metrics, "readiness": ready, "objects": x.objects(t), "errors": strings.Join(said, "\n")} {
			require.Zero(t, strings.Count(text, strings.TrimSpace(canary)), "%s is in %s", what, where)
		}
	}
}

// objects are those that tell people what happened.
func (x *theft) objects(t *testing.T) string {
	t.Helper()
	var events eventsv1.EventList
	var enrollments v1alpha1.ClusterEnrollmentList
	var clusters clusterv1.ManagedClusterList
	for _, list := range []client.ObjectList{&events, &enrollments, &clusters} {
		require.NoError(t, x.hub.kube.List(t.Context(), list))
	}
	text, err := json.Marshal([]any{events, enrollments, clusters})
	require.NoError(t, err)
	return string(text)
}

// memory is a vault that forgets.
type memory struct{ record agentenroll.Record }

func (m *memory) Load(context.Context) (agentenroll.Record, error) { return m.record, nil }

func (m *memory) Save(_ context.Context, r agentenroll.Record) error {
	m.record = r
	return nil
}
