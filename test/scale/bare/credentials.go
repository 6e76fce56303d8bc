// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package bare

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"

	"fairlead.dev/fairlead/internal/pki"
)

// slim are a server's credentials that keep nothing of a connection but its
// peer's name.
type slim struct{ config *tls.Config }

type peerName struct {
	credentials.CommonAuthInfo
	name string
}

// AuthType implements credentials.AuthInfo.
func (peerName) AuthType() string { return "tls" }

func newSlim(ca *pki.CA, server *tls.Certificate) slim {
	clients := x509.NewCertPool()
	clients.AddCert(ca.Cert)
	return slim{&tls.Config{
		Certificates: []tls.Certificate{*server}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, NextProtos: []string{"h2"},
	}}
}

// ServerHandshake implements credentials.TransportCredentials.
func (s slim) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured := tls.Server(raw, s.config)
	if err := secured.HandshakeContext(context.Background()); err != nil {
		_ = raw.Close()
		return nil, nil, err
	}
	info := peerName{name: secured.ConnectionState().PeerCertificates[0].Subject.CommonName}
	info.SecurityLevel = credentials.PrivacyAndIntegrity
	return secured, info, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (slim) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

// Info implements credentials.TransportCredentials.
func (slim) Info() credentials.ProtocolInfo { return credentials.ProtocolInfo{SecurityProtocol: "tls"} }

// Clone implements credentials.TransportCredentials.
func (s slim) Clone() credentials.TransportCredentials { return s }

// OverrideServerName implements credentials.TransportCredentials.
func (slim) OverrideServerName(string) error { return nil }
