// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"

	"fairlead.dev/fairlead/internal/identity"
)

// Limits of a certificate request.
const (
	maxRequestBytes = 16 << 10
	minRSABits      = 3072
	maxRSABits      = 8192 // verifying bigger ones would be a cheap way to burn the hub's CPU
)

// CSRError says what is wrong with a certificate request. It is safe to show
// to whoever sent the request.
type CSRError struct{ Problem string }

// Error implements error.
func (e *CSRError) Error() string {
	return "certificate request: " + e.Problem + "; a request has the agent's subject, a key, and nothing else"
}

func badCSR(format string, args ...any) error {
	return &CSRError{Problem: fmt.Sprintf(format, args...)}
}

// NewCSR makes a certificate request with exactly that subject and no
// extension, signed by key, in DER.
func NewCSR(key crypto.Signer, subject pkix.Name) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request for %q: %w", subject.CommonName, err)
	}
	return der, nil
}

// EncodeCSR prints a certificate request as PEM, the form in which
// CertificateSigningRequest objects carry it.
func EncodeCSR(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der})
}

// DecodeCSR returns the DER of the one certificate request in data (PEM).
func DecodeCSR(data []byte) ([]byte, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemRequest {
		return nil, badCSR("no PEM block %q found", pemRequest)
	}
	if len(rest) > 0 {
		return nil, badCSR("%d bytes after the PEM block", len(rest))
	}
	return block.Bytes, nil
}

// ParseCSR reads a cluster agent's certificate request and holds it against
// every rule for one: a signature by its own key, a key of an accepted kind, a
// subject exactly in OCM's format, no subject alternative name of any kind and
// no other extension. The agent it returns has no hub-id and no UID: a request
// cannot claim those. Every error is a *CSRError.
func ParseCSR(der []byte) (*x509.CertificateRequest, identity.Agent, error) {
	if len(der) > maxRequestBytes {
		return nil, identity.Agent{}, badCSR("%d bytes, at most %d are accepted", len(der), maxRequestBytes)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, identity.Agent{}, badCSR("it does not parse as PKCS#10 DER")
	}
	agent, err := CheckCSR(csr)
	if err != nil {
		return nil, identity.Agent{}, err
	}
	return csr, agent, nil
}

// CheckCSR holds a parsed request against the rules that ParseCSR names.
func CheckCSR(csr *x509.CertificateRequest) (identity.Agent, error) {
	if err := CheckPublicKey(csr.PublicKey); err != nil {
		return identity.Agent{}, badCSR("%v", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return identity.Agent{}, badCSR("its signature is not by its own key")
	}
	if n := len(csr.DNSNames) + len(csr.EmailAddresses) + len(csr.IPAddresses) + len(csr.URIs); n > 0 {
		return identity.Agent{}, badCSR("it has %d subject alternative names", n)
	}
	if len(csr.Extensions) > 0 {
		return identity.Agent{}, badCSR("it asks for the extension %s", csr.Extensions[0].Id)
	}
	agent, err := identity.ParseSubject(csr.Subject)
	if err != nil {
		return identity.Agent{}, badCSR("%v", err)
	}
	return agent, nil
}

// CheckPublicKey says why a key is not of a kind that we certify: ECDSA on
// P-256 or P-384, Ed25519, or RSA of at least 3072 bits.
func CheckPublicKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
		return fmt.Errorf("ECDSA keys must be on P-256 or P-384, not %s", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("RSA keys must have %d to %d bits, not %d", minRSABits, maxRSABits, bits)
		}
		return nil
	default:
		return errors.New("its key is neither ECDSA, Ed25519 nor RSA")
	}
}
