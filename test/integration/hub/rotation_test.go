// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	agentenroll "fairlead.dev/fairlead/agent/enroll"
	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/test/env"
)

// rotation is how much of T40 is made.
type rotation struct {
	agents, reloads int
	life, every     time.Duration // of a certificate; at least between two reloads
}

// rotationOf is short; FAIRLEAD_T40=1 makes the whole of it.
func rotationOf() rotation {
	if os.Getenv("FAIRLEAD_T40") != "" {
		return rotation{agents: 200, reloads: 6, life: 3 * time.Minute, every: 10 * time.Minute}
	}
	return rotation{agents: 20, reloads: 2, life: 30 * time.Second}
}

// ownPKI is an operator's: a root of the hub's certificate, authorities of agents
// that come and go, and a signer of what the hub has approved.
type ownPKI struct {
	t    *testing.T
	dir  string
	life time.Duration
	root *pki.CA

	mu     sync.Mutex
	signer *pki.CA
}

func newOwnPKI(t *testing.T, life time.Duration) *ownPKI {
	t.Helper()
	p := &ownPKI{t: t, dir: t.TempDir(), life: life}
	p.root, p.signer = p.authority("root"), p.authority("agents 0")
	p.write(p.signer)
	return p
}

func (p *ownPKI) authority(name string) *pki.CA {
	p.t.Helper()
	authority, err := pki.NewCA(name, time.Now(), 24*time.Hour)
	require.NoError(p.t, err)
	return authority
}

func (p *ownPKI) path(name string) string { return filepath.Join(p.dir, name) }

// write replaces all files: a new certificate of the hub, and these authorities
// of agents. The certificate comes last: with it the hub has the authorities, too.
func (p *ownPKI) write(clients ...*pki.CA) (serial string) {
	p.t.Helper()
	serving, err := p.root.IssueServing([]string{"127.0.0.1"}, time.Now(), time.Hour)
	require.NoError(p.t, err)
	signer, ok := serving.PrivateKey.(crypto.Signer)
	require.True(p.t, ok)
	key, err := pki.EncodeKey(signer)
	require.NoError(p.t, err)
	var bundle []*x509.Certificate
	for _, authority := range clients {
		bundle = append(bundle, authority.Cert)
	}
	for _, file := range []struct {
		name    string
		content []byte
	}{
		{"ca.crt", pki.EncodeCertificates(bundle...)}, {"tls.key", key}, {"tls.crt", pki.EncodeCertificates(serving.Leaf, p.root.Cert)},
	} {
		require.NoError(p.t, os.WriteFile(p.path(file.name), file.content, 0o600))
	}
	return pki.Serial(serving.Leaf)
}

// current signs from now on if another is given.
func (p *ownPKI) current(next *pki.CA) *pki.CA {
	p.mu.Lock()
	defer p.mu.Unlock()
	if next != nil {
		p.signer = next
	}
	return p.signer
}

// sign writes certificates into what the hub approves, until the test ends.
func (p *ownPKI) sign(kube kubernetes.Interface) {
	p.t.Helper()
	factory := informers.NewSharedInformerFactory(kube, 0)
	look := func(object any) {
		csr, ok := object.(*certificatesv1.CertificateSigningRequest)
		if !ok || csr.Spec.SignerName != identity.SignerName || len(csr.Status.Certificate) > 0 || !approved(csr) {
			return
		}
		if err := p.issue(kube, csr.DeepCopy()); err != nil && !apierrors.IsConflict(err) && p.t.Context().Err() == nil {
			p.t.Errorf("the external signer: %v", err)
		}
	}
	_, err := factory.Certificates().V1().CertificateSigningRequests().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: look, UpdateFunc: func(_, object any) { look(object) },
	})
	require.NoError(p.t, err)
	ctx, cancel := context.WithCancel(p.t.Context())
	factory.StartWithContext(ctx)
	p.t.Cleanup(func() { cancel(); factory.Shutdown() })
}

