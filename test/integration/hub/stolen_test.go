// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
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
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/test/env"
)

// T65: whoever steals a join token and is first is not let in by the honest
// agent's pairing code, and that agent is told that another key used its token.
//
// T73: nothing secret of all this is in what the hub says about it: not in its log
// at its loudest, its metrics, Events, conditions or errors.
func TestT65_a_stolen_token(t *testing.T) {
	plane := env.Shared(t)
	log := &journal{}
	hub := startHub(t, plane.RESTConfig(), func(c *server.Config) {
		c.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}).ready()
	s := &subject{cluster: plane.Unique("stolen")}
	thief := newAgent(t, hub, s.cluster)
	person := hub.person(plane, plane.Unique("person"), manager, "")
	hub.admin = hub.desk(thief.trust, person, nil)
	made, err := hub.admin.enrollments.CreateJoinToken(hub.admin.ctx, &adminv1.CreateJoinTokenRequest{ClusterName: s.cluster, Endpoints: []string{hub.addresses.Agent}})
	require.NoError(t, err)
	csr, err := pki.NewCSR(thief.key, identity.Subject(s.cluster, "agent"))
	require.NoError(t, err)
	stolen, err := thief.api.Enroll(t.Context(), &agentv1.EnrollRequest{ClusterName: s.cluster, JoinToken: made.GetToken(), CsrDer: csr})
	require.NoError(t, err)

	honest := &memory{}
	joining, err := agentenroll.New(agentenroll.Config{Vault: honest, Log: slog.New(slog.NewJSONHandler(log, nil)), Join: made.GetJoinString()})
	require.NoError(t, err)
	_, err = joining.Credentials(t.Context())
	require.ErrorIs(t, err, &agentenroll.Error{Reason: reason.TokenUsed})
	require.ErrorContains(t, err, "another key")
	key, err := pki.ParseKey(honest.record.PendingKey)
	require.NoError(t, err)
	spki, err := pki.SPKI(key.Public())
	require.NoError(t, err)
	_, err = hub.admin.enrollments.AcceptEnrollment(hub.admin.ctx, &adminv1.AcceptEnrollmentRequest{
		ClusterName: s.cluster, PairingCode: identity.PairingCode(spki, s.cluster, stolen.GetHubId()),
	})
	require.Equal(t, reason.PairingCodeMismatch, rpcerr.ReasonOf(err))
	cluster := &clusterv1.ManagedCluster{}
	require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKey{Name: s.cluster}, cluster))
	require.False(t, cluster.Spec.HubAcceptsClient)

	t.Run("no_secret_is_told", func(t *testing.T) {
		_, err := thief.api.Enroll(t.Context(), &agentv1.EnrollRequest{ClusterName: s.cluster, JoinToken: made.GetToken() + "x", CsrDer: csr})
		require.Error(t, err)
		said := err.Error()
		hub.accept(s.cluster, stolen.GetEnrollmentId())
		thief.join(made.GetToken(), false)
		canary := "canary-in-a-work"
		session := thief.session(&agentv1.Hello{})
		require.NoError(t, hub.kube.Create(t.Context(), newWork(s.cluster, "secret", canary)))
		session.stored(session.change("secret"))
		for _, raw := range []string{`{"spec":{"workload":{"manifests":[{"a":"` + canary + `"}]}}}`, canary} {
			_, err = hub.admin.works.ApplyWork(hub.admin.ctx, &adminv1.ApplyWorkRequest{ClusterName: s.cluster, Name: "bad", WorkJson: raw})
			require.Error(t, err)
			said += err.Error()
		}
		_, metrics := hub.get("/metrics")
		_, ready := hub.get("/readyz?verbose")
		var events eventsv1.EventList
		var enrollments v1alpha1.ClusterEnrollmentList
		require.NoError(t, hub.kube.List(t.Context(), &events))
		require.NoError(t, hub.kube.List(t.Context(), &enrollments))
		require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKey{Name: s.cluster}, cluster))
		kept, err := json.Marshal([]any{events, enrollments, cluster})
		require.NoError(t, err)
		secret, err := pki.EncodeKey(thief.key)
		require.NoError(t, err)
		_, tokenSecret, _ := strings.Cut(made.GetToken(), ".")
		for what, canary := range map[string]string{
			"a work's content": canary, "a join token's secret": tokenSecret, "a join string": made.GetJoinString(), "a person's token": person,
			"an agent's key": string(secret), "the honest agent's key": string(honest.record.PendingKey),
		} {
			for where, text := range map[string]string{"log": log.String(), "metrics": metrics, "readiness": ready, "objects": string(kept), "errors": said} {
				require.False(t, strings.Contains(text, strings.TrimSpace(canary)), "%s is in %s", what, where)
			}
		}
	})
}

// memory is a vault that forgets.
type memory struct{ record agentenroll.Record }

func (m *memory) Load(context.Context) (agentenroll.Record, error) { return m.record, nil }

func (m *memory) Save(_ context.Context, r agentenroll.Record) error {
	m.record = r
	return nil
}
