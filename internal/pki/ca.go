// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Backdate is how far before the present our certificates begin, so that a
// clock that is a little behind accepts them.
const Backdate = 5 * time.Minute

// CA is a certificate authority: its certificate and its key.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// NewCA makes a self-signed authority that may sign leaf certificates only.
func NewCA(commonName string, now time.Time, lifetime time.Duration) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	ca := &CA{Cert: template, Key: key}
	cert, err := ca.Issue(template, key.Public())
	if err != nil {
		return nil, err
	}
	return &CA{Cert: cert, Key: key}, nil
}

// ParseCA reads an authority from PEM and checks that it can act as one.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	cert := certs[0]
	if !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("certificate %q is not an authority", cert.Subject.CommonName)
	}
	public, ok := key.Public().(interface{ Equal(x crypto.PublicKey) bool })
	if !ok || !public.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("the key does not belong to the authority %q", cert.Subject.CommonName)
	}
	return &CA{Cert: cert, Key: key}, nil
}

// Encode prints the authority as PEM: certificate and private key.
func (ca *CA) Encode() (certPEM, keyPEM []byte, err error) {
	keyPEM, err = EncodeKey(ca.Key)
	if err != nil {
		return nil, nil, err
	}
	return EncodeCertificates(ca.Cert), keyPEM, nil
}

// Issue signs a certificate for a public key. The template decides everything
// but the serial number, which is 128 random bits.
func (ca *CA) Issue(template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	leaf := *template
	leaf.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, &leaf, ca.Cert, public, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate for %q: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// IssueServing makes a key and a server certificate for the given DNS names
// and IP addresses. The root travels in its chain, so that an agent which only
// knows the root's hash can verify it.
func (ca *CA) IssueServing(names []string, now time.Time, lifetime time.Duration) (*tls.Certificate, error) {
	if len(names) == 0 {
		return nil, errors.New("a serving certificate needs at least one DNS name or IP address")
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: names[0]},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	leaf, err := ca.Issue(template, key.Public())
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// newSerial returns 128 random bits, never zero, as a positive number.
func newSerial() (*big.Int, error) {
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	raw[0] |= 0x40 // same length every time
	raw[0] &= 0x7f // positive in DER without a padding byte
	return new(big.Int).SetBytes(raw), nil
}
