// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func certificate(t *testing.T, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	agent := Agent{Cluster: "c1", Name: "a1", HubID: "hub", UID: "0d9c"}
	cert := &x509.Certificate{Subject: Subject("c1", "a1"), URIs: []*url.URL{agent.URI()}}
	if change != nil {
		change(cert)
	}
	return cert
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	require.NoError(t, err)
	return u
}

// TestT48_only_the_exact_subject tries the near misses of the threat list.
func TestT48_only_the_exact_subject(t *testing.T) {
	o := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.Organization = names }
	}
	cn := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.CommonName = name }
	}
	uri := func(s string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.URIs = []*url.URL{mustURL(t, s)} }
	}
	const p = "system:open-cluster-management:"
	cases := map[string]struct {
		reason string
		change func(*x509.Certificate)
		ok     bool
	}{
		"as printed":            {"the form we issue", nil, true},
		"one organization":      {"the group of all clusters is optional", o(p + "c1"), true},
		"no URI":                {"an external signer may not copy it", func(c *x509.Certificate) { c.URIs = nil }, true},
		"other order":           {"organizations are a set", o(ManagedClustersGroup, p+"c1"), true},
		"prefix cluster in O":   {"c1x is another cluster", o(p+"c1x", ManagedClustersGroup), false},
		"prefix cluster in CN":  {"c1x is another cluster", cn(p + "c1x:a1"), false},
		"extra colon":           {"an agent name has no colon", cn(p + "c1:a1:b"), false},
		"no agent":              {"the agent part is required", cn(p + "c1"), false},
		"empty agent":           {"the agent part is required", cn(p + "c1:"), false},
		"empty CN":              {"", cn(""), false},
		"upper case":            {"RFC 1123 labels are lower case", cn(p + "C1:a1"), false},
		"unicode":               {"RFC 1123 labels are ASCII", cn(p + "с1:a1"), false},
		"masters too":           {"no other group may ride along", o(p+"c1", "system:masters"), false},
		"masters third":         {"no other group may ride along", o(p+"c1", ManagedClustersGroup, "system:masters"), false},
		"two clusters":          {"one certificate is one cluster", o(p+"c1", p+"c2"), false},
		"group twice":           {"only one cluster group", o(p+"c1", p+"c1"), false},
		"only the shared group": {"a cluster group is required", o(ManagedClustersGroup), false},
		"reserved name":         {"managed-clusters would be the group of all", func(c *x509.Certificate) { c.Subject = Subject("managed-clusters", "a") }, false},
		"DNS SAN":               {"it could serve", func(c *x509.Certificate) { c.DNSNames = []string{"hub"} }, false},
		"IP SAN":                {"it could serve", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }, false},
		"email SAN":             {"not of ours", func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b"} }, false},
		"two URIs":              {"which one decides?", func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }, false},
		"URI of other cluster":  {"URI and CN must agree", uri("spiffe://hub/cluster/c2/0d9c/agent/a1"), false},
		"URI of other agent":    {"URI and CN must agree", uri("spiffe://hub/cluster/c1/0d9c/agent/a2"), false},
		"URI scheme":            {"only spiffe", uri("https://hub/cluster/c1/0d9c/agent/a1"), false},
		"URI query":             {"nothing more in it", uri("spiffe://hub/cluster/c1/0d9c/agent/a1?x=1"), false},
		"URI user":              {"nothing more in it", uri("spiffe://u@hub/cluster/c1/0d9c/agent/a1"), false},
		"URI without UID":       {"the UID binds", uri("spiffe://hub/cluster/c1//agent/a1"), false},
		"URI without hub":       {"the hub-id binds", uri("spiffe:///cluster/c1/0d9c/agent/a1"), false},
		"URI encoded slash":     {"only the printed form", uri("spiffe://hub/cluster/c1/0d9c%2F/agent/a1"), false},
		"URI trailing part":     {"nothing more in it", uri("spiffe://hub/cluster/c1/0d9c/agent/a1/"), false},
		"other attribute": {"nothing more in the subject", func(c *x509.Certificate) {
			c.Subject.Names = []pkix.AttributeTypeAndValue{{}, {}, {}, {}}
		}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			agent, err := ParseCertificate(certificate(t, tc.change))
			if !tc.ok {
				require.ErrorIs(t, err, ErrMalformed, tc.reason)
				return
			}
			require.NoError(t, err, tc.reason)
			require.Equal(t, "c1", agent.Cluster)
			require.Equal(t, "a1", agent.Name)
		})
	}
}

func TestSubjectIsReadBackFromDER(t *testing.T) {
	sequence := Subject("c1", "a1").ToRDNSequence()
	var subject pkix.Name
	subject.FillFromRDNSequence(&sequence)
	agent, err := ParseSubject(subject)
	require.NoError(t, err)
	require.Equal(t, "c1", agent.Cluster)
}

func FuzzParseSubject(f *testing.F) {
	f.Add("system:open-cluster-management:c1:a1", "system:open-cluster-management:c1", "")
	f.Add("system:open-cluster-management:c1:a1", "system:open-cluster-management:c1x", ManagedClustersGroup)
	long := strings.Repeat("\xf4", 5000)
	f.Add("system:open-cluster-management:"+long+":"+long, long, long)
	f.Add("system:open-cluster-management:c1:a1", long, "")
	f.Fuzz(func(t *testing.T, cn, o1, o2 string) {
		organizations := []string{o1}
		if o2 != "" {
			organizations = append(organizations, o2)
		}
		agent, err := ParseSubject(pkix.Name{CommonName: cn, Organization: organizations})
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			require.Empty(t, agent)
			require.Less(t, len(err.Error()), 2000, "an error is read by people")
			return
		}
		require.Equal(t, User(agent.Cluster, agent.Name), cn)
		require.Contains(t, organizations, Group(agent.Cluster))
		for _, organization := range organizations {
			require.Contains(t, []string{Group(agent.Cluster), ManagedClustersGroup}, organization, "no other group comes with it")
		}
		require.NoError(t, ValidateClusterName(agent.Cluster))
		again, err := ParseSubject(Subject(agent.Cluster, agent.Name))
		require.NoError(t, err)
		require.Equal(t, agent, again)
	})
}

func TestPairingCode(t *testing.T) {
	code := PairingCode([]byte("key"), "c1", "hub")
	require.Regexp(t, `^[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{4}$`, code)
	require.Equal(t, code, PairingCode([]byte("key"), "c1", "hub"))
	require.NotEqual(t, code, PairingCode([]byte("kez"), "c1", "hub"), "another key")
	require.NotEqual(t, code, PairingCode([]byte("key"), "c2", "hub"), "another cluster")
	require.NotEqual(t, code, PairingCode([]byte("key"), "c1", "hub2"), "another hub")
	require.NotEqual(t, code, PairingCode([]byte("keyc1"), "", "hub"), "parts cannot be shifted")
	require.Equal(t, code, NormalizePairingCode(" "+strings.ToLower(strings.ReplaceAll(code, "-", " "))+" "))
	require.Empty(t, NormalizePairingCode("ABCD"))
	require.Equal(t, "c1-"+strings.ToLower(code), EnrollmentName("c1", code))
}
