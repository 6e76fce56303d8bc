// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/server/controller/registration"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard()) //nolint:forbidigo // the library logs to nobody in tests
	env.Main(m, env.Options{Name: "registration"}, func() {
		if running.hub != nil {
			running.hub.stop()
		}
	})
}

const (
	hubID    = "hub-1"
	lifetime = time.Hour
)

// hub is the controllers of this package, running against the shared plane.
type hub struct {
	plane *env.Plane
	stop  func()
	// admin is a person with every right, reading past all caches.
	admin client.Client
	// server is the hub's agent-facing ServiceAccount.
	server client.Client
	clock  *offsetClock
	ca     *pki.CA
	// external is another authority whose certificates the hub takes.
	external *pki.CA
	signer   *signer
	// labels are those of the --labels flag.
	labels map[string]string
}

// offsetClock is the real clock, moved on by tests that run alone.
type offsetClock struct{ offset atomic.Int64 }

func (c *offsetClock) Now() time.Time                  { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *offsetClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// signer is a Signer that tests can break.
type signer struct {
	ca    *pki.CA
	clock *offsetClock
	fail  sync.Map // cluster name → error
	calls sync.Map // cluster name → *atomic.Int64
}

func (s *signer) Sign(csr *x509.CertificateRequest, id identity.Agent) ([]byte, error) {
	count, _ := s.calls.LoadOrStore(id.Cluster, &atomic.Int64{})
	count.(*atomic.Int64).Add(1)
	if err, ok := s.fail.Load(id.Cluster); ok {
		return nil, err.(error)
	}
	cert, err := issue(s.ca, csr, id, s.clock.Now())
	if err != nil {
		return nil, err
	}
	return pki.EncodeCertificates(cert), nil
}

// clientCAs are the authorities of agents: the hub's own, and an external one.
func (h *hub) clientCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(h.ca.Cert)
	pool.AddCert(h.external.Cert)
	return pool
}

func (s *signer) signed(cluster string) int64 {
	count, ok := s.calls.Load(cluster)
	if !ok {
		return 0
	}
	return count.(*atomic.Int64).Load()
}

