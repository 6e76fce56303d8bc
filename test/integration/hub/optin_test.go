// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/test/env"
)

// Neither the cluster's acceptance nor the approval of its request alone lets an
// agent in, and nothing does by itself. A cluster whose token accepts by itself
// asks last: when it has its certificate, the others would have theirs.
func TestHub_nobody_joins_by_one_word_alone(t *testing.T) {
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), func(c *server.Config) { c.LeaderElect = false }).ready()
	ids := map[string]string{}
	for _, half := range []string{"none", "accepted", "approved"} {
		agent := newAgent(t, hub, plane.Unique("half-"+half))
		csr, err := pki.NewCSR(agent.key, identity.Subject(agent.cluster, "agent"))
		require.NoError(t, err)
		answer, err := agent.api.Enroll(t.Context(), &agentv1.EnrollRequest{ClusterName: agent.cluster, JoinToken: hub.token(agent.cluster, false), CsrDer: csr})
		require.NoError(t, err)
		ids[half] = answer.GetEnrollmentId()
		switch half {
		case "accepted":
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"hubAcceptsClient":true}}`))
			require.NoError(t, hub.kube.Patch(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: agent.cluster}}, patch))
		case "approved":
			require.NoError(t, retry.RetryOnConflict(retry.DefaultBackoff, func() error { // the hub writes it too
				csr := &certificatesv1.CertificateSigningRequest{}
				if err := hub.kube.Get(t.Context(), client.ObjectKey{Name: answer.GetEnrollmentId()}, csr); err != nil {
					return err
				}
				csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
					Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test",
				})
				return hub.kube.SubResource("approval").Update(t.Context(), csr)
			}))
		}
	}
	trusted := newAgent(t, hub, plane.Unique("trusted"))
	trusted.join(hub.token(trusted.cluster, true), false)
	pending := func(t *testing.T, half string) {
		t.Helper()
		e := &v1alpha1.ClusterEnrollment{}
		require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKey{Name: ids[half]}, e))
		require.Equal(t, v1alpha1.StatePending, e.Status.State)
		require.False(t, e.EverIssued())
	}
	t.Run("RQ-07_nothing_is_approved_by_itself", func(t *testing.T) { pending(t, "none") })
	t.Run("RQ-01_acceptance_alone_is_not_enough", func(t *testing.T) { pending(t, "accepted") })
	t.Run("RQ-01_approval_alone_is_not_enough", func(t *testing.T) { pending(t, "approved") })
	t.Run("RQ-04_without_a_certificate_there_is_nothing", func(t *testing.T) {
		stranger := newAgent(t, hub, trusted.cluster)
		_, err := stranger.trySession(&agentv1.Hello{})
		require.Equal(t, codes.Unauthenticated, status.Code(err), "%v", err)
		stranger.conn, err = grpc.NewClient(hub.addresses.Agent, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		t.Cleanup(func() { _ = stranger.conn.Close() })
		stranger.api = agentv1.NewAgentServiceClient(stranger.conn)
		_, err = stranger.trySession(&agentv1.Hello{})
		require.Equal(t, codes.Unavailable, status.Code(err), "no word without TLS: %v", err)
	})
}
