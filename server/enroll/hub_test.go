// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/server/enroll"
	"fairlead.dev/fairlead/test/env"
)

const hubID = "hub-test"

func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "enroll"}) }

// hub is what every test of the package shares: one apiserver, the identities,
// and an authority.
type hub struct {
	admin  client.Client
	agents client.Client
	config *rest.Config // of agents
	ca     *pki.CA
}

var shared struct {
	sync.Once
	*hub
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	_ = clientgoscheme.AddToScheme(scheme)
	_ = clusterv1.Install(scheme)
	_ = v1alpha1.AddToScheme(scheme)
	return scheme
}

func newHub(t *testing.T) *hub {
	t.Helper()
	shared.Do(func() {
		ctx := context.WithoutCancel(t.Context())
		cfg := env.Shared(t).RESTConfig()
		require.NoError(t, env.InstallCRDs(ctx, cfg, deploy.HubCRDs()...))
		admin, err := client.New(cfg, client.Options{Scheme: newScheme()})
		require.NoError(t, err)
		account := types.NamespacedName{Namespace: identity.HubNamespace, Name: identity.GRPCServerServiceAccount}
		agentsConfig, err := kube.EnsureIdentity(ctx, cfg, admin, account, deploy.HubRBAC())
		require.NoError(t, err)
		agentsConfig.QPS = -1
		agents, err := client.New(agentsConfig, client.Options{Scheme: newScheme()})
		require.NoError(t, err)
		ca, err := pki.NewCA("agents", time.Now(), 1000*time.Hour)
		require.NoError(t, err)
		shared.hub = &hub{admin: admin, agents: agents, config: agentsConfig, ca: ca}
	})
	require.NotNil(t, shared.hub, "the shared hub did not start; see the first test that failed")
	return shared.hub
}

// replica starts one service with a cache of its own; change may be nil.
func (h *hub) replica(t *testing.T, change func(*enroll.Config)) *enroll.Service {
	t.Helper()
	store, err := cache.New(h.config, cache.Options{Scheme: newScheme()})
	require.NoError(t, err)
	cfg := enroll.Config{
		Hub: h.admin, Agents: h.agents, Cache: store, Namespace: identity.HubNamespace, HubID: hubID, HMACKey: []byte("key of all replicas"),
		Limits: enroll.Limits{Pending: -1, SourcePerMinute: -1, TokenFailuresPerHour: -1, GlobalPerSecond: -1}, Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	service, err := enroll.New(ctx, cfg)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- store.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	require.True(t, store.WaitForCacheSync(ctx))
	return service
}

// machine is an agent that enrolls: one key and its request.
type machine struct {
	cluster string
	key     crypto.Signer
	csr     []byte
	cert    *x509.Certificate
}

func newMachine(t *testing.T, cluster string) *machine {
	t.Helper()
	key, err := pki.NewKey()
	require.NoError(t, err)
	csr, err := pki.NewCSR(key, identity.Subject(cluster, "a"))
	require.NoError(t, err)
	t.Cleanup(func() { wipe(context.WithoutCancel(t.Context()), t, cluster) })
	return &machine{cluster: cluster, key: key, csr: csr}
}

// wipe removes what enrolling left, so that tests can run again on one plane.
func wipe(ctx context.Context, t *testing.T, cluster string) {
	t.Helper()
	require.NoError(t, client.IgnoreNotFound(shared.admin.Delete(ctx, &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: cluster}})))
	of := client.MatchingLabels{identity.ClusterNameLabel: cluster}
	require.NoError(t, shared.admin.DeleteAllOf(ctx, &v1alpha1.ClusterEnrollment{}, of))
	require.NoError(t, shared.admin.DeleteAllOf(ctx, &certificatesv1.CertificateSigningRequest{}, of))
}

func (m *machine) request(token string) enroll.Request {
	return enroll.Request{Cluster: m.cluster, Token: token, CSR: m.csr, Fingerprint: "fp-" + m.cluster, AgentID: "id", AgentVersion: "v0", Source: netip.MustParseAddr("192.0.2.7")}
}

func (m *machine) keySHA256(t *testing.T) string {
	t.Helper()
	spki, err := pki.SPKI(m.key.Public())
	require.NoError(t, err)
	return pki.KeySHA256(spki)
}

func (m *machine) get(t *testing.T, s *enroll.Service, e enroll.Enrollment, wait time.Duration) (enroll.Enrollment, error) {
	t.Helper()
	proof, err := pki.Prove(m.key, e.ID, e.Challenge)
	require.NoError(t, err)
	return s.Get(t.Context(), e.ID, e.Challenge, proof, wait)
}

func token(t *testing.T, s *enroll.Service, policy enroll.Policy) string {
	t.Helper()
	_, text, err := s.Tokens().Create(t.Context(), policy, "alice")
	require.NoError(t, err)
	return text
}

