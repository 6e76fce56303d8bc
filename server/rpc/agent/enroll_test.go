// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

func TestEnroll(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		var got EnrollRequest
		h.kitchen.enroll = func(req EnrollRequest) (Enrollment, error) {
			got = req
			switch req.Token {
			case "used":
				return Enrollment{}, rpcerr.Refusal(reason.TokenUsed, "another key has used this token", time.Minute, nil)
			case "broken":
				return Enrollment{}, errors.New("disk on fire")
			}
			return Enrollment{ID: "c1-abcd", State: v1alpha1.StateAccepted, PairingCode: "ABCD", HubID: "hub", PollAfter: time.Second, Challenge: []byte("x")}, nil
		}
		api := agentv1.NewAgentServiceClient(h.server.Dial(t, nil))
		resp, err := api.Enroll(t.Context(), &agentv1.EnrollRequest{ClusterName: "c1", JoinToken: "id.secret", CsrDer: []byte("csr"), AgentId: "a"})
		require.NoError(t, err)
		require.Equal(t, EnrollRequest{Cluster: "c1", Token: "id.secret", CSR: []byte("csr"), AgentID: "a"}, got)
		require.Equal(t, agentv1.EnrollmentState_ENROLLMENT_STATE_ACCEPTED, resp.GetState())
		require.Equal(t, "hub", resp.GetHubId())

		_, err = api.Enroll(t.Context(), &agentv1.EnrollRequest{JoinToken: "used"})
		require.Equal(t, codes.AlreadyExists, status.Code(err))
		require.Equal(t, reason.TokenUsed, rpcerr.ReasonOf(err))
		require.Equal(t, time.Minute, rpcerr.RetryAfterOf(err))

		_, err = api.Enroll(t.Context(), &agentv1.EnrollRequest{JoinToken: "broken"})
		require.Equal(t, codes.Internal, status.Code(err))
		require.NotContains(t, err.Error(), "disk on fire", "what is not a refusal stays inside")

		_, err = api.GetEnrollment(t.Context(), &agentv1.GetEnrollmentRequest{EnrollmentId: "x"})
		require.Equal(t, codes.NotFound, status.Code(err))
	})
}

func TestEnroll_certificate(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		s := h.service
		none, err := s.certificateOf(Enrollment{})
		require.NoError(t, err)
		require.Nil(t, none, "nothing is issued yet")
		cert := h.keys.Agent(t, "c1", "uid", time.Hour)
		issued, err := s.certificateOf(Enrollment{Chain: pki.EncodeCertificates(cert.Leaf, h.keys.Clients.Cert), NotAfter: cert.Leaf.NotAfter})
		require.NoError(t, err)
		require.Equal(t, [][]byte{cert.Leaf.Raw, h.keys.Clients.Cert.Raw}, issued.GetChainDer(), "leaf first")
		require.Equal(t, cert.Leaf.NotAfter, issued.GetNotAfter().AsTime())
		_, err = s.certificateOf(Enrollment{Chain: []byte("damaged")})
		require.Equal(t, codes.Internal, rpcerr.From(err).Code)
	})
}

func TestEnroll_states(t *testing.T) {
	for _, state := range []v1alpha1.EnrollmentState{
		v1alpha1.StatePending, v1alpha1.StateAccepted, v1alpha1.StateIssued, v1alpha1.StateActive,
		v1alpha1.StateDenied, v1alpha1.StateExpired, v1alpha1.StateDetached, v1alpha1.StateRevoked,
	} {
		require.NotZero(t, stateOf(state), "every state of the record has a number on the wire: %s", state)
	}
}

func TestSourceOf(t *testing.T) {
	cases := map[string]struct {
		remote string
		want   netip.Addr
	}{
		"IPv4":        {"192.0.2.1:4711", netip.MustParseAddr("192.0.2.1")},
		"IPv6":        {"[2001:db8::1]:4711", netip.MustParseAddr("2001:db8::1")},
		"IPv4 mapped": {"[::ffff:192.0.2.1]:4711", netip.MustParseAddr("192.0.2.1")},
		"no address":  {"bufconn", netip.Addr{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, sourceOf(&authz.Caller{Remote: tc.remote}))
		})
	}
}
