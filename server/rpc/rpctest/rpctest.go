// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rpctest is for tests of the packages beside it: authorities, agents'
// certificates of every kind, and a real gRPC server with real mTLS over an
// in-memory listener. Everything is made with the clock of the caller's synctest
// bubble, and ends with the test.
package rpctest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/interceptor"
)

// HubID is the hub of all certificates made here.
const HubID = "hub-under-test"

// PKI is a hub's two authorities.
type PKI struct {
	Clients, Serving *pki.CA
	Server           *pki.Server
}

// NewPKI makes fresh authorities that live for ten years.
func NewPKI(t testing.TB) *PKI {
	t.Helper()
	clients, err := pki.NewCA("clients", time.Now(), 10*365*24*time.Hour)
	require.NoError(t, err)
	serving, err := pki.NewCA("serving", time.Now(), 10*365*24*time.Hour)
	require.NoError(t, err)
	cert, err := serving.IssueServing([]string{"hub"}, time.Now(), 10*365*24*time.Hour)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(clients.Cert)
	return &PKI{Clients: clients, Serving: serving, Server: pki.NewServer(pki.ServerState{Certificate: cert, ClientCAs: pool})}
}

// Agent is a well-formed agent certificate that is valid for lifetime from now.
func (p *PKI) Agent(t testing.TB, cluster, uid string, lifetime time.Duration) *tls.Certificate {
	t.Helper()
	agent := identity.Agent{Cluster: cluster, Name: "agent", HubID: HubID, UID: uid}
	return p.Issue(t, func(template *x509.Certificate) {
		template.Subject = identity.Subject(cluster, "agent")
		template.URIs = []*url.URL{agent.URI()}
		template.NotAfter = time.Now().Add(lifetime)
	})
}

// Issue signs a client certificate of any form with the authority of clients.
func (p *PKI) Issue(t testing.TB, form func(template *x509.Certificate)) *tls.Certificate {
	t.Helper()
	return IssueBy(t, p.Clients, form)
}

// IssueBy signs a client certificate of any form with any authority.
func IssueBy(t testing.TB, ca *pki.CA, form func(template *x509.Certificate)) *tls.Certificate {
	t.Helper()
	key, err := pki.NewKey()
	require.NoError(t, err)
	template := &x509.Certificate{
		NotBefore: time.Now().Add(-pki.Backdate), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	form(template)
	leaf, err := ca.Issue(template, key.Public())
	require.NoError(t, err)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Cert.Raw}, PrivateKey: key, Leaf: leaf}
}

// ClientTLS trusts the hub and presents cert, if any.
func (p *PKI) ClientTLS(cert *tls.Certificate) *tls.Config {
	client := pki.NewClient(pki.Trust{Roots: []*x509.Certificate{p.Serving.Cert}})
	client.SetCertificate(cert)
	return client.TLSConfig("hub")
}

// Server is a running gRPC server.
type Server struct {
	GRPC     *grpc.Server
	PKI      *PKI
	listener *bufconn.Listener
}

// Serve starts a server behind the hub's own transport and the given chain, with
// more options than the hub has, if any.
// It stops, and its goroutines end, with the test.
func Serve(t testing.TB, keys *PKI, chain interceptor.Config, register func(*grpc.Server), more ...grpc.ServerOption) *Server {
	t.Helper()
	s := &Server{PKI: keys, listener: bufconn.Listen(256 << 10)}
	options := interceptor.TransportOptions(chain.Listener)
	options = append(options, interceptor.New(chain).ServerOptions()...)
	options = append(options, grpc.Creds(interceptor.NewTransport(interceptor.TransportConfig{
		PKI: keys.Server, Handshakes: 4, Registry: chain.Registry,
	})))
	s.GRPC = grpc.NewServer(append(options, more...)...)
	register(s.GRPC)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.GRPC.Serve(interceptor.Listen(s.listener, 0, prometheus.NewRegistry())) })
	t.Cleanup(func() {
		s.GRPC.Stop()
		serving.Wait()
	})
	return s
}

// DialRaw opens a connection below TLS.
func (s *Server) DialRaw(ctx context.Context) (net.Conn, error) { return s.listener.DialContext(ctx) }

// Dial connects as the holder of cert (nil: without one).
func (s *Server) Dial(t testing.TB, cert *tls.Certificate, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	return s.dial(t, credentials.NewTLS(s.PKI.ClientTLS(cert)), options...)
}

// DialPlain connects without TLS.
func (s *Server) DialPlain(t testing.TB) *grpc.ClientConn {
	t.Helper()
	return s.dial(t, insecure.NewCredentials())
}

func (s *Server) dial(t testing.TB, creds credentials.TransportCredentials, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.listener.DialContext(ctx) }),
	}, options...)
	conn, err := grpc.NewClient("passthrough:hub", options...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Metric is the sum of a counter or gauge over all series that have the given
// label values (name, value, …).
func Metric(t testing.TB, registry prometheus.Gatherer, name string, labels ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			has := map[string]string{}
			for _, label := range metric.GetLabel() {
				has[label.GetName()] = label.GetValue()
			}
			matches := true
			for i := 0; i+1 < len(labels); i += 2 {
				matches = matches && has[labels[i]] == labels[i+1]
			}
			if matches {
				sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// Free returns the table without its limits on how often something is called, for
// whoever fuzzes. The table itself is changed.
func Free(table authz.Table) authz.Table {
	for name, rule := range table {
		rule.Rate = authz.Rate{Name: rule.Rate.Name}
		table[name] = rule
	}
	return table
}
