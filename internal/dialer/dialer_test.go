// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package dialer_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/netfault/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hubName = "hub.fairlead.test:8443" // only a proxy resolves it

// world is a hub that answers one call, and what agents trust.
type world struct {
	t    *testing.T
	ca   *pki.CA
	hub  string // where it listens
	dir  string
	pool *x509.CertPool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ca, err := pki.NewCA("hub root", time.Now(), time.Hour)
	require.NoError(t, err)
	w := &world{t: t, ca: ca, dir: t.TempDir(), pool: x509.NewCertPool()}
	w.pool.AddCert(ca.Cert)
	cert := w.serving("hub.fairlead.test", "127.0.0.1")
	w.hub = w.serve(pki.NewServer(pki.ServerState{Certificate: cert, ClientCAs: w.pool}).TLSConfig())
	return w
}

func (w *world) serving(names ...string) *tls.Certificate {
	w.t.Helper()
	cert, err := w.ca.IssueServing(names, time.Now(), time.Hour)
	require.NoError(w.t, err)
	return cert
}

// serve runs a gRPC server with the health service, which knows no service.
func (w *world) serve(config *tls.Config) string {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.t, err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	w.t.Cleanup(func() { server.Stop(); <-done })
	return listener.Addr().String()
}

func (w *world) proxy(cfg tunnel.Config) *tunnel.Proxy {
	w.t.Helper()
	if cfg.Names == nil {
		cfg.Names = map[string]string{hubName: w.hub}
	}
	p, err := tunnel.New(cfg)
	require.NoError(w.t, err)
	w.t.Cleanup(p.Close)
	return p
}

// call makes one call to an endpoint and returns why it was not answered.
func (w *world) call(endpoint string, cfg dialer.Config) error {
	w.t.Helper()
	d, err := dialer.New(cfg)
	require.NoError(w.t, err)
	host, _, err := net.SplitHostPort(endpoint)
	require.NoError(w.t, err)
	way := dialer.NewWay(endpoint, pki.NewClient(pki.Trust{Roots: []*x509.Certificate{w.ca.Cert}}).TLSConfig(host), d.Dial)
	conn, err := way.Client()
	require.NoError(w.t, err)
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	if status.Code(err) == codes.Unimplemented { // the hub said so
		return way.Err()
	}
	require.Equal(w.t, codes.Unavailable, status.Code(err), "%v", err)
	require.Error(w.t, way.Err())
	return way.Err()
}

func (w *world) file(name string, root *pki.CA) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	require.NoError(w.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Cert.Raw}), 0o600))
	return path
}

func direct(*http.Request) (*url.URL, error) { return nil, nil } //nolint:nilnil // as http.ProxyFromEnvironment does

func TestProxies(t *testing.T) {
	w := newWorld(t)
	proxyCA, err := pki.NewCA("proxy root", time.Now(), time.Hour)
	require.NoError(t, err)
	cert, err := proxyCA.IssueServing([]string{"127.0.0.1"}, time.Now(), time.Hour)
	require.NoError(t, err)
	caFile := w.file("proxy.crt", proxyCA)
	secure := &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}

	t.Run("RA-54_http", func(t *testing.T) {
		p := w.proxy(tunnel.Config{})
		require.NoError(t, w.call(hubName, dialer.Config{ProxyURL: "http://" + p.Address()}))
		require.Equal(t, []string{hubName}, p.Targets())
		require.NotContains(t, string(p.Up()), "grpc.health", "the proxy sees bytes of TLS alone")
		require.True(t, bytes.HasPrefix(p.Up(), []byte{22, 3}), "beginning with a TLS handshake")
	})
	t.Run("RA-54_https_with_a_CA_of_its_own_and_a_password", func(t *testing.T) {
		p := w.proxy(tunnel.Config{TLS: secure, User: "u", Password: "p:w"})
		require.NoError(t, w.call(hubName, dialer.Config{ProxyURL: "https://u:p%3Aw@" + p.Address(), ProxyCAFile: caFile}))
		require.Equal(t, []string{hubName}, p.Targets())
	})
	t.Run("RA-54_environment", func(t *testing.T) {
		p := w.proxy(tunnel.Config{})
		cfg := dialer.Config{Environment: func(r *http.Request) (*url.URL, error) {
			require.Equal(t, "https://"+hubName, r.URL.String())
			return url.Parse("http://" + p.Address())
		}}
		require.NoError(t, w.call(hubName, cfg))
		require.Len(t, p.Targets(), 1)
		require.Error(t, w.call(hubName, dialer.Config{ProxyURL: dialer.Direct, Environment: cfg.Environment}), "nobody else knows the name")
		require.NoError(t, w.call(w.hub, dialer.Config{Environment: direct}))
		require.Len(t, p.Targets(), 1)
	})
	t.Run("RA-54_CA_of_a_proxy_says_nothing_about_the_hub", func(t *testing.T) {
		stranger, err := proxyCA.IssueServing([]string{"hub.fairlead.test"}, time.Now(), time.Hour)
		require.NoError(t, err)
		fake := w.serve(pki.NewServer(pki.ServerState{Certificate: stranger}).TLSConfig())
		p := w.proxy(tunnel.Config{TLS: secure, Names: map[string]string{hubName: fake}})
		requireHop(t, w.call(hubName, dialer.Config{ProxyURL: "https://" + p.Address(), ProxyCAFile: caFile}), reason.HubCAMismatch, `issued by "CN=proxy root`, "")
	})
}

