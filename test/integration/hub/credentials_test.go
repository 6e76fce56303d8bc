// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	channelzpb "google.golang.org/grpc/channelz/grpc_channelz_v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionalphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/test/env"
)

// What a caller can meet.
const (
	serves = "serves"  // the handler has the call
	asks   = "asks"    // the hub's door wants another credential
	bars   = "bars"    // the door knows the credential, and it is not for this
	unsafe = "no call" // the handshake fails
	absent = "absent"  // there is no such method
	rights = "rights"  // the apiserver says that the person may not
	empty  = "empty"   // the request says nothing, which is looked at before rights
)

// credential is one way to come.
type credential struct {
	certificate *pki.Client
	token       string
}

// TestT54_every_method_with_every_credential calls all methods of the descriptor
// set on both listeners of a whole hub, over TLS, with every kind of credential.
// What has to come of it is written down here, and not read from the hub's table.
func TestT54_every_method_with_every_credential(t *testing.T) {
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), func(c *server.Config) { c.LeaderElect = false }).ready()
	all := hub.everyCredential(t, plane)
	methods := describedMethods()
	require.Greater(t, len(methods), 40)
	for name, c := range all {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			for _, method := range methods {
				for _, agents := range []bool{true, false} {
					want := wanted(method, agents, name)
					if want == nil {
						continue
					}
					got, err := hub.try(t, method, agents, c)
					require.Contains(t, want, got, "%s on the listener of agents=%v: %v", method, agents, err)
				}
			}
		})
	}
}

// wanted is what may come of a call; nil where it is not made.
func wanted(method string, agents bool, who string) []string {
	person := slices.Contains([]string{"token without rights", "admin", "scheduler"}, who)
	service, name := strings.Split(method, "/")[1], strings.Split(method, "/")[2]
	switch {
	case slices.Contains([]string{"expired", "foreign CA", "own hub's serving CA"}, who):
		return []string{unsafe}
	case service == "grpc.health.v1.Health":
		return map[bool][]string{true: {asks}, false: {serves}}[who == "certificate and token"]
	case agents != (service == "fairlead.agent.v1.AgentService"):
		return []string{bars, absent}
	case who == "certificate and token":
		return []string{asks, absent}
	case agents && (name == "Enroll" || name == "GetEnrollment"):
		return map[bool][]string{true: {bars}, false: {serves, empty, asks}}[person || who == "made up token"] // a proof that is none is asked for anew
	case agents:
		switch who {
		case "none":
			return []string{asks}
		case "agent", "another cluster's":
			return []string{serves, empty}
		}
		return []string{bars}
	case person && who != "admin":
		return []string{rights, empty, absent}
	case who == "admin" && (strings.HasPrefix(name, "Prepare") || strings.HasPrefix(name, "Activate") || strings.HasPrefix(name, "Retire")):
		return nil // it would do it
	case who == "admin":
		return []string{serves, empty, absent}
	case who == "none":
		return []string{asks, absent}
	case who == "made up token":
		return []string{asks, empty, absent} // the apiserver looks at it, when there is something to ask
	}
	return []string{bars, absent} // agents
}

// describedMethods are those of all services whose descriptors are linked in; what
// ends an agent comes last.
func describedMethods() (methods []string) {
	for _, file := range []protoreflect.FileDescriptor{
		agentv1.File_fairlead_agent_v1_agent_proto, adminv1.File_fairlead_admin_v1_admin_proto, schedulerv1.File_fairlead_scheduler_v1_scheduler_proto,
		grpc_health_v1.File_grpc_health_v1_health_proto, reflectionpb.File_grpc_reflection_v1_reflection_proto,
		reflectionalphapb.File_grpc_reflection_v1alpha_reflection_proto, channelzpb.File_grpc_channelz_v1_channelz_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				methods = append(methods, fmt.Sprintf("/%s/%s", service.FullName(), service.Methods().Get(j).Name()))
			}
		}
	}
	slices.SortFunc(methods, func(a, b string) int {
		last := func(m string) int { return map[bool]int{true: 1}[strings.HasSuffix(m, "/Detach")] }
		return last(a) - last(b)
	})
	return methods
}

