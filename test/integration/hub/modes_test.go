// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/test/env"
)

// A renewal: the new certificate's first use ends the session of the old one,
// and what follows it.
func TestHub_renewal_make_before_break(t *testing.T) {
	t.Parallel()
	hub := startHub(t, env.Shared(t).RESTConfig(), nil).ready()
	name := env.Shared(t).Unique("renewing")
	agent := newAgent(t, hub, name)
	agent.join(hub.token(name, true), false)
	old := agent.session(&agentv1.Hello{})

	key, err := pki.NewKey()
	require.NoError(t, err)
	csr, err := pki.NewCSR(key, identity.Subject(name, "agent"))
	require.NoError(t, err)
	renewed, err := agent.api.RenewCertificate(t.Context(), &agentv1.RenewCertificateRequest{CsrDer: csr})
	require.NoError(t, err)
	require.NotZero(t, renewed.GetCertificate().GetTrustBundle().GetVersion())
	agent.key = key
	agent.use(renewed.GetCertificate().GetChainDer())
	fresh := agent.session(&agentv1.Hello{})
	// The takeover ends it, or the look at whether its certificate is still in use; whichever comes first.
	require.Contains(t, []string{reason.Superseded, reason.SerialMismatch}, rpcerr.ReasonOf(old.end()))
	require.NotEqual(t, old.welcome.GetSessionId(), fresh.welcome.GetSessionId())
}

// The operator's own PKI, and certificates as the only proof: a cluster without
// a ManagedCluster gets its works (c11).
func TestHub_certificate_authentication(t *testing.T) {
	t.Parallel()
	plane := env.Shared(t)
	dir, unmanaged := t.TempDir(), plane.Unique("unmanaged")
	now := time.Now()
	ca, err := pki.NewCA("own", now, time.Hour)
	require.NoError(t, err)
	serving, err := ca.IssueServing([]string{"127.0.0.1"}, now, time.Hour)
	require.NoError(t, err)
	files := map[string][]byte{
		"ca.crt":  pki.EncodeCertificates(ca.Cert),
		"tls.crt": pki.EncodeCertificates(serving.Leaf, ca.Cert),
	}
	servingKey, ok := serving.PrivateKey.(crypto.Signer)
	require.True(t, ok)
	files["tls.key"], err = pki.EncodeKey(servingKey)
	require.NoError(t, err)
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	hub := startHub(t, plane.RESTConfig(), func(c *server.Config) {
		c.TLSCert, c.TLSKey, c.AgentClientCA = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")
		c.AgentAuth, c.Controllers = server.AuthCertificate, ""
	}).ready()

	key, err := pki.NewKey()
	require.NoError(t, err)
	leaf, err := ca.Issue(&x509.Certificate{
		Subject: identity.Subject(unmanaged, "agent"), NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key.Public())
	require.NoError(t, err)
	agent := &rawAgent{t: t, hub: hub, cluster: unmanaged, key: key, tls: pki.NewClient(pki.Trust{Roots: []*x509.Certificate{ca.Cert}})}
	agent.tls.SetCertificate(&tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf})
	agent.dial()

	require.NoError(t, hub.kube.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: unmanaged}}))
	hub.create(newWork(unmanaged, "web", "1"))
	s := agent.session(&agentv1.Hello{})
	change := s.change("web")
	s.stored(change)
	result := s.status(&agentv1.ObjectStatus{
		Key: change.GetKey(), Uid: change.GetRevision().GetUid(), ObservedGeneration: 1, ObservedDigest: change.GetRevision().GetDigest(), StatusSeq: 1,
		StatusJson: []byte(`{"conditions":[{"type":"Applied","status":"True","reason":"R","message":"","observedGeneration":1,"lastTransitionTime":"2026-01-01T00:00:00Z"}]}`),
	})
	require.Equal(t, agentv1.StatusCode_STATUS_CODE_PERSISTED, result.GetCode(), "%v", result)
	_, err = agent.api.Enroll(t.Context(), &agentv1.EnrollRequest{ClusterName: "x", JoinToken: "a.b"})
	require.Equal(t, codes.Unimplemented, status.Code(err), "there is nothing to enroll with")
}