// requireHop checks what an error says about the hop that failed.
func requireHop(t *testing.T, err error, why, says, advice string) {
	t.Helper()
	hop, ok := errors.AsType[*dialer.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, why, hop.Code())
	require.ErrorContains(t, err, says)
	require.Contains(t, hop.Advice, advice)
	require.True(t, dialer.OnTheWay(hop.Reason))
}

func TestErrorsNameTheHop(t *testing.T) {
	w := newWorld(t)
	other, err := pki.NewCA("proxy root", time.Now(), time.Hour)
	require.NoError(t, err)
	cert, err := other.IssueServing([]string{"127.0.0.1"}, time.Now(), time.Hour)
	require.NoError(t, err)
	secure := &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	at := func(cfg tunnel.Config) string { return w.proxy(cfg).Address() }
	unresolved := func(context.Context, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "proxy.test", IsNotFound: true}}
	}
	tests := map[string]struct {
		reason string
		cfg    dialer.Config
		why    string
		says   string
		advice string
	}{
		"name":           {"a proxy that nobody knows", dialer.Config{ProxyURL: "http://proxy.test:3128", TCP: unresolved}, reason.ProxyUnreachable, "proxy proxy.test:3128: its name does not resolve", "--proxy-url"},
		"connect":        {"nobody listens", dialer.Config{ProxyURL: "http://" + closed.Addr().String()}, reason.ProxyUnreachable, "connecting to it: ", "--proxy-url"},
		"no credentials": {"407", dialer.Config{ProxyURL: "http://" + at(tunnel.Config{User: "u", Password: "p"})}, reason.ProxyAuthRequired, `Basic realm`, "FAIRLEAD_PROXY_URL"},
		"wrong password": {"407", dialer.Config{ProxyURL: "http://u:secret@" + at(tunnel.Config{User: "u", Password: "p"})}, reason.ProxyAuthRequired, "407", "FAIRLEAD_PROXY_URL"},
		"forbidden":      {"403", dialer.Config{ProxyURL: "http://" + at(tunnel.Config{Status: http.StatusForbidden})}, reason.ProxyRefused, "does not allow connections to " + hubName, "allow CONNECT"},
		"too many":       {"another refusal", dialer.Config{ProxyURL: "http://" + at(tunnel.Config{Status: http.StatusTooManyRequests})}, reason.ProxyRefused, "429", "allow CONNECT"},
		"bad gateway":    {"the proxy finds no hub", dialer.Config{ProxyURL: "http://" + at(tunnel.Config{Names: map[string]string{hubName: closed.Addr().String()}})}, reason.ProxyRefused, "could not reach " + hubName, "resolve and reach"},
		"TLS":            {"an unknown CA", dialer.Config{ProxyURL: "https://" + at(tunnel.Config{TLS: secure})}, reason.ProxyTLS, "TLS with it: ", "--proxy-ca-file"},
		"no TLS":         {"https:// for a plain proxy", dialer.Config{ProxyURL: "https://" + at(tunnel.Config{})}, reason.ProxyTLS, "TLS with it: ", "http://"},
		"no HTTP":        {"what listens is no proxy", dialer.Config{ProxyURL: "http://" + w.hub}, reason.ProxyUnreachable, "does not answer CONNECT in HTTP", "is it a proxy"},
		"environment": {"what is there is no proxy", dialer.Config{Environment: func(*http.Request) (*url.URL, error) {
			return url.Parse("socks5://u:secret@proxy.test:1")
		}}, reason.ProxyUnreachable, "HTTPS_PROXY", "HTTPS_PROXY"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := w.call(hubName, test.cfg)
			requireHop(t, err, test.why, test.says, test.advice)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestBadProxyURLsAreSaidAtOnce(t *testing.T) {
	for text, says := range map[string]string{
		"proxy:3128":              "http:// or https://",
		"socks5://u:secret@p:1":   "http:// or https://",
		"http://":                 "names no host",
		"http://u:secret@p:1/x":   "more than host and port",
		"http://u:secret@p:1?a=b": "more than host and port",
		"http://u:secret@[p":      "want http://HOST:PORT",
	} {
		_, err := dialer.New(dialer.Config{ProxyURL: text})
		require.ErrorContains(t, err, says, text)
		require.NotContains(t, err.Error(), "secret")
	}
	_, err := dialer.New(dialer.Config{ProxyCAFile: filepath.Join(t.TempDir(), "none")})
	require.ErrorContains(t, err, "reading the CA of the proxy")
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte("x"), 0o600))
	_, err = dialer.New(dialer.Config{ProxyCAFile: empty})
	require.ErrorContains(t, err, "has no certificate")
}

