// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ocmfeature "open-cluster-management.io/api/feature"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/server/controller/cleanup"
)

// How agents are authenticated.
const (
	// AuthEnrollment serves agents that enrolled: their certificate is one that
	// the hub recorded, for a cluster that somebody accepted.
	AuthEnrollment = "enrollment"
	// AuthCertificate serves any certificate of the operator's own CA whose
	// subject names an agent, without a ManagedCluster.
	AuthCertificate = "certificate"
)

// Config is everything that a hub is told. Every field has a flag of `hub
// serve`, named in Validate's errors. Start from Default.
type Config struct {
	// Kubeconfig is the file of the hub's apiserver; empty means in-cluster, or
	// what KUBECONFIG says. REST, if set, is used instead.
	Kubeconfig string
	REST       *rest.Config
	Namespace  string

	AgentListen string
	AdminListen string
	HTTPListen  string // empty: none
	// WebhookListen is where the apiserver calls the admission webhooks; empty:
	// nowhere.
	WebhookListen string
	// AdvertiseAdmin is where other replicas reach the admin listener (host:port);
	// empty for where it listens.
	AdvertiseAdmin string
	// Endpoints are the public host:port (or host) of the agent listener: the
	// names in its certificate and in join strings.
	Endpoints []string

	// TLSCert, TLSKey and AgentClientCA bring the operator's own PKI; all or none.
	TLSCert       string
	TLSKey        string
	AgentClientCA string
	AgentAuth     string
	// WebhookCert and WebhookKey bring the operator's own certificate of the
	// webhooks; whoever brings it tells the apiserver its authority too.
	WebhookCert string
	WebhookKey  string

	CertificateLifetime    time.Duration
	MinCertificateLifetime time.Duration

	InstallCRDs bool
	// Controllers selects by name: "*", "*,-lease", "registration".
	Controllers string
	Gates       *feature.Gates
	LeaderElect bool
	// CleanUpResources are deleted, in this order, from the namespace of a cluster
	// that leaves, as group/version/resource; with gate ResourceCleanup.
	CleanUpResources []string
	// AutoApprovalUsers are let in without a pairing code: the clusters that
	// enroll with a join token made by one of them; with gate
	// ManagedClusterAutoApproval. Names are compared whole.
	AutoApprovalUsers []string
	// Labels are put on what the controllers make for a cluster.
	Labels map[string]string
	HubID  string
	// Replica names this process among the hub's replicas; the host name and a
	// random part by default.
	Replica string

	ManifestLimit       int
	OrphanGrace         time.Duration
	ClusterLeaseRefresh time.Duration
	// HeartbeatInterval replaces the one that follows from a cluster's
	// leaseDurationSeconds; 0 keeps that. For tests.
	HeartbeatInterval time.Duration
	// PKIRefresh is how often the files of the operator's own PKI are read again; 0
	// is each 30 s. For tests, without a flag.
	PKIRefresh              time.Duration
	MaxConnectionsPerSource int
	// DrainTime is over how long agents are asked to leave at shutdown.
	DrainTime time.Duration

	// Clock is what agents' certificates and the hub's own are made and judged by;
	// nil is the machine's. For tests.
	Clock clock.WithTicker
	Log   *slog.Logger
}

// Default is a hub as most people want it.
func Default() Config {
	return Config{
		Namespace:               identity.HubNamespace,
		AgentListen:             ":8443",
		AdminListen:             "127.0.0.1:8444",
		HTTPListen:              "127.0.0.1:8080",
		AgentAuth:               AuthEnrollment,
		CertificateLifetime:     24 * time.Hour,
		MinCertificateLifetime:  time.Hour,
		Controllers:             "*",
		Gates:                   feature.Hub(),
		CleanUpResources:        cleanup.DefaultResources(),
		LeaderElect:             true,
		ManifestLimit:           wire.DefaultManifestLimit,
		OrphanGrace:             time.Hour,
		ClusterLeaseRefresh:     time.Hour,
		MaxConnectionsPerSource: 2000,
		DrainTime:               20 * time.Second,
		Log:                     slog.Default(),
	}
}

// Limits of what may be configured.
const (
	maxManifestLimit       = 960 << 10
	maxCertificateLifetime = 7 * 24 * time.Hour
	maxDrain               = 25 * time.Second
)

