// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/rand/v2"
	"net"
	"net/url"
	"regexp"
	"slices"
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

// TestT48_of_10000_certificates_the_exact_ones puts certificates together from parts
// that are right, nearly right and of others, and says on its own which are an agent's.
func TestT48_of_10000_certificates_the_exact_ones(t *testing.T) {
	dice, accepted := rand.New(rand.NewPCG(48, 48)), 0
	for n := range 10_000 {
		cert, cluster, name := drawn(dice)
		want, ok := exact(cert, cluster, name)
		agent, err := ParseCertificate(cert)
		if !ok {
			require.ErrorIs(t, err, ErrMalformed, "certificate %d: %+v %v", n, cert.Subject, cert.URIs)
			require.Empty(t, agent)
			continue
		}
		accepted++
		require.NoError(t, err, "certificate %d: %+v %v", n, cert.Subject, cert.URIs)
		require.Equal(t, want, agent)
	}
	require.Greater(t, accepted, 500, "the right ones are among them")
	require.Less(t, accepted, 5000)
}

// drawn is a certificate of mostly right parts, and the names that are in it.
func drawn(dice *rand.Rand) (cert *x509.Certificate, cluster, name string) {
	const prefix = "system:open-cluster-management:"
	either := func(right string, others ...string) string {
		if dice.IntN(8) > 0 {
			return right
		}
		return others[dice.IntN(len(others))]
	}
	cluster = either("c1", "c2", "c1x", "C1", "с1", "-c1", "managed-clusters", strings.Repeat("c", 63), strings.Repeat("c", 64), "")
	name = either("a1", "a2", "a1:b", "A1", "", "a.b", "a/b")
	cert = &x509.Certificate{Subject: pkix.Name{CommonName: either(prefix, "system:", "") + cluster + either(":", "", "::", "/") + name}}
	groups := []string{prefix + either(cluster, "c1", "c2", ""), prefix + either("managed-clusters", "", "c2"), either("", "system:masters")}
	cert.Subject.Organization = slices.DeleteFunc(groups, func(group string) bool { return group == "" || dice.IntN(8) == 0 })
	for range []int{1, 1, 1, 1, 0, 2}[dice.IntN(6)] {
		text := either("spiffe", "https", "") + "://" + either("hub", "", "u@hub", "other") + "/cluster/" + either(cluster, "c2", "") + "/" +
			either("0d9c", "", "0d9c%2F", "0d9c/x") + "/" + either("agent", "agents") + "/" + either(name, "a2", "") + either("", "/", "?x=1", "#x")
		if uri, err := url.Parse(text); err == nil {
			cert.URIs = append(cert.URIs, uri)
		}
	}
	cert.DNSNames = make([]string, dice.IntN(16)/15)
	cert.IPAddresses = make([]net.IP, dice.IntN(16)/15)
	cert.EmailAddresses = make([]string, dice.IntN(16)/15)
	return cert, cluster, name
}

// exact says, without the code under test, whether a drawn certificate is an agent's,
// and whose.
func exact(cert *x509.Certificate, cluster, name string) (agent Agent, ok bool) {
	const prefix, all = "system:open-cluster-management:", "system:open-cluster-management:managed-clusters"
	own, groups := prefix+cluster, slices.Sorted(slices.Values(cert.Subject.Organization))
	switch {
	case !regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`).MatchString(cluster), own == all,
		!slices.Contains([]string{"a1", "a2", "a.b"}, name),
		cert.Subject.CommonName != own+":"+name,
		!slices.Equal(groups, []string{own}) && !slices.Equal(groups, slices.Sorted(slices.Values([]string{own, all}))),
		len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses) > 0, len(cert.URIs) > 1:
		return Agent{}, false
	case len(cert.URIs) == 0:
		return Agent{Cluster: cluster, Name: name}, true
	}
	uri := regexp.MustCompile(`^spiffe://([^/?#@%]+)/cluster/([^/?#%]+)/([^/?#%]+)/agent/([^/?#%]+)$`).FindStringSubmatch(cert.URIs[0].String())
	if uri == nil || uri[2] != cluster || uri[4] != name {
		return Agent{}, false
	}
	return Agent{Cluster: cluster, Name: name, HubID: uri[1], UID: uri[3]}, true
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
