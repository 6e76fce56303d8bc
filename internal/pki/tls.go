// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"time"
)

// alpn is the application protocol of gRPC.
const alpn = "h2"

// ServerState is what the hub's listeners serve with: its certificate (with
// the root in the chain) and the authorities of client certificates.
type ServerState struct {
	Certificate *tls.Certificate
	ClientCAs   *x509.CertPool
}

// Server hands out a tls.Config whose content can be replaced while listeners
// use it. Safe for concurrent use.
type Server struct {
	state atomic.Pointer[ServerState]
	now   func() time.Time
}

// NewServer makes a Server that serves with state until Set is called.
func NewServer(state ServerState) *Server {
	s := &Server{now: time.Now}
	s.Set(state)
	return s
}

// By has client certificates judged by that clock instead of the system's. Call it
// before the first handshake.
func (s *Server) By(now func() time.Time) *Server {
	s.now = now
	return s
}

// Set replaces certificate and client authorities together; handshakes that
// begin after it returns see both.
func (s *Server) Set(state ServerState) { s.state.Store(&state) }

// State returns what is being served with.
func (s *Server) State() ServerState { return *s.state.Load() }

// TLSConfig is for a listener: TLS 1.3 only, no session tickets (a resumed
// session would skip the check of the client's chain), client certificates
// verified when one is presented. What a handshake sees is decided when it
// begins.
func (s *Server) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		NextProtos:             []string{alpn},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			state := s.state.Load()
			if state.Certificate == nil {
				return nil, errors.New("the hub has no serving certificate yet")
			}
			clientCAs := state.ClientCAs
			if clientCAs == nil {
				clientCAs = x509.NewCertPool() // nil would mean the system's roots
			}
			return &tls.Config{
				MinVersion:             tls.VersionTLS13,
				SessionTicketsDisabled: true,
				NextProtos:             []string{alpn},
				Certificates:           []tls.Certificate{*state.Certificate},
				ClientAuth:             tls.VerifyClientCertIfGiven,
				Time:                   s.now,
				ClientCAs:              clientCAs,
			}, nil
		},
	}
}

// Client hands out tls.Configs for connections to the hub whose trust and
// client certificate can be replaced while connections exist; the next
// handshake uses the new ones. Safe for concurrent use.
type Client struct {
	trust atomic.Pointer[Trust]
	cert  atomic.Pointer[tls.Certificate]
}

// NewClient makes a Client that trusts as told and has no certificate yet.
func NewClient(trust Trust) *Client {
	c := &Client{}
	c.SetTrust(trust)
	return c
}

// SetTrust replaces what is believed about the hub.
func (c *Client) SetTrust(trust Trust) { c.trust.Store(&trust) }

// SetCertificate replaces the client certificate; nil means none, as during
// enrollment.
func (c *Client) SetCertificate(cert *tls.Certificate) { c.cert.Store(cert) }

// Certificate returns the client certificate in use, or nil.
func (c *Client) Certificate() *tls.Certificate { return c.cert.Load() }

// TLSConfig is for connections to one endpoint of the hub; serverName is the
// host of that endpoint (DNS name or IP address).
func (c *Client) TLSConfig(serverName string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: serverName,
		NextProtos: []string{alpn},
		// The standard check knows neither a pin nor roots that change; VerifyServer
		// does all that it does, and more, on every handshake.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection below replaces it
		VerifyConnection: func(state tls.ConnectionState) error {
			return VerifyServer(state, *c.trust.Load(), serverName, time.Now())
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert := c.cert.Load(); cert != nil {
				return cert, nil
			}
			return &tls.Certificate{}, nil
		},
	}
}
