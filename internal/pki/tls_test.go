// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCA(t testing.TB, name string) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA(name, time.Now(), 24*time.Hour)
	require.NoError(t, err)
	return ca
}

func clientCert(t testing.TB, ca *pki.CA, name string) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	leaf, err := ca.Issue(&x509.Certificate{
		Subject:     identity.Subject(name, "a"),
		NotBefore:   time.Now().Add(-time.Minute),
		NotAfter:    time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key.Public())
	require.NoError(t, err)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// handshake runs one handshake over a pipe and returns what both ends saw.
func handshake(t *testing.T, server, client *tls.Config) (serverState, clientState tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	deadline := time.Now().Add(time.Minute)
	require.NoError(t, a.SetDeadline(deadline))
	require.NoError(t, b.SetDeadline(deadline))
	srv, cli := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error)
	go func() {
		err := srv.Handshake()
		if err == nil {
			_, err = srv.Write([]byte("x"))
		}
		if err != nil {
			_ = a.Close()
		}
		done <- err
	}()
	clientErr = cli.Handshake()
	if clientErr == nil {
		_, clientErr = cli.Read(make([]byte, 1))
	}
	if clientErr != nil {
		_ = b.Close()
	}
	serverErr = <-done
	serverState, clientState = srv.ConnectionState(), cli.ConnectionState()
	_, _ = a.Close(), b.Close()
	return serverState, clientState, serverErr, clientErr
}

func TestServerAndClientConfigs(t *testing.T) {
	hubCA, agentCA := newCA(t, "hub"), newCA(t, "agents")
	serving, err := hubCA.IssueServing([]string{"hub.test", "10.1.2.3"}, time.Now(), time.Hour)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(agentCA.Cert)
	server := pki.NewServer(pki.ServerState{Certificate: serving, ClientCAs: pool})
	pinned := pki.Trust{Pin: pki.Fingerprint(hubCA.Cert)}

	t.Run("without a client certificate, as during enrollment", func(t *testing.T) {
		srv, cli, serverErr, clientErr := handshake(t, server.TLSConfig(), pki.NewClient(pinned).TLSConfig("hub.test"))
		require.NoError(t, serverErr)
		require.NoError(t, clientErr)
		require.Empty(t, srv.PeerCertificates)
		require.Equal(t, uint16(tls.VersionTLS13), cli.Version)
		require.Equal(t, "h2", cli.NegotiatedProtocol)
	})
	t.Run("with a client certificate, and hot trust", func(t *testing.T) {
		client := pki.NewClient(pki.Trust{})
		config := client.TLSConfig("10.1.2.3")
		client.SetTrust(pki.Trust{Roots: []*x509.Certificate{hubCA.Cert}})
		client.SetCertificate(clientCert(t, agentCA, "c1"))
		srv, _, serverErr, clientErr := handshake(t, server.TLSConfig(), config)
		require.NoError(t, serverErr)
		require.NoError(t, clientErr)
		require.Len(t, srv.VerifiedChains, 1)
	})
	t.Run("a certificate of another authority dies in the handshake", func(t *testing.T) {
		client := pki.NewClient(pinned)
		client.SetCertificate(clientCert(t, newCA(t, "agents"), "c1"))
		_, _, serverErr, _ := handshake(t, server.TLSConfig(), client.TLSConfig("hub.test"))
		require.Error(t, serverErr)
	})
	t.Run("no client authority means no client certificate is good", func(t *testing.T) {
		bare := pki.NewServer(pki.ServerState{Certificate: serving})
		client := pki.NewClient(pinned)
		client.SetCertificate(clientCert(t, agentCA, "c1"))
		_, _, serverErr, _ := handshake(t, bare.TLSConfig(), client.TLSConfig("hub.test"))
		require.Error(t, serverErr)
	})
	t.Run("TLS 1.2 is refused", func(t *testing.T) {
		config := pki.NewClient(pinned).TLSConfig("hub.test")
		config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		_, _, serverErr, clientErr := handshake(t, server.TLSConfig(), config)
		require.Error(t, serverErr)
		require.Error(t, clientErr)
	})
}