func issue(ca *pki.CA, csr *x509.CertificateRequest, id identity.Agent, now time.Time) (*x509.Certificate, error) {
	template := &x509.Certificate{
		Subject: identity.Subject(id.Cluster, id.Name), NotBefore: now.Add(-pki.Backdate), NotAfter: now.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if id.UID != "" {
		template.URIs = []*url.URL{id.URI()}
	}
	return ca.Issue(template, csr.PublicKey)
}

var running struct {
	sync.Once
	hub *hub
	err error
}

// theHub starts the controllers on first use; TestMain stops them.
func theHub(t *testing.T) *hub {
	t.Helper()
	plane := env.Shared(t)
	running.Do(func() { running.hub, running.err = startHub(context.WithoutCancel(t.Context()), plane) })
	require.NoError(t, running.err)
	return running.hub
}

func startHub(ctx context.Context, plane *env.Plane) (*hub, error) {
	scheme := runtime.NewScheme()
	h := &hub{plane: plane, clock: &offsetClock{}, labels: map[string]string{"team": "fleet"}}
	if err := errors.Join(controller.AddToScheme(scheme), workv1.Install(scheme)); err != nil {
		return nil, err
	}
	cfg := plane.RESTConfig()
	if err := env.InstallCRDs(ctx, cfg, deploy.HubCRDs()...); err != nil {
		return nil, err
	}
	var err error
	if h.admin, err = client.New(cfg, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if err := kube.EnsureNamespace(ctx, h.admin, identity.HubNamespace); err != nil {
		return nil, err
	}
	if err := kube.ApplyManifests(ctx, h.admin, identity.HubNamespace, deploy.HubRBAC()); err != nil {
		return nil, err
	}
	token, err := plane.TokenConfig(ctx, identity.HubNamespace, identity.GRPCServerServiceAccount)
	if err != nil {
		return nil, err
	}
	if h.server, err = client.New(token, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if h.ca, err = pki.NewCA("agents", h.clock.Now(), 24*time.Hour); err != nil {
		return nil, err
	}
	if h.external, err = pki.NewCA("external", h.clock.Now(), 24*time.Hour); err != nil {
		return nil, err
	}
	h.signer = &signer{ca: h.ca, clock: h.clock}
	limited, err := h.limitedIdentity(ctx)
	if err != nil {
		return nil, err
	}
	mgr, err := newManager(limited, scheme)
	if err != nil {
		return nil, err
	}
	selected, err := controller.Select("registration,enrollment")
	if err != nil {
		return nil, err
	}
	deps := controller.Deps{Signer: h.signer, ClientCAs: h.clientCAs, Labels: h.labels, Clock: h.clock, Log: slog.New(slog.DiscardHandler)}
	if err := controller.Add(mgr, deps, selected); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { _ = mgr.Start(running) }) // a failure shows in every test
	h.stop = func() { cancel(); group.Wait() }
	return h, nil
}

// limitedIdentity is who the controllers run as: it has the rights that they
// need and no others. It neither escalates nor binds: what it grants it has.
func (h *hub) limitedIdentity(ctx context.Context) (*rest.Config, error) {
	const name = "hub-controllers"
	rule := func(group, resources, verbs string, names ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: strings.Split(group, ","), Resources: strings.Split(resources, ","), Verbs: strings.Split(verbs, ","), ResourceNames: names}
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{
		rule("cluster.open-cluster-management.io", "managedclusters", "get,list,watch,update,patch,delete"),
		rule("cluster.open-cluster-management.io", "managedclusters/status", "update,patch"),
		rule("fairlead.dev", "clusterenrollments", "get,list,watch"),
		rule("fairlead.dev", "clusterenrollments/status", "patch"),
		rule("", "namespaces", "get,list,watch,create,patch"),
		rule("rbac.authorization.k8s.io", "clusterroles,clusterrolebindings,rolebindings", "get,list,watch,create,update,patch,delete"),
		rule("certificates.k8s.io", "certificatesigningrequests", "get,list,watch,create"),
		rule("certificates.k8s.io", "certificatesigningrequests/approval,certificatesigningrequests/status", "update"),
		rule("certificates.k8s.io", "signers", "approve,sign", identity.SignerName),
		rule("events.k8s.io,", "events", "create,patch,update"),
		rule("coordination.k8s.io", "leases", "get,list,watch,create,update,patch"),
		// Held only in order to be granted to clusters and to the agent-facing account.
		rule("register.open-cluster-management.io", "managedclusters/clientcertificates", "renew"),
		rule("work.open-cluster-management.io", "manifestworks", "get,list,watch,update,patch"),
		rule("work.open-cluster-management.io", "manifestworks/status", "update,patch"),
		rule("addon.open-cluster-management.io", "managedclusteraddons", "get,list,watch"),
		rule("addon.open-cluster-management.io", "managedclusteraddons/status", "update,patch"),
	}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: name}},
	}
	if err := errors.Join(h.admin.Create(ctx, role), h.admin.Create(ctx, binding)); err != nil {
		return nil, err
	}
	return h.plane.ConfigFor(name)
}

func newManager(cfg *rest.Config, scheme *runtime.Scheme) (manager.Manager, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = hubAgent
	cfg.QPS = -1
	return manager.New(cfg, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{
			ByObject: controller.CacheOptions(identity.HubNamespace), DefaultTransform: cache.TransformStripManagedFields(),
		},
	})
}

const hubAgent = "fairlead-hub-under-test"

// cluster makes a ManagedCluster whose name is unique to the test.
func (h *hub) cluster(t *testing.T, accepted bool, change ...func(*clusterv1.ManagedCluster)) *clusterv1.ManagedCluster {
	t.Helper()
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: unique(t)}}
	cluster.Spec.HubAcceptsClient = accepted
	for _, c := range change {
		c(cluster)
	}
	require.NoError(t, h.admin.Create(t.Context(), cluster))
	if accepted {
		h.awaitAccepted(t, cluster.Name)
	}
	return cluster
}

// unique is a name made of the test's own, another one at every call.
func unique(t *testing.T) string {
	t.Helper()
	_, name, _ := strings.Cut(strings.ToLower(t.Name()), "/")
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name)
	return fmt.Sprintf("%s-%d", strings.Trim(name[:min(len(name), 40)], "-"), names.Add(1))
}

var names atomic.Int64

func (h *hub) awaitAccepted(t *testing.T, name string) {
	t.Helper()
	h.awaitCondition(t, name, metav1.ConditionTrue, "HubClusterAdminAccepted")
}

