// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
)

// ErrProof is wrapped by every error of VerifyProof.
var ErrProof = errors.New("the proof of possession does not verify")

// proofDigest is what is signed: a hash, so that every key kind signs the same
// number of bytes. Lengths separate the parts.
func proofDigest(enrollmentID string, challenge []byte) []byte {
	sum := sha512.Sum512(fmt.Appendf(nil, "fairlead-enroll-v1|%d|%s|%d|%s", len(enrollmentID), enrollmentID, len(challenge), challenge))
	return sum[:]
}

// Prove signs the hub's challenge for an enrollment, which shows that the
// caller has the private key of the certificate request.
func Prove(key crypto.Signer, enrollmentID string, challenge []byte) ([]byte, error) {
	var opts crypto.SignerOpts = crypto.SHA512
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		opts = &ed25519.Options{Hash: crypto.SHA512}
	}
	signature, err := key.Sign(rand.Reader, proofDigest(enrollmentID, challenge), opts)
	if err != nil {
		return nil, fmt.Errorf("signing the challenge of enrollment %q: %w", enrollmentID, err)
	}
	return signature, nil
}

// VerifyProof checks what Prove made, with the public key (DER
// SubjectPublicKeyInfo) that enrolled.
func VerifyProof(spki []byte, enrollmentID string, challenge, proof []byte) error {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return fmt.Errorf("%w: the recorded key does not parse: %w", ErrProof, err)
	}
	digest := proofDigest(enrollmentID, challenge)
	ok := false
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, digest, proof)
	case ed25519.PublicKey:
		ok = ed25519.VerifyWithOptions(key, digest, proof, &ed25519.Options{Hash: crypto.SHA512}) == nil
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(key, crypto.SHA512, digest, proof) == nil
	}
	if !ok {
		return ErrProof
	}
	return nil
}