func TestT47_a_session_is_never_resumed(t *testing.T) {
	hubCA, agentCA := newCA(t, "hub"), newCA(t, "agents")
	serving, err := hubCA.IssueServing([]string{"hub.test"}, time.Now(), time.Hour)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(agentCA.Cert)
	server := pki.NewServer(pki.ServerState{Certificate: serving, ClientCAs: pool})
	listener := server.TLSConfig()

	client := pki.NewClient(pki.Trust{Pin: pki.Fingerprint(hubCA.Cert)})
	client.SetCertificate(clientCert(t, agentCA, "c1"))
	config := client.TLSConfig("hub.test")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(10) // an attacker keeps tickets
	for range 3 {
		srv, _, serverErr, clientErr := handshake(t, listener, config)
		require.NoError(t, serverErr)
		require.NoError(t, clientErr)
		require.False(t, srv.DidResume)
	}
	server.Set(pki.ServerState{Certificate: serving, ClientCAs: x509.NewCertPool()})
	_, _, serverErr, _ := handshake(t, listener, config) //nolint:dogsled // one of four is what counts here
	require.Error(t, serverErr, "its authority was removed; the same listener refuses it at once")
}

func TestVerifyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		hubCA := newCA(t, "hub")
		serving, err := hubCA.IssueServing([]string{"hub.test", "10.1.2.3"}, now, time.Hour)
		require.NoError(t, err)
		leaf := serving.Leaf
		agentLeaf := clientCert(t, hubCA, "c1").Leaf
		attacker := newCA(t, "hub")
		forged, err := attacker.IssueServing([]string{"hub.test"}, now, time.Hour)
		require.NoError(t, err)
		pin := pki.Trust{Pin: pki.Fingerprint(hubCA.Cert)}
		cases := map[string]struct {
			reason string
			chain  []*x509.Certificate
			trust  pki.Trust
			name   string
			at     time.Time
			want   error
		}{
			"pinned":                 {reason: "the root with the pin is in the chain", chain: []*x509.Certificate{leaf, hubCA.Cert}, trust: pin, name: "hub.test", at: now},
			"pinned, by address":     {reason: "endpoints may be IP addresses", chain: []*x509.Certificate{leaf, hubCA.Cert}, trust: pin, name: "10.1.2.3", at: now},
			"roots":                  {reason: "a known root need not be presented", chain: []*x509.Certificate{leaf}, trust: pki.Trust{Roots: []*x509.Certificate{hubCA.Cert}}, name: "hub.test", at: now},
			"no certificates":        {reason: "nothing presented", trust: pin, name: "hub.test", at: now, want: pki.ErrHubIdentity},
			"trusting nobody":        {reason: "the zero Trust", chain: []*x509.Certificate{leaf, hubCA.Cert}, name: "hub.test", at: now, want: pki.ErrHubIdentity},
			"other root":             {reason: "an interceptor with its own root", chain: []*x509.Certificate{forged.Leaf, attacker.Cert}, trust: pin, name: "hub.test", at: now, want: pki.ErrPinMismatch},
			"pin shown, other chain": {reason: "the real root beside a forged leaf proves nothing", chain: []*x509.Certificate{forged.Leaf, hubCA.Cert}, trust: pin, name: "hub.test", at: now, want: pki.ErrHubIdentity},
			"pin shown last":         {reason: "same, with the attacker's root between", chain: []*x509.Certificate{forged.Leaf, attacker.Cert, hubCA.Cert}, trust: pin, name: "hub.test", at: now, want: pki.ErrHubIdentity},
			"root not presented":     {reason: "a pin needs the root in the chain", chain: []*x509.Certificate{leaf}, trust: pin, name: "hub.test", at: now, want: pki.ErrPinMismatch},
			"other name":             {reason: "another server of the same root", chain: []*x509.Certificate{leaf, hubCA.Cert}, trust: pin, name: "other.test", at: now, want: pki.ErrHubIdentity},
			"no name":                {reason: "a forgotten name must not switch the check off", chain: []*x509.Certificate{leaf, hubCA.Cert}, trust: pin, at: now, want: pki.ErrHubIdentity},
			"expired":                {reason: "expiry", chain: []*x509.Certificate{leaf, hubCA.Cert}, trust: pin, name: "hub.test", at: now.Add(2 * time.Hour), want: pki.ErrHubIdentity},
			"not yet valid":          {reason: "clock far behind", chain: []*x509.Certificate{leaf, hubCA.Cert}, trust: pin, name: "hub.test", at: now.Add(-time.Hour), want: pki.ErrClockSkew},
			"an agent as server":     {reason: "client certificates never verify as a server", chain: []*x509.Certificate{agentLeaf, hubCA.Cert}, trust: pin, name: "hub.test", at: now, want: pki.ErrHubIdentity},
			"endless chain":          {reason: "bounded work", chain: make([]*x509.Certificate, 50), trust: pin, name: "hub.test", at: now, want: pki.ErrHubIdentity},
		}
		for name, tc := range cases {
			err := pki.VerifyServer(tls.ConnectionState{PeerCertificates: tc.chain}, tc.trust, tc.name, tc.at)
			if tc.want == nil {
				require.NoError(t, err, "%s: %s", name, tc.reason)
				continue
			}
			require.ErrorIs(t, err, tc.want, "%s: %s", name, tc.reason)
		}
	})
}