// The admin listener tells about itself only to whom the apiserver allows it.
func TestT54_reflection_asks_the_apiserver(t *testing.T) {
	t.Parallel()
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	cluster := env.Shared(t).Unique("nosy")
	agent := newAgent(t, hub, cluster)
	agent.join(hub.token(cluster, true), false)
	nobody, curious := plane.Unique("nobody"), plane.Unique("curious")
	for name, rules := range map[string][]rbacv1.PolicyRule{
		nobody:  nil,
		curious: {{NonResourceURLs: []string{"/grpc/reflection"}, Verbs: []string{"get"}}},
	} {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
		require.NoError(t, hub.kube.Create(t.Context(), account))
		require.NoError(t, hub.kube.Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}))
		require.NoError(t, hub.kube.Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: name, APIGroup: rbacv1.GroupName},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: "default"}},
		}))
		env.AwaitRights(t, hub.config, "system:serviceaccount:default:"+name, "", rules...)
	}
	dial := func(cert *tls.Certificate) *grpc.ClientConn {
		trust := pki.NewClient(agent.trust)
		trust.SetCertificate(cert)
		conn, err := grpc.NewClient(hub.addresses.Admin, grpc.WithTransportCredentials(credentials.NewTLS(trust.TLSConfig("127.0.0.1"))))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	list := func(conn *grpc.ClientConn, token string) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		require.NoError(t, err)
		_ = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		_, err = stream.Recv()
		return err
	}
	tokenOf := func(account string) string {
		config, err := plane.TokenConfig(t.Context(), "default", account)
		require.NoError(t, err)
		return config.BearerToken
	}
	person := dial(nil)
	require.NoError(t, list(person, tokenOf(curious)))
	require.Equal(t, codes.PermissionDenied, status.Code(list(person, tokenOf(nobody))))
	require.Equal(t, codes.Unauthenticated, status.Code(list(person, "made.up.token")))
	require.Equal(t, codes.Unauthenticated, status.Code(list(person, "")))
	require.Equal(t, codes.PermissionDenied, status.Code(list(dial(agent.tls.Certificate()), "")), "an agent, by its type")
	until(t, "the Health service to say so, to anybody", func() error {
		answer, err := healthv1.NewHealthClient(person).Check(t.Context(), &healthv1.HealthCheckRequest{})
		if err == nil && answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			err = errors.New(answer.GetStatus().String())
		}
		return err
	})
}

// A replica that has lost its apiserver ends its sessions after 15 s, is not
// ready, stays up, and takes them again when the apiserver is back (B30, c8).
func TestT33_apiserver_away(t *testing.T) {
	plane := env.Shared(t)
	proxy := env.StartProxy(t, plane.RESTConfig())
	hub := startHub(t, proxy.RESTConfig(), nil).ready()
	name := env.Shared(t).Unique("patient")
	agent := newAgent(t, hub, name)
	agent.join(hub.token(name, true), false)
	s := agent.session(&agentv1.Hello{})
	renewed := hub.renewal(s.welcome.GetHubReplica())
	remove := proxy.Inject(env.Fault{Match: env.Match{}, Status: http.StatusServiceUnavailable})
	away := time.Now()
	err := s.end()
	require.Equal(t, reason.ApiserverLost, rpcerr.ReasonOf(err), "%v", err)
	require.GreaterOrEqual(t, time.Since(renewed), 15*time.Second)
	require.Less(t, time.Since(away), unhurried(24*time.Second))
	_, err = agent.trySession(&agentv1.Hello{})
	require.Equal(t, reason.ApiserverLost, rpcerr.ReasonOf(err), "no session is taken, and why: %v", err)
	code, text := hub.get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, text, "apiserver")
	code, _ = hub.get("/livez")
	require.Equal(t, http.StatusOK, code, "liveness is the process only")
	_, err = agent.trySession(&agentv1.Hello{})
	require.Equal(t, codes.Unavailable, status.Code(err))
	remove()
	hub.ready()
	agent.session(&agentv1.Hello{})
}

// renewal waits until a replica renews its Lease, and returns when it did: the time
// without an apiserver counts from there.
func (r *running) renewal(replica string) time.Time {
	r.t.Helper()
	var first, last *metav1.MicroTime
	until(r.t, "the replica's Lease to be renewed", func() error {
		lease := &coordinationv1.Lease{}
		if err := r.kube.Get(r.t.Context(), client.ObjectKey{Namespace: identity.HubNamespace, Name: identity.ReplicaLeasePrefix + replica}, lease); err != nil {
			return err
		}
		if last = lease.Spec.RenewTime; first == nil {
			first = last
		}
		if last.Equal(first) {
			return errors.New("it is not")
		}
		return nil
	})
	return last.Time
}

