// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package interceptor_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/interceptor"
	"fairlead.dev/fairlead/server/rpc/rpctest"
)

// A client that keeps session state, offers to resume each time.
func TestT47_no_resumption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := rpctest.NewPKI(t)
		server := rpctest.Serve(t, keys, chain(authz.AgentListener, prometheus.NewRegistry()), everything(func(context.Context) {}))
		config := keys.ClientTLS(keys.Agent(t, "c1", "uid", time.Hour))
		config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		for range 3 {
			state, err := handshake(t, server, config)
			require.NoError(t, err)
			require.False(t, state.DidResume, "a full handshake each time")
			require.Equal(t, uint16(tls.VersionTLS13), state.Version)
		}
		// The clients' authority is taken away: no new connection, whatever was kept.
		served := keys.Server.State()
		served.ClientCAs = x509.NewCertPool()
		keys.Server.Set(served)
		_, err := handshake(t, server, config)
		require.Error(t, err, "refused after the authority was removed")
	})
}

func TestTransport_versions_and_protocols(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*tls.Config)
	}{
		"TLS 1.2": {"only TLS 1.3 is spoken", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }},
		"http/1":  {"only HTTP/2 is spoken", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }},
		"no ALPN": {"a client that does not say is refused", func(c *tls.Config) { c.NextProtos = nil }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				keys := rpctest.NewPKI(t)
				server := rpctest.Serve(t, keys, chain(authz.AgentListener, prometheus.NewRegistry()), everything(func(context.Context) {}))
				config := keys.ClientTLS(nil)
				tc.change(config)
				_, err := handshake(t, server, config)
				require.Error(t, err, tc.reason)
			})
		})
	}
}

// handshake connects below gRPC and reads the server's first bytes, since a
// refused client certificate shows only then in TLS 1.3.
func handshake(t *testing.T, server *rpctest.Server, config *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	raw, err := server.DialRaw(t.Context())
	require.NoError(t, err)
	conn := tls.Client(raw, config)
	defer func() { _ = raw.Close() }() // bufconn has no half-close, which tls.Conn.Close would wait for
	if err := conn.HandshakeContext(t.Context()); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := io.ReadFull(conn, make([]byte, 9)); err != nil {
		return tls.ConnectionState{}, err
	}
	return conn.ConnectionState(), nil
}

// Clients that start a handshake and stall hold no place among those being
// computed; four of them would stop everybody otherwise.
func TestT57_slow_handshakes_cost_nobody_else(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := rpctest.NewPKI(t)
		server := rpctest.Serve(t, keys, chain(authz.AgentListener, prometheus.NewRegistry()), everything(func(context.Context) {}))
		var stalled []net.Conn
		for range 20 {
			raw, err := server.DialRaw(t.Context())
			require.NoError(t, err)
			_, err = raw.Write([]byte{22, 3, 1}) // the first bytes of a ClientHello, and no more
			require.NoError(t, err)
			stalled = append(stalled, raw)
		}
		synctest.Wait()
		begun := time.Now()
		_, err := handshake(t, server, keys.ClientTLS(keys.Agent(t, "c1", "uid", time.Hour)))
		require.NoError(t, err)
		require.Zero(t, time.Since(begun), "no waiting")
		for _, raw := range stalled {
			_, err := raw.Read(make([]byte, 1))
			require.Error(t, err, "the hub hangs up after a while")
			_ = raw.Close()
		}
		require.LessOrEqual(t, time.Since(begun), 15*time.Second)
	})
}

func TestConnections_per_source(t *testing.T) {
	registry := prometheus.NewRegistry()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listener := interceptor.Listen(inner, 2, registry)
	defer func() { _ = listener.Close() }()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", inner.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	dial()
	first := <-accepted
	dial()
	second := <-accepted
	third := dial()
	_, err = third.Read(make([]byte, 1))
	require.Error(t, err, "one too many from this address is closed before TLS")
	require.NoError(t, first.Close())
	require.Error(t, first.Close(), "closing twice frees one place only")
	dial()
	fourth := <-accepted
	require.NoError(t, second.Close())
	require.NoError(t, fourth.Close())
	require.NoError(t, listener.Close())
	for range accepted {
	}
	require.Equal(t, 1.0, rpctest.Metric(t, registry, "fairlead_hub_handshakes_rejected_total", "reason", "connections_per_source"))
}
