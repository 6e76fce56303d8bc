// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfig_default_is_valid(t *testing.T) {
	cfg := Default()
	require.NoError(t, cfg.Validate())
}

// Gates that turn something on are not said to have no effect.
func TestHeeded(t *testing.T) {
	cfg := Default()
	require.NoError(t, cfg.Gates.Set("ManifestWorkReplicaSet=true,ClusterProfile=true,CleanUpCompletedManifestWork=true,PlacementDebugServer=true,SIGPlacementDecision=true"))
	require.Empty(t, cfg.Gates.Unheeded(heeded()...))
}

// Every bad value is reported with its flag, the value and what is allowed.
func TestConfig_bad_flags(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*Config)
		want   []string
	}{
		"listen":      {"an address needs a port", func(c *Config) { c.AgentListen = "localhost" }, []string{"--agent-listen", `"localhost"`, ":port"}},
		"port":        {"a port is a number", func(c *Config) { c.AdminListen = ":http" }, []string{"--admin-listen", `":http"`}},
		"http":        {"likewise", func(c *Config) { c.HTTPListen = "x" }, []string{"--http-listen"}},
		"webhook":     {"likewise", func(c *Config) { c.WebhookListen = "9443" }, []string{"--webhook-listen", `"9443"`, ":port"}},
		"half a pair": {"a certificate without its key", func(c *Config) { c.WebhookListen, c.WebhookCert = ":9443", "x" }, []string{"--webhook-cert", "--webhook-key"}},
		"no listener": {"a certificate that nobody sees", func(c *Config) { c.WebhookCert, c.WebhookKey = "x", "y" }, []string{"--webhook-cert", "--webhook-listen"}},
		"endpoint":    {"a name that no certificate can have", func(c *Config) { c.Endpoints = []string{"hub_1"} }, []string{"--endpoints", `"hub_1"`, "DNS name"}},
		"half a PKI":  {"the three files belong together", func(c *Config) { c.TLSCert = "x" }, []string{"--tls-cert", "--tls-key", "--agent-client-ca"}},
		"auth":        {"there are two ways", func(c *Config) { c.AgentAuth = "token" }, []string{"--agent-auth", `"token"`, "enrollment or certificate"}},
		"own CA auth": {"c11: never beside the hub's own CA", func(c *Config) { c.AgentAuth = AuthCertificate }, []string{"--agent-auth=certificate", "own PKI"}},
		"short": {"a lifetime below the least", func(c *Config) { c.CertificateLifetime = time.Minute }, []string{
			"--certificate-lifetime", `"1m0s"`, "1h0m0s", "168h0m0s",
		}},
		"long":       {"a lifetime above a week", func(c *Config) { c.CertificateLifetime = 1000 * time.Hour }, []string{"--certificate-lifetime"}},
		"manifests":  {"Decision 14", func(c *Config) { c.ManifestLimit = 1 << 20 }, []string{"--manifest-limit", `"1048576"`, "983040"}},
		"controller": {"an unknown one", func(c *Config) { c.Controllers = "*,-leese" }, []string{"--controllers", "leese", "lease"}},
		"namespace":  {"not a namespace", func(c *Config) { c.Namespace = "Hub" }, []string{"--namespace", `"Hub"`}},
		"hub id":     {"not a name", func(c *Config) { c.HubID = "a/b" }, []string{"--hub-id", `"a/b"`}},
		"replica":    {"not a name", func(c *Config) { c.Replica = "A" }, []string{"--replica"}},
		"drain":      {"longer than a pod is given", func(c *Config) { c.DrainTime = time.Hour }, []string{"--drain-time", `"1h0m0s"`, "25s"}},
		"negative":   {"no negative limit", func(c *Config) { c.MaxConnectionsPerSource = -1 }, []string{"--max-connections-per-source"}},
		"all at once": {"everything that is wrong is said", func(c *Config) { c.Namespace, c.AgentAuth = "Hub", "x" }, []string{
			"--namespace", "--agent-auth",
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			cfg := Default()
			tc.change(&cfg)
			err := cfg.Validate()
			for _, part := range tc.want {
				require.ErrorContains(t, err, part, tc.reason)
			}
		})
	}
}

func TestConfig_names(t *testing.T) {
	cfg := Default()
	cfg.Endpoints = []string{"hub.example.org", "192.0.2.1:9443"}
	cfg.AdminListen = "10.0.0.1:8444"
	require.Subset(t, cfg.servingNames(), []string{"hub.example.org", "192.0.2.1", "localhost", "127.0.0.1", "10.0.0.1"})
	require.Equal(t, []string{"hub.example.org:8443", "192.0.2.1:9443"}, cfg.publicEndpoints("[::]:8443"), "the port of the listener where none is given")
	cfg.Endpoints = nil
	require.Equal(t, []string{"10.0.0.2:1234"}, cfg.publicEndpoints("10.0.0.2:1234"))
	require.NotContains(t, cfg.publicEndpoints("[::]:1234")[0], "::", "nobody can dial the unspecified address")
	cfg.Kubeconfig = "/does/not/exist"
	_, err := New(cfg)
	require.ErrorContains(t, err, "--kubeconfig", "a missing kubeconfig is named")
}
