// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/server/ca"
)

// memory makes authorities without an apiserver, for what does not concern one.
func memory(t *testing.T, change func(*ca.Config)) *ca.Authorities {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, corev1.AddToScheme(scheme))
	cfg := ca.Config{
		Client: fake.NewClientBuilder().WithScheme(scheme).Build(), Namespace: "hub",
		Hub: ca.Hub{ID: "hub-1"}, ServingNames: []string{"hub.test", "127.0.0.1"},
	}
	if change != nil {
		change(&cfg)
	}
	authorities, err := ca.New(t.Context(), cfg)
	require.NoError(t, err)
	return authorities
}

func agentRequest(t *testing.T, cluster, agent string) *x509.CertificateRequest {
	t.Helper()
	key, err := pki.NewKey()
	require.NoError(t, err)
	der, err := pki.NewCSR(key, identity.Subject(cluster, agent))
	require.NoError(t, err)
	csr, err := x509.ParseCertificateRequest(der)
	require.NoError(t, err)
	return csr
}

func TestSignerFollowsItsTemplate(t *testing.T) {
	authorities := memory(t, nil)
	id := identity.Agent{Cluster: "spoke-1", Name: "a", HubID: "hub-1", UID: "uid-1"}
	now := time.Now()
	csr := agentRequest(t, "spoke-1", "a")
	issued, err := authorities.Signer().Sign(csr, id, now, 0)
	require.NoError(t, err)
	certs, err := pki.ParseCertificates(issued.ChainPEM)
	require.NoError(t, err)
	require.Len(t, certs, 1)
	cert := certs[0]

	back, err := identity.ParseCertificate(cert)
	require.NoError(t, err)
	require.Equal(t, id, back)
	require.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, cert.ExtKeyUsage)
	require.Empty(t, cert.UnknownExtKeyUsage)
	require.Equal(t, x509.KeyUsageDigitalSignature, cert.KeyUsage)
	require.False(t, cert.IsCA)
	require.Equal(t, csr.PublicKey, cert.PublicKey)
	require.Empty(t, cert.DNSNames)
	require.GreaterOrEqual(t, cert.SerialNumber.BitLen(), 120, "128 random bits")
	require.WithinDuration(t, now.Add(-5*time.Minute), cert.NotBefore, time.Second)
	require.WithinDuration(t, now.Add(24*time.Hour), cert.NotAfter, time.Second)
	require.Equal(t, issued.NotAfter, cert.NotAfter)
	require.Equal(t, pki.Serial(cert), issued.Serial)
}

func TestT50_no_issued_certificate_verifies_as_a_server(t *testing.T) {
	authorities := memory(t, nil)
	id := identity.Agent{Cluster: "spoke-1", Name: "a", HubID: "hub-1", UID: "uid-1"}
	issued, err := authorities.Signer().Sign(agentRequest(t, "spoke-1", "a"), id, time.Now(), 0)
	require.NoError(t, err)
	certs, err := pki.ParseCertificates(issued.ChainPEM)
	require.NoError(t, err)
	_, bundle := authorities.TrustBundle()
	pool := x509.NewCertPool()
	for _, root := range bundle {
		pool.AddCert(root)
	}
	for _, name := range []string{"hub.test", "127.0.0.1", "spoke-1", certs[0].Subject.CommonName, ""} {
		_, err := certs[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: name})
		require.Error(t, err, "name %q against the hub's serving authority", name)
		_, err = certs[0].Verify(x509.VerifyOptions{Roots: authorities.Server().State().ClientCAs, DNSName: name})
		require.Error(t, err, "name %q as a server of the agents' own authority", name)
	}
	_, err = certs[0].Verify(x509.VerifyOptions{Roots: authorities.Server().State().ClientCAs, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	require.NoError(t, err, "as a client it verifies")
}

func TestSignerRefuses(t *testing.T) {
	signer := memory(t, func(cfg *ca.Config) { cfg.MinCertificateLifetime = time.Minute }).Signer()
	good := identity.Agent{Cluster: "spoke-1", Name: "a", HubID: "hub-1", UID: "uid-1"}
	cases := map[string]struct {
		reason   string
		csr      *x509.CertificateRequest
		change   func(*identity.Agent)
		lifetime time.Duration
	}{
		"another cluster":     {reason: "request and decision must agree", csr: agentRequest(t, "spoke-2", "a")},
		"another agent":       {reason: "request and decision must agree", csr: agentRequest(t, "spoke-1", "b")},
		"another hub":         {reason: "never for a foreign hub", change: func(a *identity.Agent) { a.HubID = "hub-2" }},
		"no UID":              {reason: "a certificate is bound to one ManagedCluster", change: func(a *identity.Agent) { a.UID = "" }},
		"too short a life":    {reason: "below the minimum", lifetime: time.Second},
		"too long a life":     {reason: "above a week", lifetime: 8 * 24 * time.Hour},
		"subject not checked": {reason: "the rules for requests hold here too", csr: &x509.CertificateRequest{}},
	}
	for name, tc := range cases {
		id, csr := good, tc.csr
		if tc.change != nil {
			tc.change(&id)
		}
		if csr == nil {
			csr = agentRequest(t, "spoke-1", "a")
		}
		_, err := signer.Sign(csr, id, time.Now(), tc.lifetime)
		require.ErrorIs(t, err, ca.ErrNotSigned, "%s: %s", name, tc.reason)
	}
	now := time.Now()
	short, err := signer.Sign(agentRequest(t, "spoke-1", "a"), good, now, 3*time.Minute)
	require.NoError(t, err, "minutes, where the minimum allows")
	require.WithinDuration(t, now.Add(3*time.Minute), short.NotAfter, time.Second)
}

func TestSignerTakesNothingButTheKey(t *testing.T) {
	key, err := pki.NewKey()
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: identity.Subject("spoke-1", "a"),
		URIs:    []*url.URL{{Scheme: "spiffe", Host: "hub-1", Path: "/cluster/spoke-2/uid-2/agent/a"}},
	}, key)
	require.NoError(t, err)
	csr, err := x509.ParseCertificateRequest(der)
	require.NoError(t, err)
	_, err = memory(t, nil).Signer().Sign(csr, identity.Agent{Cluster: "spoke-1", Name: "a", HubID: "hub-1", UID: "uid-1"}, time.Now(), 0)
	var bad *pki.CSRError
	require.ErrorAs(t, err, &bad)
}

func TestServingCertificateIsRenewedBeforeItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authorities := memory(t, func(cfg *ca.Config) { cfg.ServingLifetime = 3 * time.Hour })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- authorities.Run(ctx) }()
		first := authorities.Server().State()
		for range 20 {
			<-time.After(time.Hour)
			synctest.Wait()
			state := authorities.Server().State()
			require.True(t, state.Certificate.Leaf.NotAfter.After(time.Now()))
			require.Equal(t, first.ClientCAs, state.ClientCAs)
			require.Len(t, state.Certificate.Certificate, 2, "the root travels in the chain")
		}
		require.NotEqual(t, first.Certificate.Leaf.Raw, authorities.Server().State().Certificate.Leaf.Raw)
		cancel()
		require.NoError(t, <-done)
	})
}

func TestOwnPKIFromFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		files := ca.Files{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), AgentClientCA: filepath.Join(dir, "ca.crt")}
		root, err := pki.NewCA("corp root", time.Now(), 1000*time.Hour)
		require.NoError(t, err)
		write := func() *x509.Certificate {
			serving, err := root.IssueServing([]string{"hub.corp"}, time.Now(), 24*time.Hour)
			require.NoError(t, err)
			key, err := pki.EncodeKey(serving.PrivateKey.(crypto.Signer))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(files.Certificate, pki.EncodeCertificates(serving.Leaf, root.Cert), 0o600))
			require.NoError(t, os.WriteFile(files.Key, key, 0o600))
			require.NoError(t, os.WriteFile(files.AgentClientCA, pki.EncodeCertificates(root.Cert), 0o600))
			return serving.Leaf
		}
		first := write()
		authorities, err := ca.NewFromFiles(ca.Config{}, files)
		require.NoError(t, err)
		require.Nil(t, authorities.Signer())
		require.Equal(t, first.Raw, authorities.Server().State().Certificate.Leaf.Raw)
		_, bundle := authorities.TrustBundle()
		require.Equal(t, root.Cert.Raw, bundle[0].Raw)

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- authorities.Run(ctx) }()
		second := write()
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, second.Raw, authorities.Server().State().Certificate.Leaf.Raw, "in use without a restart")

		require.NoError(t, os.WriteFile(files.Key, []byte("broken"), 0o600))
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, second.Raw, authorities.Server().State().Certificate.Leaf.Raw, "what does not fit together is not used")
		cancel()
		require.NoError(t, <-done)
	})
	_, err := ca.NewFromFiles(ca.Config{}, ca.Files{Certificate: "/nowhere"})
	require.ErrorContains(t, err, "/nowhere")
}