func approved(csr *certificatesv1.CertificateSigningRequest) bool {
	for _, c := range csr.Status.Conditions {
		if c.Type == certificatesv1.CertificateApproved {
			return true
		}
	}
	return false
}

func (p *ownPKI) issue(kube kubernetes.Interface, csr *certificatesv1.CertificateSigningRequest) error {
	der, err := pki.DecodeCSR(csr.Spec.Request)
	if err != nil {
		return err
	}
	request, _, err := pki.ParseCSR(der)
	if err != nil {
		return err
	}
	now := time.Now()
	leaf, err := p.current(nil).Issue(&x509.Certificate{
		Subject: request.Subject, NotBefore: now.Add(-pki.Backdate), NotAfter: now.Add(p.life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, request.PublicKey)
	if err != nil {
		return err
	}
	csr.Status.Certificate = pki.EncodeCertificates(leaf)
	_, err = kube.CertificatesV1().CertificateSigningRequests().UpdateStatus(p.t.Context(), csr, metav1.UpdateOptions{})
	return err
}

// reload replaces the hub's certificate, and the authorities of agents by the
// present one and another; once the hub has them, that one signs.
func (p *ownPKI) reload(hub *running, round int) {
	p.t.Helper()
	next := p.authority(fmt.Sprintf("agents %d", round))
	serial := p.write(p.current(nil), next)
	trust := pki.NewClient(pki.Trust{Roots: []*x509.Certificate{p.root.Cert}})
	until(p.t, "the hub to show its new certificate", func() error {
		conn, err := (&tls.Dialer{Config: trust.TLSConfig("127.0.0.1")}).DialContext(p.t.Context(), "tcp", hub.addresses.Agent)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		secure, ok := conn.(*tls.Conn)
		if !ok || pki.Serial(secure.ConnectionState().PeerCertificates[0]) != serial {
			return errors.New("it shows the old one")
		}
		return nil
	})
	p.current(next)
}

// flock is many agents and how their sessions ended.
type flock struct {
	hub   *running
	pki   *ownPKI
	names []string
	links []*link.Link

	mu   sync.Mutex
	ends map[string]int // by reason
}

func (f *flock) ended(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[why]++
}

func (f *flock) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.ends)
}

// joined enrolls agents with their own code, each three from an address of their
// own, and runs the link of each as soon as it has its certificate, which is short.
func joined(t *testing.T, hub *running, own *ownPKI, n int) *flock {
	t.Helper()
	f := &flock{hub: hub, pki: own, ends: map[string]int{}, links: make([]*link.Link, n)}
	log := &journal{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agents' log:\n%s", log)
		}
	})
	type ready struct {
		i     int
		creds *agentenroll.Credentials
	}
	enrolled := make(chan ready, n)
	var group errgroup.Group
	for i := range n {
		name := fmt.Sprintf("t40-%d", i)
		f.names = append(f.names, name)
		text, err := pki.JoinString{
			Endpoints: []string{hub.addresses.Agent}, CASHA256: fmt.Sprintf("%x", pki.Fingerprint(own.root.Cert)), Token: hub.token(name, true), Name: name,
		}.Encode()
		require.NoError(t, err)
		network := &cutter{address: hub.addresses.Agent, source: loopback(i)}
		joining, err := agentenroll.New(agentenroll.Config{Vault: &memory{}, Log: slog.New(slog.DiscardHandler), Join: text, Fingerprint: "fp-" + name, Dial: network.dial})
		require.NoError(t, err)
		group.Go(func() error {
			creds, err := joining.Credentials(t.Context())
			enrolled <- ready{i, creds}
			return err
		})
	}
	for range n {
		if one := <-enrolled; one.creds != nil {
			f.links[one.i] = hub.linked(one.creds, log, func(c *link.Config) {
				c.Dial, c.Ended = (&cutter{address: hub.addresses.Agent, source: loopback(one.i)}).dial, f.ended
			})
		}
	}
	require.NoError(t, group.Wait())
	until(t, "all to have a session", f.connected)
	return f
}