// A proxy that takes the connection and says nothing must not hold the agent for
// longer than its attempt lasts; one that speaks first is no tunnel.
func TestProxiesThatMisbehave(t *testing.T) {
	for name, test := range map[string]struct{ says, answer string }{
		"silent":          {"does not answer CONNECT", ""},
		"talks first":     {"bytes of its own", "HTTP/1.1 200 OK\r\n\r\nSSH-2.0"},
		"an endless head": {"does not answer CONNECT", "HTTP/1.1 200 OK\r\nX: " + string(bytes.Repeat([]byte("x"), 100<<10))},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = far.Close() }()
				buffer := make([]byte, 4096)
				_, _ = far.Read(buffer)
				_, _ = far.Write([]byte(test.answer))
				_, _ = far.Read(buffer) // until the agent gives up
			}()
			d, err := dialer.New(dialer.Config{ProxyURL: "http://proxy.test", TCP: func(context.Context, string) (net.Conn, error) { return near, nil }})
			require.NoError(t, err)
			patience := time.Minute
			if test.answer == "" {
				patience = 2 * time.Second // nothing else ends it
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err = d.Dial(ctx, hubName)
			require.ErrorContains(t, err, test.says)
			<-done
		})
	}
}

func TestTLSThatEndsBeforeTheHubIsNamed(t *testing.T) {
	w := newWorld(t)
	own := *w.serving("127.0.0.1") // the hub's own certificate and key, as a load balancer may have them
	stranger, err := pki.NewCA("company root", time.Now(), time.Hour)
	require.NoError(t, err)
	foreign, err := stranger.IssueServing([]string{"127.0.0.1"}, time.Now(), time.Hour)
	require.NoError(t, err)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(plain) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	tests := map[string]struct {
		reason    string
		at        string
		why, says string
	}{
		"no client certificate": {
			"it would keep the agent's", w.serve(&tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13}),
			reason.TLSTerminated, "does not ask for the agent's certificate",
		},
		"old TLS": {
			"no hub speaks it", w.serve(&tls.Config{Certificates: []tls.Certificate{own}, MaxVersion: tls.VersionTLS12}),
			reason.TLSTerminated, "protocol version",
		},
		"HTTP/1 only": {
			"no hub speaks it", tlsListener(t, &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: []string{"http/1.1"}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}),
			reason.TLSTerminated, "no application protocol",
		},
		"no ALPN": {
			"what it speaks is not said", tlsListener(t, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}),
			reason.TLSTerminated, "speaks no HTTP/2",
		},
		"no TLS": {"a port of something else", plain.Addr().String(), reason.TLSTerminated, "does not look like a TLS handshake"},
		"its own certificate": {
			"an inspecting proxy", w.serve(pki.NewServer(pki.ServerState{Certificate: foreign}).TLSConfig()),
			reason.HubCAMismatch, `issued by "CN=company root`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := w.call(test.at, dialer.Config{Environment: direct})
			hop, ok := errors.AsType[*dialer.Error](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, test.why, hop.Reason, test.reason)
			require.ErrorContains(t, err, test.says)
		})
	}
}

// tlsListener ends TLS and says nothing.
func tlsListener(t *testing.T, config *tls.Config) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return listener.Addr().String()
}
