// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
)

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := pki.NewKey()
	require.NoError(t, err)
	return key
}

func request(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	require.NoError(t, err)
	return der
}

// keyOf makes a key of a kind that the test names.
func keyOf(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "p256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "p224":
		key, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case "p521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "rsa2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "rsa3072":
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	}
	require.NoError(t, err)
	return key
}

func extension(t testing.TB, oid asn1.ObjectIdentifier, value any) pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(value)
	require.NoError(t, err)
	return pkix.Extension{Id: oid, Value: der}
}

func TestT50_certificate_requests(t *testing.T) {
	good := identity.Subject("spoke-1", "agent-a")
	withSubject := func(change func(*pkix.Name)) *x509.CertificateRequest {
		subject := identity.Subject("spoke-1", "agent-a")
		change(&subject)
		return &x509.CertificateRequest{Subject: subject}
	}
	cases := map[string]struct {
		reason   string
		key      string
		template *x509.CertificateRequest
		damage   func(der []byte) []byte
		ok       bool
	}{
		"P-256":             {reason: "the usual key", key: "p256", template: &x509.CertificateRequest{Subject: good}, ok: true},
		"P-384":             {reason: "listed kind", key: "p384", template: &x509.CertificateRequest{Subject: good}, ok: true},
		"Ed25519":           {reason: "listed kind", key: "ed25519", template: &x509.CertificateRequest{Subject: good}, ok: true},
		"RSA 3072":          {reason: "the smallest RSA", key: "rsa3072", template: &x509.CertificateRequest{Subject: good}, ok: true},
		"one organization":  {reason: "the group of all clusters is optional", key: "p256", ok: true, template: withSubject(func(n *pkix.Name) { n.Organization = n.Organization[:1] })},
		"RSA 2048":          {reason: "weak key", key: "rsa2048", template: &x509.CertificateRequest{Subject: good}},
		"P-224":             {reason: "weak key", key: "p224", template: &x509.CertificateRequest{Subject: good}},
		"P-521":             {reason: "not on the list", key: "p521", template: &x509.CertificateRequest{Subject: good}},
		"DNS name":          {reason: "would name a server", key: "p256", template: &x509.CertificateRequest{Subject: good, DNSNames: []string{"hub.example"}}},
		"IP address":        {reason: "would name a server", key: "p256", template: &x509.CertificateRequest{Subject: good, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}},
		"URI":               {reason: "the signer alone gives the URI", key: "p256", template: &x509.CertificateRequest{Subject: good, URIs: []*url.URL{{Scheme: "spiffe", Host: "h", Path: "/cluster/spoke-2/u/agent/a"}}}},
		"email":             {reason: "no name of any kind", key: "p256", template: &x509.CertificateRequest{Subject: good, EmailAddresses: []string{"a@b.c"}}},
		"other name":        {reason: "a SAN that Go does not parse is a SAN too", key: "p256", template: &x509.CertificateRequest{Subject: good, ExtraExtensions: []pkix.Extension{extension(t, asn1.ObjectIdentifier{2, 5, 29, 17}, []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 8, Bytes: []byte{42, 3, 4}}})}}},
		"CA:true":           {reason: "an authority", key: "p256", template: &x509.CertificateRequest{Subject: good, ExtraExtensions: []pkix.Extension{extension(t, asn1.ObjectIdentifier{2, 5, 29, 19}, struct{ IsCA bool }{true})}}},
		"server EKU":        {reason: "an agent is never a server", key: "p256", template: &x509.CertificateRequest{Subject: good, ExtraExtensions: []pkix.Extension{extension(t, asn1.ObjectIdentifier{2, 5, 29, 37}, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}})}}},
		"any EKU":           {reason: "an agent is never a server", key: "p256", template: &x509.CertificateRequest{Subject: good, ExtraExtensions: []pkix.Extension{extension(t, asn1.ObjectIdentifier{2, 5, 29, 37}, []asn1.ObjectIdentifier{{2, 5, 29, 37, 0}})}}},
		"unknown extension": {reason: "nothing but subject and key", key: "p256", template: &x509.CertificateRequest{Subject: good, ExtraExtensions: []pkix.Extension{extension(t, asn1.ObjectIdentifier{1, 2, 3, 4}, "x")}}},
		"wrong signature":   {reason: "not by its own key", key: "p256", template: &x509.CertificateRequest{Subject: good}, damage: func(der []byte) []byte { der[len(der)-1] ^= 1; return der }},
		"truncated":         {reason: "does not parse", key: "p256", template: &x509.CertificateRequest{Subject: good}, damage: func(der []byte) []byte { return der[:len(der)-4] }},
		"trailing bytes":    {reason: "does not parse", key: "p256", template: &x509.CertificateRequest{Subject: good}, damage: func(der []byte) []byte { return append(der, 0) }},
		"too big":           {reason: "a way to burn memory", key: "p256", template: &x509.CertificateRequest{Subject: good}, damage: func([]byte) []byte { return make([]byte, 1<<20) }},
		"empty subject":     {reason: "no subject", key: "p256", template: &x509.CertificateRequest{}},
		"other cluster's organization": {reason: "subject names two clusters", key: "p256", template: withSubject(func(n *pkix.Name) {
			n.Organization[0] = identity.Group("spoke-2")
		})},
		"prefix organization": {reason: "RC-27: exact, never by prefix", key: "p256", template: withSubject(func(n *pkix.Name) {
			n.Organization[0] += "xyz"
		})},
		"third organization": {reason: "system:masters does not slip in", key: "p256", template: withSubject(func(n *pkix.Name) {
			n.Organization = append(n.Organization, "system:masters")
		})},
		"second common name": {reason: "two common names", key: "p256", template: withSubject(func(n *pkix.Name) {
			n.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: identity.User("spoke-2", "x")}}
		})},
		"country": {reason: "an attribute that does not belong", key: "p256", template: withSubject(func(n *pkix.Name) {
			n.Country = []string{"CH"}
		})},
		"add-on subject": {reason: "an add-on is not a cluster agent", key: "p256", template: withSubject(func(n *pkix.Name) {
			n.CommonName = "system:open-cluster-management:cluster:spoke-1:addon:x:agent:y"
		})},
		"upper case": {reason: "cluster names are RFC 1123 labels", key: "p256", template: &x509.CertificateRequest{Subject: identity.Subject("Spoke-1", "agent-a")}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			der := request(t, keyOf(t, tc.key), tc.template)
			if tc.damage != nil {
				der = tc.damage(der)
			}
			_, agent, err := pki.ParseCSR(der)
			if tc.ok {
				require.NoError(t, err, tc.reason)
				require.Equal(t, identity.Agent{Cluster: "spoke-1", Name: "agent-a"}, agent)
				return
			}
			var bad *pki.CSRError
			require.ErrorAs(t, err, &bad, tc.reason)
			require.Empty(t, agent)
		})
	}
}

