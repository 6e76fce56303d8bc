// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package interceptor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/credentials"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
)

// handshakeTimeout bounds a handshake from accept to finish: one that drips a
// byte a second gives its place away after this.
const handshakeTimeout = 10 * time.Second

// A connection may make connCalls cheap calls a second, with bursts of
// connBurst; the table says what each method costs. A session costs 10.
const (
	connCalls = 50
	connBurst = 200
)

// TransportConfig is what a listener's TLS needs.
type TransportConfig struct {
	// PKI says what to serve with; it may change at any time. Versions and tickets
	// are forced here whatever it says.
	PKI *pki.Server
	// Handshakes is how many may be computed at once; 0 means 1.
	Handshakes int
	Registry   prometheus.Registerer
}

// NewTransport returns server-side credentials: TLS 1.3, no session tickets
// (a resumed session would skip the check of the client's chain, T47), HTTP/2
// only. Of the peer they keep what is needed (some 700 bytes) instead of a whole
// tls.ConnectionState.
func NewTransport(cfg TransportConfig) credentials.TransportCredentials {
	return &transport{pki: cfg.PKI, places: semaphore.NewWeighted(int64(max(cfg.Handshakes, 1))), refused: refusals(cfg.Registry)}
}

// served is a tls.Config made for one state of the PKI. All connections made
// meanwhile share it: one each would be a KiB that they keep for life.
type served struct {
	state  pki.ServerState
	config *tls.Config
}

// current is the config to begin a handshake with.
func (t *transport) current() (*tls.Config, error) {
	state := t.pki.State()
	if known := t.served.Load(); known != nil && known.state == state {
		return known.config, nil
	}
	config, err := t.pki.TLSConfig().GetConfigForClient(&tls.ClientHelloInfo{})
	if err != nil {
		return nil, err
	}
	config = hardened(config)
	t.served.Store(&served{state, config})
	return config, nil
}

// peerInfo is what is kept of a connection: grpc's AuthInfo.
type peerInfo struct {
	credentials.CommonAuthInfo
	conn   *conn
	calls  *rate.Limiter
	agent  identity.Agent
	serial string
	until  time.Time
	leaf   *x509.Certificate // which the connection keeps anyhow
	// err says why a verified certificate is not an agent's; nil without one.
	err error
}

// AuthType implements credentials.AuthInfo.
func (*peerInfo) AuthType() string { return "tls" }

// certified tells whether the peer presented a certificate that verified.
func (p *peerInfo) certified() bool { return p.leaf != nil }

type transport struct {
	pki     *pki.Server
	served  atomic.Pointer[served]
	places  *semaphore.Weighted
	refused *prometheus.CounterVec
}

// place is one connection's place among the handshakes being computed. It is
// used by the goroutine of the handshake only.
type place struct {
	ctx    context.Context //nolint:containedctx // net.Conn.Read takes none
	places *semaphore.Weighted
	held   bool
}

func (p *place) acquire() error {
	if err := p.places.Acquire(p.ctx, 1); err != nil {
		return fmt.Errorf("waiting for a place among the handshakes: %w", err)
	}
	p.held = true
	return nil
}

func (p *place) release() {
	if p.held {
		p.places.Release(1)
		p.held = false
	}
}

// ServerHandshake implements credentials.TransportCredentials.
func (t *transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	counted, ok := raw.(*conn)
	if !ok {
		counted = &conn{Conn: raw}
	}
	config, err := t.current()
	if err != nil {
		_ = counted.Close()
		t.refused.WithLabelValues("no_certificate").Inc()
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout) // grpc hands out no context here
	defer cancel()
	counted.place = &place{ctx: ctx, places: t.places}
	secured := tls.Server(counted, config)
	err = secured.HandshakeContext(ctx)
	counted.place.release()
	counted.place = nil
	if err != nil {
		_ = counted.Close()
		t.refused.WithLabelValues(kindOf(config.Time(), err)).Inc()
		return nil, nil, err
	}
	state := secured.ConnectionState()
	if state.NegotiatedProtocol != "h2" {
		_ = secured.Close()
		t.refused.WithLabelValues("not_http2").Inc()
		return nil, nil, errors.New("the client does not speak HTTP/2 (ALPN h2)")
	}
	return secured, newPeerInfo(counted, state), nil
}

// ClientHandshake implements credentials.TransportCredentials; a listener has
// no use for it.
func (*transport) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

// Info implements credentials.TransportCredentials.
func (*transport) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials; they are immutable.
func (t *transport) Clone() credentials.TransportCredentials { return t }

// OverrideServerName implements credentials.TransportCredentials.
func (*transport) OverrideServerName(string) error { return nil }

func hardened(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.MinVersion, config.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
	config.SessionTicketsDisabled = true
	config.NextProtos = []string{"h2"}
	return config
}

func newPeerInfo(counted *conn, state tls.ConnectionState) *peerInfo {
	info := &peerInfo{conn: counted, calls: rate.NewLimiter(connCalls, connBurst)}
	info.SecurityLevel = credentials.PrivacyAndIntegrity
	if len(state.VerifiedChains) == 0 { // VerifyClientCertIfGiven: none was given
		return info
	}
	leaf := state.PeerCertificates[0]
	info.serial, info.until, info.leaf = pki.Serial(leaf), leaf.NotAfter, leaf
	info.agent, info.err = identity.ParseCertificate(leaf)
	return info
}

// kindOf sorts failed handshakes for the metric.
func kindOf(now time.Time, err error) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var network net.Error
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil && now.Before(invalid.Cert.NotBefore):
		return "certificate_not_yet_valid" // this clock, or that which it was made by, is wrong
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "certificate_expired"
	case errors.As(err, &invalid):
		return "certificate_invalid"
	case errors.As(err, &unknown):
		return "certificate_unknown_authority"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return "closed"
	}
	return "tls"
}

// refusals is the counter of connections that did not come to a call; the two
// listeners share it.
func refusals(registry prometheus.Registerer) *prometheus.CounterVec {
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fairlead_hub_handshakes_rejected_total",
		Help: "Connections refused before any call, by reason.",
	}, []string{"reason"})
	return register(registry, counter)
}

// register adds a collector, or returns the equal one that is there already.
func register[C prometheus.Collector](registry prometheus.Registerer, collector C) C {
	err := registry.Register(collector)
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := there.ExistingCollector.(C); ok {
			return existing
		}
	}
	return collector
}