func (f *flock) connected() error {
	for i, l := range f.links {
		if state := l.State(); !state.Connected {
			return fmt.Errorf("%s: %+v", f.names[i], state)
		}
	}
	return nil
}

// usesOf says which enrollment each cluster has, and fails unless the certificate
// in use is one of this authority.
func (f *flock) usesOf(authority *pki.CA) (map[string]types.UID, error) {
	var list v1alpha1.ClusterEnrollmentList
	if err := f.hub.kube.List(f.hub.t.Context(), &list); err != nil {
		return nil, err
	}
	found := map[string]types.UID{}
	for _, e := range list.Items {
		if e.Status.Current == nil {
			return nil, fmt.Errorf("%s has no certificate", e.Name)
		}
		chain, err := pki.ParseCertificates(e.Status.Current.Chain)
		if err != nil {
			return nil, err
		}
		if err := chain[0].CheckSignatureFrom(authority.Cert); err != nil {
			return nil, fmt.Errorf("%s: a certificate of %s: %w", e.Name, chain[0].Issuer, err)
		}
		if found[e.Spec.ClusterName] != "" {
			return nil, fmt.Errorf("%s enrolled twice", e.Spec.ClusterName)
		}
		found[e.Spec.ClusterName] = e.UID
	}
	if len(found) != len(f.names) {
		return nil, fmt.Errorf("%d enrollments for %d clusters", len(found), len(f.names))
	}
	return found, nil
}

// T40: agents live on certificates of seconds from a PKI of the operator's own,
// while the hub's certificate and the authorities of agents are replaced under
// them. No session ends before the next one is open, which is stricter than any
// length of a gap; nobody enrolls again, or shows a certificate that is over.
func TestT40_authorities_replaced_under_many_agents(t *testing.T) {
	t.Parallel()
	scale := rotationOf()
	plane := env.StartPlane(t, env.Options{Name: "t40", NoAudit: true}) // the controllers of another hub would sign
	own := newOwnPKI(t, scale.life)
	hub := startHub(t, plane.RESTConfig(), func(c *server.Config) {
		c.TLSCert, c.TLSKey, c.AgentClientCA = own.path("tls.crt"), own.path("tls.key"), own.path("ca.crt")
		c.PKIRefresh, c.LeaderElect, c.InstallCRDs = 200*time.Millisecond, false, true
		c.MinCertificateLifetime, c.CertificateLifetime = time.Second, scale.life
	}).ready()
	kube, err := kubernetes.NewForConfig(plane.RESTConfig())
	require.NoError(t, err)
	own.sign(kube)
	f := joined(t, hub, own, scale.agents)
	f.forget() // attempts to get there
	var first map[string]types.UID
	until(t, "all certificates to be in use", func() (err error) {
		first, err = f.usesOf(own.current(nil))
		return err
	})
	begun := time.Now()
	for round := range scale.reloads {
		reloaded := time.Now()
		own.reload(hub, round+1)
		var now map[string]types.UID
		untilWithin(t, patience+scale.life+scale.every, "all to be on certificates of the new authority", func() (err error) {
			if now, err = f.usesOf(own.current(nil)); err == nil && time.Since(reloaded) < scale.every {
				err = errors.New("they are, and the next reload is not due")
			}
			return err
		})
		require.Equal(t, first, now, "nobody enrolled again")
	}
	require.NoError(t, f.connected())
	_, metrics := hub.get("/metrics")
	require.NotContains(t, metrics, `fairlead_hub_handshakes_rejected_total{reason="certificate_`, "nobody shows one that is over, or of an authority that is gone")
	f.mu.Lock()
	defer f.mu.Unlock()
	require.GreaterOrEqual(t, f.ends["REPLACED"], scale.agents*scale.reloads)
	require.Len(t, f.ends, 1, "sessions end for the next one, which is open: %v", f.ends)
	t.Logf("%d agents, %d reloads in %s, %d renewals", scale.agents, scale.reloads, time.Since(begun).Round(time.Second), f.ends["REPLACED"])
}