// FuzzParseCSR also gives each request a signature that is right, by damaging
// only what is signed: no fuzzer makes one. What is accepted keeps every rule.
func FuzzParseCSR(f *testing.F) {
	key := newKey(f)
	for _, subject := range []pkix.Name{identity.Subject("c", "a"), {CommonName: "x"}, identity.Subject("c:d", "a")} {
		der, err := pki.NewCSR(key, subject)
		require.NoError(f, err)
		f.Add(der, "system:open-cluster-management:c:a", "system:open-cluster-management:c", "")
		f.Add(pki.EncodeCSR(der), subject.CommonName, "system:open-cluster-management:managed-clusters", "spoke")
	}
	long := strings.Repeat("\u200b", 2500)
	f.Add([]byte{}, "system:open-cluster-management:c:a", long, "")
	f.Add([]byte{}, "system:open-cluster-management:"+long+":"+long, "", "")
	f.Fuzz(func(t *testing.T, raw []byte, name, organization, dns string) {
		requests := [][]byte{raw}
		if der, err := pki.DecodeCSR(raw); err == nil {
			require.NotEmpty(t, pki.EncodeCSR(der))
			requests = append(requests, der)
		}
		template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: []string{organization}}}
		if dns != "" {
			template.DNSNames = []string{dns}
		}
		if der, err := x509.CreateCertificateRequest(rand.Reader, template, key); err == nil {
			requests = append(requests, der)
		}
		for _, der := range requests {
			csr, agent, err := pki.ParseCSR(der)
			if err != nil {
				var bad *pki.CSRError
				require.ErrorAs(t, err, &bad)
				require.Empty(t, agent)
				require.Less(t, len(err.Error()), 2000, "an error is read by people")
				continue
			}
			require.NoError(t, identity.ValidateClusterName(agent.Cluster))
			require.Equal(t, identity.User(agent.Cluster, agent.Name), csr.Subject.CommonName)
			require.Contains(t, csr.Subject.Organization, identity.Group(agent.Cluster))
			require.Empty(t, agent.HubID+agent.UID, "a request cannot claim those")
			require.NoError(t, csr.CheckSignature())
			require.NoError(t, pki.CheckPublicKey(csr.PublicKey))
			require.Empty(t, csr.Extensions)
			require.Empty(t, csr.DNSNames)
			_, err = pki.SPKI(csr.PublicKey)
			require.NoError(t, err, "a key that is accepted has a pairing code")
		}
	})
}

func TestProof(t *testing.T) {
	for _, kind := range []string{"p256", "p384", "ed25519", "rsa3072"} {
		t.Run(kind, func(t *testing.T) {
			key := keyOf(t, kind)
			spki, err := pki.SPKI(key.Public())
			require.NoError(t, err)
			proof, err := pki.Prove(key, "c1-abcd", []byte("challenge"))
			require.NoError(t, err)
			require.NoError(t, pki.VerifyProof(spki, "c1-abcd", []byte("challenge"), proof))
			require.ErrorIs(t, pki.VerifyProof(spki, "c1-abce", []byte("challenge"), proof), pki.ErrProof)
			require.ErrorIs(t, pki.VerifyProof(spki, "c1-abcd", []byte("challengf"), proof), pki.ErrProof)
			require.ErrorIs(t, pki.VerifyProof(spki, "c1-abcd", []byte("challenge"), nil), pki.ErrProof)
			other, err := pki.SPKI(newKey(t).Public())
			require.NoError(t, err)
			require.ErrorIs(t, pki.VerifyProof(other, "c1-abcd", []byte("challenge"), proof), pki.ErrProof)
		})
	}
}

func TestKeysAndCertificatesSurvivePEM(t *testing.T) {
	for _, kind := range []string{"p256", "p384", "ed25519", "rsa3072"} {
		data, err := pki.EncodeKey(keyOf(t, kind))
		require.NoError(t, err)
		_, err = pki.ParseKey(data)
		require.NoError(t, err, kind)
	}
	_, err := pki.ParseKey([]byte("secret canary"))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "canary", "errors about keys never repeat the input")
	_, err = pki.ParseCertificates([]byte("nothing"))
	require.Error(t, err)
}