// The works of a cluster over --manifest-limit are not sent, and say why; the
// one at the limit is.
func TestT21_manifest_limit_without_a_webhook(t *testing.T) {
	t.Parallel()
	const limit = 20_000
	hub := startHub(t, env.Shared(t).RESTConfig(), func(c *server.Config) { c.ManifestLimit = limit }).ready()
	cluster := env.Shared(t).Unique("large")
	agent := newAgent(t, hub, cluster)
	agent.join(hub.token(cluster, true), false)
	s := agent.session(&agentv1.Hello{})
	for name, size := range map[string]int{"over-limit": limit + 1, "at-limit": limit} {
		work := newWork(cluster, name, "")
		work.Spec.Workload.Manifests[0].Raw = sized(t, work.Spec.Workload.Manifests[0].Raw, size)
		hub.create(work)
	}
	s.stored(s.change("at-limit"))
	until(t, "the condition", func() error {
		work := &workv1.ManifestWork{}
		if err := hub.kube.Get(t.Context(), client.ObjectKey{Namespace: cluster, Name: "over-limit"}, work); err != nil {
			return err
		}
		for _, condition := range work.Status.Conditions {
			if condition.Type == "Delivered" && condition.Reason == reason.ObjectTooLarge {
				require.Equal(t, "its manifests are 20001 bytes, the limit is 20000: split it into several works", condition.Message)
				return nil
			}
		}
		return errors.New("no condition Delivered")
	})
}

// sized is a manifest of exactly that many bytes as the apiserver keeps it.
func sized(t *testing.T, raw []byte, size int) []byte {
	t.Helper()
	var object map[string]any
	require.NoError(t, json.Unmarshal(raw, &object))
	pad := func(n int) []byte {
		object["data"] = map[string]any{"value": strings.Repeat("x", n)}
		padded, err := json.Marshal(object)
		require.NoError(t, err)
		return padded
	}
	return pad(size - len(pad(0)))
}

// A hub that starts before its apiserver waits for it, says so, and serves once
// it is there.
func TestHub_starts_before_its_apiserver(t *testing.T) {
	t.Parallel()
	proxy := env.StartProxy(t, env.Shared(t).RESTConfig())
	remove := proxy.Inject(env.Fault{Match: env.Match{}, Status: http.StatusServiceUnavailable})
	hub := startHub(t, proxy.RESTConfig(), nil)
	until(t, "probes to be answered", func() error {
		if code, text := hub.get("/livez"); code != http.StatusOK {
			return errors.New(text)
		}
		return nil
	})
	code, text := hub.get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, text, "apiserver")
	remove()
	hub.ready()
	_, metrics := hub.get("/metrics")
	for _, name := range []string{
		"fairlead_hub_sessions 0", "fairlead_hub_index_works", `fairlead_hub_enrollments{state="Active"}`,
		"fairlead_hub_certificate_expiry_seconds", "go_goroutines", "controller_runtime_",
	} {
		require.Contains(t, metrics, "\n"+name, name)
	}
	require.Equal(t, 1, strings.Count(metrics, "\ngo_goroutines "), "nothing twice")
}

// T62: the certificate of a cluster that was deleted is no use for one of the
// same name that was made afterwards.
func TestT62_recreated_cluster(t *testing.T) {
	t.Parallel()
	hub := startHub(t, env.Shared(t).RESTConfig(), nil).ready()
	cluster := env.Shared(t).Unique("phoenix")
	agent := newAgent(t, hub, cluster)
	agent.join(hub.token(cluster, true), false)
	agent.session(&agentv1.Hello{}).cancel()
	old := &clusterv1.ManagedCluster{}
	key := client.ObjectKey{Name: cluster}
	require.NoError(t, hub.kube.Get(t.Context(), key, old))
	require.NoError(t, hub.kube.Delete(t.Context(), old))
	until(t, "the old one to be gone", func() error {
		_ = hub.kube.Patch(t.Context(), old, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)))
		if err := hub.kube.Get(t.Context(), key, old); !isNotFound(err) {
			return errors.New("it is still there")
		}
		return nil
	})
	require.NoError(t, hub.kube.Create(t.Context(), &clusterv1.ManagedCluster{
		ObjectMeta: metav1.ObjectMeta{Name: cluster}, Spec: clusterv1.ManagedClusterSpec{HubAcceptsClient: true},
	}))
	until(t, "the hub to know the new one", func() error {
		_, err := agent.trySession(&agentv1.Hello{})
		if status.Code(err) != codes.PermissionDenied {
			return errors.New("not refused: " + status.Convert(err).Message())
		}
		if why := rpcerr.ReasonOf(err); why != reason.UIDMismatch {
			return errors.New(why)
		}
		return nil
	})
}
