// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bare is the baseline: a gRPC server with one bidi stream per agent
// over mTLS and nothing else, tuned as the hub is, and clients tuned as agents
// are. What the hub costs beyond it is what the hub does.
package bare

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
)

const (
	service  = "fairlead.test.Bare"
	method   = "/" + service + "/Stream"
	window   = 1 << 20
	lifetime = 24 * time.Hour
)

func description() *grpc.StreamDesc {
	return &grpc.StreamDesc{StreamName: "Stream", ServerStreams: true, ClientStreams: true}
}

// WriteCA writes a new CA, with its key, to dir: server and clients make
// certificates of their own with it, P-256 as the hub's are.
func WriteCA(dir string) error {
	ca, err := pki.NewCA("bare", time.Now(), lifetime)
	if err != nil {
		return err
	}
	cert, key, err := ca.Encode()
	if err != nil {
		return err
	}
	return os.WriteFile(caFile(dir), append(cert, key...), 0o600)
}

func caFile(dir string) string { return filepath.Join(dir, "bare-ca.pem") }

func readCA(dir string) (*pki.CA, error) {
	text, err := os.ReadFile(caFile(dir))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("the baseline's CA: %w", err)
	}
	key, err := pki.ParseKey(text[len(pki.EncodeCertificates(pair.Leaf)):])
	return &pki.CA{Cert: pair.Leaf, Key: key}, err
}

// agentCertificate looks like one that the hub issues.
func agentCertificate(ca *pki.CA, i int) (*tls.Certificate, error) {
	id := identity.Agent{Cluster: fmt.Sprintf("bare-%d", i), Name: "agent", HubID: "hub-bare", UID: "5d3c4f1e-0000-4000-8000-000000000000"}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	cert, err := ca.Issue(&x509.Certificate{
		Subject: identity.Subject(id.Cluster, id.Name), URIs: []*url.URL{id.URI()},
		NotBefore: time.Now().Add(-pki.Backdate), NotAfter: time.Now().Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, key.Public())
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}