// Validate reports everything that is wrong at once: which flag, what it was
// set to, and what is allowed.
func (c *Config) Validate() error {
	return errors.Join(slices.Concat(c.checkListeners(), c.checkPKI(), c.checkDurations(), c.checkNames())...)
}

func (c *Config) checkListeners() (problems []error) {
	for flag, address := range map[string]string{"agent-listen": c.AgentListen, "admin-listen": c.AdminListen, "http-listen": c.HTTPListen, "webhook-listen": c.WebhookListen} {
		if (flag == "http-listen" || flag == "webhook-listen") && address == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(address); err != nil || !isPort(port) {
			problems = append(problems, bad(flag, address, "host:port or :port"))
		}
	}
	if !isReachable(c.AdvertiseAdmin) {
		problems = append(problems, bad("advertise-admin-address", c.AdvertiseAdmin, "host:port at which other replicas reach the admin listener"))
	}
	for _, endpoint := range c.Endpoints {
		host, port := splitEndpoint(endpoint)
		if host == "" || (port != "" && !isPort(port)) || (net.ParseIP(host) == nil && len(validation.IsDNS1123Subdomain(host)) > 0) {
			problems = append(problems, bad("endpoints", endpoint, "a DNS name or IP address at which agents reach the hub, with or without :port"))
		}
	}
	if c.MaxConnectionsPerSource < 0 {
		problems = append(problems, bad("max-connections-per-source", strconv.Itoa(c.MaxConnectionsPerSource), "0 (no limit) or more"))
	}
	return problems
}

func (c *Config) checkPKI() (problems []error) {
	files := []string{c.TLSCert, c.TLSKey, c.AgentClientCA}
	own := slices.ContainsFunc(files, func(f string) bool { return f != "" })
	if own && slices.Contains(files, "") {
		problems = append(problems, errors.New("--tls-cert, --tls-key and --agent-client-ca belong together: set all three (your own PKI) or none (the hub makes its own)"))
	}
	switch {
	case (c.WebhookCert == "") != (c.WebhookKey == ""):
		problems = append(problems, errors.New("--webhook-cert and --webhook-key belong together: set both (your own certificate) or none (the hub makes its own)"))
	case c.WebhookCert != "" && c.WebhookListen == "":
		problems = append(problems, errors.New("--webhook-cert is of no use without --webhook-listen, which says where webhooks are served, as :9443"))
	}
	switch {
	case c.AgentAuth != AuthEnrollment && c.AgentAuth != AuthCertificate:
		problems = append(problems, bad("agent-auth", c.AgentAuth, AuthEnrollment+" or "+AuthCertificate))
	case c.AgentAuth == AuthCertificate && !own:
		problems = append(problems, fmt.Errorf("--agent-auth=%s trusts every certificate of a CA, so it needs your own PKI (--tls-cert, --tls-key, --agent-client-ca); beside the hub's own CA use %s", AuthCertificate, AuthEnrollment))
	}
	if c.MinCertificateLifetime <= 0 {
		problems = append(problems, bad("min-certificate-lifetime", c.MinCertificateLifetime.String(), "more than 0"))
	}
	if c.CertificateLifetime < c.MinCertificateLifetime || c.CertificateLifetime > maxCertificateLifetime {
		problems = append(problems, bad("certificate-lifetime", c.CertificateLifetime.String(),
			fmt.Sprintf("from --min-certificate-lifetime (%v) to %v", c.MinCertificateLifetime, maxCertificateLifetime)))
	}
	return problems
}

func (c *Config) checkDurations() (problems []error) {
	for _, d := range []struct {
		flag     string
		value    time.Duration
		min, max time.Duration
	}{
		{"orphan-grace", c.OrphanGrace, 0, 30 * 24 * time.Hour},
		{"cluster-lease-refresh", c.ClusterLeaseRefresh, time.Second, 24 * time.Hour},
		{"heartbeat-interval", c.HeartbeatInterval, 0, time.Minute},
		{"drain-time", c.DrainTime, 0, maxDrain},
	} {
		if d.value < d.min || d.value > d.max {
			problems = append(problems, bad(d.flag, d.value.String(), fmt.Sprintf("from %v to %v", d.min, d.max)))
		}
	}
	if c.ManifestLimit < 1<<10 || c.ManifestLimit > maxManifestLimit {
		problems = append(problems, bad("manifest-limit", strconv.Itoa(c.ManifestLimit), fmt.Sprintf("from 1024 to %d bytes", maxManifestLimit)))
	}
	return problems
}

