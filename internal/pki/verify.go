// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"fairlead.dev/fairlead/internal/identity"
)

// What VerifyServer refuses, for callers that branch on it. A failed check of
// chain, name or expiry also wraps the error of crypto/x509.
var (
	ErrPinMismatch = errors.New("the hub's root certificate is not the pinned one")
	ErrHubIdentity = errors.New("the hub's certificate does not verify")
	// ErrClockSkew: it would verify, were it later.
	ErrClockSkew = errors.New("the clocks of hub and spoke differ")
)

// maxChain bounds the work that a hostile server can cause.
const maxChain = 10

// Trust is what a client believes about the hub: the SHA-256 of its root (from
// a join string), or roots that it has (a trust bundle), or both. The zero
// Trust trusts nobody.
type Trust struct {
	Pin   [sha256.Size]byte
	Roots []*x509.Certificate
}

// PinFromHex reads a pin as the join string has it.
func PinFromHex(text string) ([sha256.Size]byte, error) {
	var pin [sha256.Size]byte
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(pin) {
		return pin, fmt.Errorf("CA hash %s: want %d hex characters, the SHA-256 of the root certificate", identity.Quoted(text), 2*len(pin))
	}
	copy(pin[:], raw)
	return pin, nil
}

// VerifyServer decides whether the other end of a TLS connection is the hub:
// its chain must end in a root that trust names (by pin the root must be among
// the certificates presented), and the leaf must be valid now, for serverName
// (DNS name or IP address), as a server. It is the only check in force where a
// tls.Config of this package sets InsecureSkipVerify, so nothing of the
// standard check is left out.
func VerifyServer(state tls.ConnectionState, trust Trust, serverName string, now time.Time) error {
	chain := state.PeerCertificates
	if len(chain) == 0 || len(chain) > maxChain {
		return fmt.Errorf("%w: it presented %d certificates", ErrHubIdentity, len(chain))
	}
	if serverName == "" {
		return fmt.Errorf("%w: no name to expect was given", ErrHubIdentity)
	}
	roots, err := trustedRoots(chain, trust)
	if err != nil {
		return err
	}
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	options := x509.VerifyOptions{
		DNSName:       serverName,
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if _, err := chain[0].Verify(options); err != nil {
		if skew := notYetValid(chain, options); skew != nil {
			return skew
		}
		return fmt.Errorf("%w for %q: it is %q, issued by %q: %w", ErrHubIdentity, serverName, chain[0].Subject, chain[0].Issuer, err)
	}
	return nil
}

// notYetValid is the error of a chain with which nothing is wrong but that it is
// too early for it. Certificates begin Backdate before they are made, so that
// this clock is behind the hub's by that more, at least (T38).
func notYetValid(chain []*x509.Certificate, options x509.VerifyOptions) error {
	now, begin := options.CurrentTime, options.CurrentTime
	for _, cert := range chain {
		if cert.NotBefore.After(begin) {
			begin = cert.NotBefore
		}
	}
	if !begin.After(now) {
		return nil
	}
	options.CurrentTime = begin
	if _, err := chain[0].Verify(options); err != nil {
		return nil //nolint:nilerr // then something else is wrong, too
	}
	return fmt.Errorf("%w: this one says %s, at least %s behind the hub's, whose certificate was made at %s or later",
		ErrClockSkew, now.UTC().Format(time.RFC3339), begin.Add(Backdate).Sub(now).Round(time.Second), begin.Add(Backdate).UTC().Format(time.RFC3339))
}

func trustedRoots(chain []*x509.Certificate, trust Trust) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	for _, cert := range trust.Roots {
		roots.AddCert(cert)
	}
	if trust.Pin == ([sha256.Size]byte{}) {
		if len(trust.Roots) == 0 {
			return nil, fmt.Errorf("%w: neither a root certificate nor a pin is known", ErrHubIdentity)
		}
		return roots, nil
	}
	for _, cert := range chain {
		if Fingerprint(cert) == trust.Pin {
			roots.AddCert(cert)
			return roots, nil
		}
	}
	if len(trust.Roots) > 0 {
		return roots, nil
	}
	last := Fingerprint(chain[len(chain)-1])
	return nil, fmt.Errorf("%w: expected SHA-256 %x, the server presented %x (%q); either the join string is of another hub, or something between intercepts the connection",
		ErrPinMismatch, trust.Pin, last, chain[len(chain)-1].Subject.CommonName)
}
