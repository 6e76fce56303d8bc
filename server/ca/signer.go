// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
)

// Signer turns a request into a cluster agent's certificate. Of the request it
// takes the public key; everything else comes from the identity that the caller
// decided on and from a template. Safe for concurrent use.
type Signer struct {
	ca       *pki.CA
	hubID    string
	lifetime time.Duration
	min      time.Duration
}

// Issued is a certificate that was signed.
type Issued struct {
	// ChainPEM is the certificate; its issuer is the hub's own authority.
	ChainPEM []byte
	// Serial is its serial number as ClusterEnrollment records it.
	Serial   string
	NotAfter time.Time
}

// ErrNotSigned is wrapped by every refusal of Sign; requests that break a rule
// also wrap a *pki.CSRError.
var ErrNotSigned = errors.New("the certificate was not signed")

// Sign makes a certificate for id with the public key of csr, valid from a
// little before now. lifetime 0 means the configured one. The request is held
// against every rule for one again, and must be for exactly that cluster and
// agent; the caller must have decided that this key may have a certificate.
func (s *Signer) Sign(csr *x509.CertificateRequest, id identity.Agent, now time.Time, lifetime time.Duration) (Issued, error) {
	requested, err := pki.CheckCSR(csr)
	if err != nil {
		return Issued{}, fmt.Errorf("%w: %w", ErrNotSigned, err)
	}
	if requested.Cluster != id.Cluster || requested.Name != id.Name {
		return Issued{}, fmt.Errorf("%w: the request is for %q, not for %q", ErrNotSigned, requested.User(), id.User())
	}
	if id.HubID != s.hubID || id.UID == "" {
		return Issued{}, fmt.Errorf("%w: identity of hub %q and UID %q, want hub %q and a UID", ErrNotSigned, id.HubID, id.UID, s.hubID)
	}
	if lifetime == 0 {
		lifetime = s.lifetime
	}
	if lifetime < s.min || lifetime > maxCertificateLifetime {
		return Issued{}, fmt.Errorf("%w: a lifetime of %v, want between %v and %v", ErrNotSigned, lifetime, s.min, maxCertificateLifetime)
	}
	cert, err := s.ca.Issue(s.template(id, now, lifetime), csr.PublicKey)
	if err != nil {
		return Issued{}, err
	}
	return Issued{ChainPEM: pki.EncodeCertificates(cert), Serial: pki.Serial(cert), NotAfter: cert.NotAfter}, nil
}

// template is all of the certificate but key and serial number.
func (s *Signer) template(id identity.Agent, now time.Time, lifetime time.Duration) *x509.Certificate {
	notAfter := now.Add(lifetime)
	if notAfter.After(s.ca.Cert.NotAfter) {
		notAfter = s.ca.Cert.NotAfter
	}
	return &x509.Certificate{
		Subject:               identity.Subject(id.Cluster, id.Name),
		URIs:                  []*url.URL{id.URI()},
		NotBefore:             now.Add(-pki.Backdate),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
}

// Lifetime is how long the certificates live that Sign makes by default.
func (s *Signer) Lifetime() time.Duration { return s.lifetime }