func (h *hub) awaitCondition(t *testing.T, name string, status metav1.ConditionStatus, reason string) metav1.Condition {
	t.Helper()
	var got metav1.Condition
	eventually(t, func(c *assert.CollectT) {
		cluster := &clusterv1.ManagedCluster{}
		require.NoError(c, h.admin.Get(t.Context(), client.ObjectKey{Name: name}, cluster))
		found := condition(cluster)
		require.NotNil(c, found, "no condition HubAcceptedManagedCluster")
		require.Equal(c, status, found.Status, "%+v", found)
		require.Equal(c, reason, found.Reason, "%+v", found)
		got = *found
	})
	return got
}

func condition(cluster *clusterv1.ManagedCluster) *metav1.Condition {
	for i := range cluster.Status.Conditions {
		if cluster.Status.Conditions[i].Type == clusterv1.ManagedClusterConditionHubAccepted {
			return &cluster.Status.Conditions[i]
		}
	}
	return nil
}

// accept is what a person does with kubectl.
func (h *hub) accept(t *testing.T, name string, yes bool) {
	t.Helper()
	h.update(t, name, func(c *clusterv1.ManagedCluster) { c.Spec.HubAcceptsClient = yes })
}

func (h *hub) update(t *testing.T, name string, change func(*clusterv1.ManagedCluster)) {
	t.Helper()
	cluster := &clusterv1.ManagedCluster{}
	require.NoError(t, h.admin.Get(t.Context(), client.ObjectKey{Name: name}, cluster))
	before := cluster.DeepCopy()
	change(cluster)
	require.NoError(t, h.admin.Patch(t.Context(), cluster, client.MergeFrom(before)))
}

// settle returns when the controllers have dealt with everything that was
// written before: another cluster of the test has gone through all of it.
func (h *hub) settle(t *testing.T) {
	t.Helper()
	probe := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"}}
	probe.Spec.HubAcceptsClient = true
	require.NoError(t, h.admin.Create(t.Context(), probe))
	h.awaitAccepted(t, probe.Name)
}

func (h *hub) work(t *testing.T, namespace, name string) *workv1.ManifestWork {
	t.Helper()
	work := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Finalizers: []string{identity.ManifestWorkFinalizer}}}
	require.NoError(t, h.admin.Create(t.Context(), work))
	return work
}

// finish deletes a work and takes its finalizer off, as for an agent.
func (h *hub) finish(t *testing.T, work *workv1.ManifestWork) {
	t.Helper()
	before := work.DeepCopy()
	work.Finalizers = nil
	require.NoError(t, h.admin.Patch(t.Context(), work, client.MergeFrom(before)))
	require.NoError(t, client.IgnoreNotFound(h.admin.Delete(t.Context(), work)))
}

// get reads an object from the apiserver until it is there.
func get[T client.Object](t *testing.T, h *hub, namespace, name string, into T) T {
	t.Helper()
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, h.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, into))
	})
	return into
}

func (h *hub) absent(t *testing.T, object client.Object) bool {
	t.Helper()
	err := h.admin.Get(t.Context(), client.ObjectKeyFromObject(object), object)
	if err != nil {
		require.True(t, apierrors.IsNotFound(err), "%v", err)
	}
	return err != nil
}

func (h *hub) awaitGone(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		eventually(t, func(c *assert.CollectT) {
			err := h.admin.Get(t.Context(), client.ObjectKeyFromObject(object), object)
			require.True(c, apierrors.IsNotFound(err), "%T %q is still there (%v)", object, object.GetName(), err)
		})
	}
}

// awaitEvent finds an event about an object by its reason.
func (h *hub) awaitEvent(t *testing.T, about, reason string) corev1.Event {
	t.Helper()
	var found corev1.Event
	eventually(t, func(c *assert.CollectT) {
		list := &corev1.EventList{}
		require.NoError(c, h.admin.List(t.Context(), list))
		for _, e := range list.Items {
			if e.InvolvedObject.Name == about && e.Reason == reason {
				found = e
				return
			}
		}
		require.Fail(c, "no event", "%s of %s", reason, about)
	})
	return found
}

func eventually(t *testing.T, check func(*assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, check, time.Minute, 100*time.Millisecond)
}

var _ registration.Signer = (*signer)(nil)