// TestT38_clocks_that_differ: within the five minutes that certificates are dated
// back nothing happens, beyond them the error tells by how much.
func TestT38_clocks_that_differ(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		hub := newCA(t, "hub")
		serving, err := hub.IssueServing([]string{"hub.test"}, now, time.Hour)
		require.NoError(t, err)
		at := func(offset time.Duration) error {
			state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{serving.Leaf, hub.Cert}}
			return pki.VerifyServer(state, pki.Trust{Pin: pki.Fingerprint(hub.Cert)}, "hub.test", now.Add(offset))
		}
		require.NoError(t, at(10*time.Minute))
		require.NoError(t, at(-4*time.Minute))
		err = at(-10 * time.Minute)
		require.ErrorIs(t, err, pki.ErrClockSkew)
		require.ErrorContains(t, err, "at least 10m0s behind the hub's")
		forged, err := newCA(t, "hub").IssueServing([]string{"hub.test"}, now, time.Hour)
		require.NoError(t, err)
		state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{forged.Leaf, hub.Cert}}
		err = pki.VerifyServer(state, pki.Trust{Pin: pki.Fingerprint(hub.Cert)}, "hub.test", now.Add(-10*time.Minute))
		require.ErrorIs(t, err, pki.ErrHubIdentity, "a clock excuses nothing else")
	})
}

func FuzzVerifyServer(f *testing.F) {
	ca := newCA(f, "hub")
	serving, err := ca.IssueServing([]string{"hub.test"}, time.Now(), time.Hour)
	require.NoError(f, err)
	other := newCA(f, "hub")
	f.Add(serving.Leaf.Raw, ca.Cert.Raw, "hub.test", int64(0))
	f.Add(serving.Leaf.Raw, other.Cert.Raw, "hub.test", int64(0))
	f.Add(ca.Cert.Raw, ca.Cert.Raw, "", int64(7200))
	f.Fuzz(func(t *testing.T, leafDER, rootDER []byte, name string, seconds int64) {
		var chain []*x509.Certificate
		for _, der := range [][]byte{leafDER, rootDER} {
			if cert, err := x509.ParseCertificate(der); err == nil {
				chain = append(chain, cert)
			}
		}
		at := time.Now().Add(time.Duration(seconds%1e6) * time.Second)
		genuine := []*x509.Certificate{serving.Leaf, ca.Cert}
		for _, presented := range [][]*x509.Certificate{chain, genuine, append(chain, genuine...)} {
			err := pki.VerifyServer(tls.ConnectionState{PeerCertificates: presented}, pki.Trust{Pin: pki.Fingerprint(ca.Cert)}, name, at)
			if err != nil {
				require.True(t, errors.Is(err, pki.ErrHubIdentity) || errors.Is(err, pki.ErrPinMismatch) || errors.Is(err, pki.ErrClockSkew), err)
				continue
			}
			// Only what the pinned authority signed, for that name and time, passes.
			require.NoError(t, presented[0].CheckSignatureFrom(ca.Cert))
			require.NoError(t, presented[0].VerifyHostname(name))
			require.False(t, at.After(presented[0].NotAfter) || at.Before(presented[0].NotBefore))
		}
		inTime := !at.After(serving.Leaf.NotAfter) && !at.Before(serving.Leaf.NotBefore)
		err := pki.VerifyServer(tls.ConnectionState{PeerCertificates: genuine}, pki.Trust{Pin: pki.Fingerprint(ca.Cert)}, "hub.test", at)
		require.Equal(t, inTime, err == nil, "the hub itself passes: %v", err)
	})
}

func TestAuthoritySurvivesPEM(t *testing.T) {
	ca := newCA(t, "hub")
	cert, key, err := ca.Encode()
	require.NoError(t, err)
	again, err := pki.ParseCA(cert, key)
	require.NoError(t, err)
	require.Equal(t, ca.Cert.Raw, again.Cert.Raw)

	_, otherKey, err := newCA(t, "other").Encode()
	require.NoError(t, err)
	_, err = pki.ParseCA(cert, otherKey)
	require.ErrorContains(t, err, "does not belong")
	leafKey, err := pki.EncodeKey(newKey(t))
	require.NoError(t, err)
	_, err = pki.ParseCA(pki.EncodeCertificates(clientCert(t, ca, "c1").Leaf), leafKey)
	require.ErrorContains(t, err, "not an authority")
}