// try makes one call with an empty request on a connection of its own.
func (r *running) try(t *testing.T, method string, agents bool, c credential) (string, error) {
	t.Helper()
	address := r.addresses.Admin
	if agents {
		address = r.addresses.Agent
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(c.certificate.TLSConfig("127.0.0.1"))))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if c.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err == nil {
		_ = stream.SendMsg(&emptypb.Empty{}) // why it cannot be sent, RecvMsg says
		_ = stream.CloseSend()
		err = stream.RecvMsg(&emptypb.Empty{})
	}
	return metWith(err), err
}

func metWith(err error) string {
	s := status.Convert(err)
	switch s.Code() { //nolint:exhaustive // whatever else comes is the handler's
	case codes.Unavailable:
		return unsafe
	case codes.Unimplemented:
		return absent
	case codes.Unauthenticated:
		return asks
	case codes.InvalidArgument:
		return empty
	case codes.PermissionDenied:
		for _, door := range []string{"this method needs", "may not be called here", "are not served here", "the hub does not accept cluster"} {
			if strings.Contains(s.Message(), door) {
				return bars
			}
		}
		return rights
	}
	return serves
}

// everyCredential makes one of every kind.
func (r *running) everyCredential(t *testing.T, plane *env.Plane) map[string]credential {
	t.Helper()
	joined := func(name string) *rawAgent {
		a := newAgent(t, r, plane.Unique(name))
		a.join(r.token(a.cluster, true), false)
		a.session(&agentv1.Hello{}).cancel()
		return a
	}
	agent, other, revoked, both := joined("t54-agent"), joined("t54-other"), joined("t54-revoked"), joined("t54-both")
	deny := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"hubAcceptsClient":false}}`))
	require.NoError(t, r.kube.Patch(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: revoked.cluster}}, deny))
	until(t, "the revocation", func() error {
		_, err := r.try(t, "/fairlead.agent.v1.AgentService/RenewCertificate", true, credential{certificate: revoked.tls})
		if status.Code(err) != codes.PermissionDenied {
			return fmt.Errorf("not yet: %w", err)
		}
		return nil
	})
	scheduler := plane.Unique("t54-scheduler")
	require.NoError(t, r.kube.Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: scheduler}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"fairlead.dev"}, Resources: []string{"schedulers"}, Verbs: []string{"use"}},
	}}))
	plain := pki.NewClient(agent.trust)
	return map[string]credential{
		"none": {certificate: plain}, "made up token": {plain, "made.up.token"},
		"token without rights": {plain, r.person(plane, plane.Unique("t54-nobody"), nobody, "")},
		"admin":                {plain, r.person(plane, plane.Unique("t54-admin"), manager, "")},
		"scheduler":            {plain, r.person(plane, scheduler, scheduler, "")},
		"agent":                {certificate: agent.tls}, "another cluster's": {certificate: other.tls}, "revoked": {certificate: revoked.tls},
		"certificate and token": {both.tls, "made.up.token"},
		"expired":               {certificate: r.forged(t, both, "fairlead-ca-agent-client", -time.Minute)},
		"own hub's serving CA":  {certificate: r.forged(t, both, "fairlead-ca-hub-serving", time.Hour)},
		"foreign CA":            {certificate: r.forged(t, both, "", time.Hour)},
	}
}

// forged is an agent's certificate once more, with another end, signed by an
// authority of the hub or by one that nobody knows.
func (r *running) forged(t *testing.T, of *rawAgent, authority string, left time.Duration) *pki.Client {
	t.Helper()
	key, err := pki.NewKey()
	require.NoError(t, err)
	template := *of.tls.Certificate().Leaf
	template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(left)
	parent := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: template.NotAfter, IsCA: true, BasicConstraintsValid: true}
	signer := key
	if authority != "" {
		secret := &corev1.Secret{}
		require.NoError(t, r.kube.Get(t.Context(), client.ObjectKey{Namespace: identity.HubNamespace, Name: authority}, secret))
		roots, err := pki.ParseCertificates(secret.Data["tls.crt"])
		require.NoError(t, err)
		parent = roots[0]
		signer, err = pki.ParseKey(secret.Data["tls.key"])
		require.NoError(t, err)
	}
	raw, err := x509.CreateCertificate(nil, &template, parent, key.Public(), signer)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	c := pki.NewClient(of.trust)
	c.SetCertificate(&tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf})
	return c
}