// sign does what the controllers do for an approved request.
func (h *hub) sign(t *testing.T, name, key string, lifetime time.Duration) *x509.Certificate {
	t.Helper()
	e := h.enrollment(t, name)
	require.True(t, e.AwaitsKey(key), "the enrollment awaits a certificate for that key")
	csrName := e.Spec.CSRName
	if e.EverIssued() {
		csrName = e.Status.Next.CSRName
	}
	csr := &certificatesv1.CertificateSigningRequest{}
	require.NoError(t, h.admin.Get(t.Context(), client.ObjectKey{Name: csrName}, csr))
	der, err := pki.DecodeCSR(csr.Spec.Request)
	require.NoError(t, err)
	request, id, err := pki.ParseCSR(der)
	require.NoError(t, err)
	require.Equal(t, key, pki.KeySHA256(request.RawSubjectPublicKeyInfo))
	id.HubID, id.UID = e.Spec.HubID, e.Spec.ManagedClusterUID
	cert, err := h.ca.Issue(&x509.Certificate{
		Subject: identity.Subject(id.Cluster, id.Name), URIs: []*url.URL{id.URI()},
		NotBefore: time.Now().Add(-pki.Backdate), NotAfter: time.Now().Add(lifetime), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, request.PublicKey)
	require.NoError(t, err)
	csr.Status.Certificate = pki.EncodeCertificates(cert)
	require.NoError(t, h.admin.Status().Update(t.Context(), csr))
	notAfter := metav1.NewTime(cert.NotAfter)
	record := &v1alpha1.Certificate{KeySHA256: key, CSRName: csrName, Serial: pki.Serial(cert), NotAfter: &notAfter, Chain: pki.EncodeCertificates(cert)}
	if e.EverIssued() {
		e.Status.Next = record
	} else {
		e.Status.Current = record
		e.SetState(v1alpha1.StateIssued, "Signed", "", metav1.Now())
	}
	require.NoError(t, h.admin.Status().Update(t.Context(), e))
	return cert
}

func (h *hub) enrollment(t *testing.T, name string) *v1alpha1.ClusterEnrollment {
	t.Helper()
	e := &v1alpha1.ClusterEnrollment{}
	require.NoError(t, h.admin.Get(t.Context(), client.ObjectKey{Name: name}, e))
	return e
}

func (h *hub) cluster(t *testing.T, name string) *clusterv1.ManagedCluster {
	t.Helper()
	cluster := &clusterv1.ManagedCluster{}
	require.NoError(t, h.admin.Get(t.Context(), client.ObjectKey{Name: name}, cluster))
	return cluster
}

// nothingOf asserts that a refused request left no object behind.
func (h *hub) nothingOf(t *testing.T, cluster string) {
	t.Helper()
	var enrollments v1alpha1.ClusterEnrollmentList
	require.NoError(t, h.admin.List(t.Context(), &enrollments, client.MatchingLabels{identity.ClusterNameLabel: cluster}))
	require.Empty(t, enrollments.Items)
	var csrs certificatesv1.CertificateSigningRequestList
	require.NoError(t, h.admin.List(t.Context(), &csrs, client.MatchingLabels{identity.ClusterNameLabel: cluster}))
	require.Empty(t, csrs.Items)
	err := h.admin.Get(t.Context(), client.ObjectKey{Name: cluster}, &clusterv1.ManagedCluster{})
	require.True(t, client.IgnoreNotFound(err) == nil && err != nil, "no ManagedCluster %q", cluster)
}

// active takes a machine the whole way to a used certificate.
func (h *hub) active(t *testing.T, s *enroll.Service, cluster string) *machine {
	t.Helper()
	m := newMachine(t, cluster)
	answer, err := s.Enroll(t.Context(), m.request(token(t, s, enroll.Policy{ClusterName: cluster})))
	require.NoError(t, err)
	_, err = s.Accept(t.Context(), h.admin, enroll.Choice{ID: answer.ID, PairingCode: answer.PairingCode})
	require.NoError(t, err)
	m.cert = h.sign(t, answer.ID, m.keySHA256(t), time.Hour)
	_, err = s.Authenticate(t.Context(), m.cert)
	require.NoError(t, err)
	return m
}

// person makes a user with the given cluster-wide rules and returns a client.
func (h *hub) person(t *testing.T, name string, rules ...rbacv1.PolicyRule) client.Client {
	t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}
	for _, obj := range []client.Object{role, binding} {
		require.NoError(t, h.admin.Create(t.Context(), obj))
		t.Cleanup(func() { require.NoError(t, h.admin.Delete(context.WithoutCancel(t.Context()), obj)) })
	}
	cfg, err := env.Shared(t).ConfigFor(name)
	require.NoError(t, err)
	c, err := client.New(cfg, client.Options{Scheme: newScheme()})
	require.NoError(t, err)
	env.AwaitRights(t, env.Shared(t).RESTConfig(), name, "", rules...)
	return c
}

func accepter() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{"register.open-cluster-management.io"}, Resources: []string{"managedclusters/accept"}, Verbs: []string{"update"}},
		{APIGroups: []string{"cluster.open-cluster-management.io"}, Resources: []string{"managedclusters"}, Verbs: []string{"patch"}},
		{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests/approval"}, Verbs: []string{"update"}},
		{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"signers"}, ResourceNames: []string{identity.SignerName}, Verbs: []string{"approve"}},
	}
}

func fakeClock() *testingclock.FakeClock { return testingclock.NewFakeClock(time.Now()) }

func requireReason(t *testing.T, err error, why string) {
	t.Helper()
	var refused *enroll.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, why, refused.Reason, refused.Message)
	require.NotContains(t, strings.ToLower(refused.Message), "failed to")
}