func (c *Config) checkNames() (problems []error) {
	if len(validation.IsDNS1123Label(c.Namespace)) > 0 {
		problems = append(problems, bad("namespace", c.Namespace, "a Kubernetes namespace: lower-case letters, digits and '-', at most 63"))
	}
	if c.HubID != "" && len(validation.IsDNS1123Subdomain(c.HubID)) > 0 {
		problems = append(problems, bad("hub-id", c.HubID, "lower-case letters, digits, '-' and '.'"))
	}
	if c.Replica != "" && len(validation.IsDNS1123Subdomain(c.Replica)) > 0 {
		problems = append(problems, bad("replica", c.Replica, "lower-case letters, digits, '-' and '.'"))
	}
	if _, err := cleanup.ParseResources(c.CleanUpResources); err != nil {
		problems = append(problems, fmt.Errorf("--gc-resource-list: %w", err))
	}
	if len(c.AutoApprovalUsers) > 0 && !c.Gates.Enabled(ocmfeature.ManagedClusterAutoApproval) {
		problems = append(problems, fmt.Errorf("--cluster-auto-approval-users=%s needs --feature-gates=%s=true", strings.Join(c.AutoApprovalUsers, ","), ocmfeature.ManagedClusterAutoApproval))
	}
	if _, err := controller.Select(c.Controllers); err != nil {
		problems = append(problems, err)
	}
	return problems
}

// ownPKI says whether certificates come from files.
func (c *Config) ownPKI() bool { return c.TLSCert != "" }

// servingNames are the names that the hub's own certificate is made for.
func (c *Config) servingNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && len(validation.IsDNS1123Subdomain(host)) == 0 {
		names = append(names, host)
	}
	for _, address := range []string{c.AgentListen, c.AdminListen, c.AdvertiseAdmin, c.WebhookListen} {
		if host, _, err := net.SplitHostPort(address); err == nil && host != "" && !isUnspecified(host) {
			names = append(names, host)
		}
	}
	for _, endpoint := range c.Endpoints {
		host, _ := splitEndpoint(endpoint)
		names = append(names, host)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// publicEndpoints are the host:port that join strings carry: what the hub was
// told, with the listener's port where none was given; else where it listens.
func (c *Config) publicEndpoints(bound string) []string {
	host, port, err := net.SplitHostPort(bound)
	if err != nil {
		return c.Endpoints
	}
	var endpoints []string
	for _, endpoint := range c.Endpoints {
		name, own := splitEndpoint(endpoint)
		endpoints = append(endpoints, net.JoinHostPort(name, cmp.Or(own, port)))
	}
	if len(endpoints) > 0 {
		return endpoints
	}
	if isUnspecified(host) {
		host, err = os.Hostname()
		if err != nil {
			host = "localhost"
		}
	}
	return []string{net.JoinHostPort(host, port)}
}

// adminAddress is where other replicas reach the admin listener: what the hub
// was told; else where it listens, on this machine's own address when it listens
// on all of them.
func (c *Config) adminAddress(bound string) string {
	if c.AdvertiseAdmin != "" {
		return c.AdvertiseAdmin
	}
	host, port, err := net.SplitHostPort(bound)
	if err != nil || !isUnspecified(host) {
		return bound
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return bound
	}
	for _, address := range addresses {
		if ip, ok := address.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			return net.JoinHostPort(ip.IP.String(), port)
		}
	}
	return bound
}

func splitEndpoint(endpoint string) (host, port string) {
	if host, port, err := net.SplitHostPort(endpoint); err == nil {
		return host, port
	}
	return endpoint, ""
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n <= 65535
}

// isReachable tells whether an address, if there is one, is host:port of one host.
func isReachable(address string) bool {
	if address == "" {
		return true
	}
	host, port, err := net.SplitHostPort(address)
	return err == nil && host != "" && !isUnspecified(host) && isPort(port)
}

func isUnspecified(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsUnspecified()
}

func bad(flag, value, allowed string) error {
	return fmt.Errorf("--%s=%q: want %s", flag, value, allowed)
}
