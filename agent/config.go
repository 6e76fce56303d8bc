// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/agent/store"
	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/agent/work/feedback"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Where the agent keeps what it received, and its credentials.
const (
	StoreAuto    = "auto"    // files with --data-dir, else Secrets
	StoreSecrets = "secrets" // Secrets in --namespace on the spoke
	StoreFiles   = "files"   // files in --data-dir
)

// Controllers that --controllers knows.
const (
	ControllerWork    = "work"
	ControllerCluster = "cluster"
)

// maxClaims leaves room for reserved names in what the hub takes.
const maxClaims = 150

// Config is everything that can be set. Start from Default.
type Config struct {
	// Join is a join string: how to find the hub, recognise it, and be let in.
	Join string
	// JoinFile has a join string, now or later; what is put there is used at once.
	JoinFile string
	// Endpoints, HubCA, ClientCert and ClientKey are the other way: a hub's
	// host:port and files that somebody else keeps.
	Endpoints                    []string
	HubCA, ClientCert, ClientKey string
	// ProxyURL and ProxyCAFile say how the hub is reached, enrolling and afterwards
	// alike: see dialer.Config. The spoke's apiserver is not reached that way.
	ProxyURL, ProxyCAFile string
	// ClusterName is the name under which the hub knows this spoke.
	ClusterName string

	// Kubeconfig is that of the spoke; empty is KUBECONFIG, then in-cluster.
	Kubeconfig string
	// REST, if set, is used in place of Kubeconfig.
	REST      *rest.Config
	Namespace string
	Store     string
	DataDir   string
	// InstallCRDs makes the agent install the CRDs that it needs on the spoke.
	InstallCRDs bool

	// AgentID marks the AppliedManifestWorks of this agent; empty is the hash of
	// the hub's id.
	AgentID            string
	StatusSyncInterval time.Duration
	WorkWorkers        int
	MaxDeleteRate      float64
	// MaxJSONRawLength bounds JSON that is fed back with gate RawFeedbackJsonString.
	MaxJSONRawLength int
	// MaxFeedbackWatch is OCM's and has no effect: everything that was applied is watched.
	MaxFeedbackWatch int
	EvictionGrace    time.Duration
	// OnDetach is what becomes of workloads once the hub has removed this cluster
	// on purpose: OnDetachKeep or OnDetachDelete.
	OnDetach string
	// ConsentPeriod and ConsentGrace are how often the agent asks the spoke whether
	// it still has its own rights, and for how long the answer has to be no.
	ConsentPeriod, ConsentGrace time.Duration
	ClusterPeriod               time.Duration
	// MaxClaims bounds the custom claims that are reported; names with an end of
	// ReservedClaimSuffixes are none (RA-35).
	MaxClaims             int
	ReservedClaimSuffixes []string
	Gates                 *feature.Gates
	Controllers           string
	QPS                   float32
	Burst                 int

	// HTTPListen serves /metrics, /livez and /readyz; empty is none.
	HTTPListen string
	Log        *slog.Logger
}

// Default is the configuration of an agent in a cluster, without a hub.
func Default() Config {
	return Config{
		Namespace: identity.AgentNamespace, Store: StoreAuto, InstallCRDs: true,
		StatusSyncInterval: work.DefaultStatusSyncInterval, WorkWorkers: work.DefaultWorkers, MaxDeleteRate: work.DefaultMaxDeleteRate, MaxJSONRawLength: feedback.DefaultRawLength, MaxFeedbackWatch: 50,
		EvictionGrace: store.DefaultGrace, ClusterPeriod: time.Minute, MaxClaims: 20,
		OnDetach: OnDetachKeep, ConsentPeriod: ConsentPeriod, ConsentGrace: ConsentGrace,
		Gates: feature.Agent(), Controllers: "*", QPS: work.DefaultQPS, Burst: work.DefaultBurst,
		HTTPListen: "127.0.0.1:8081", Log: slog.Default(),
	}
}

// ownFiles tells whether the identity comes from files of somebody else.
func (c *Config) ownFiles() bool { return c.ClientCert != "" || c.ClientKey != "" || c.HubCA != "" }

// storeKind resolves StoreAuto.
func (c *Config) storeKind() string {
	switch {
	case c.Store != StoreAuto:
		return c.Store
	case c.DataDir != "":
		return StoreFiles
	}
	return StoreSecrets
}

// Validate says what is wrong, all of it at once, and what to do about it.
func (c *Config) Validate() error {
	errs := []error{c.validateHub(), c.validateStore()}
	if c.ClusterName != "" {
		if err := identity.ValidateClusterName(c.ClusterName); err != nil {
			errs = append(errs, fmt.Errorf("%s: --cluster-name: %w", reason.InvalidName, err))
		}
	}
	if c.AgentID != "" {
		if err := identity.ValidateAgentName(c.AgentID); err != nil {
			errs = append(errs, fmt.Errorf("--agent-id: %w", err))
		}
	}
	if _, err := c.controllers(); err != nil {
		errs = append(errs, err)
	}
	if c.OnDetach != OnDetachKeep && c.OnDetach != OnDetachDelete {
		errs = append(errs, fmt.Errorf("--on-detach=%q: want %s or %s", c.OnDetach, OnDetachKeep, OnDetachDelete))
	}
	if c.WorkWorkers <= 0 {
		errs = append(errs, fmt.Errorf("--workload-agent-workers=%d: want more than 0", c.WorkWorkers))
	}
	if !(c.MaxDeleteRate >= 0) {
		errs = append(errs, fmt.Errorf("--max-delete-rate=%g: want works a second, or 0 for no limit", c.MaxDeleteRate))
	}
	if c.MaxClaims <= 0 || c.MaxClaims > maxClaims {
		errs = append(errs, fmt.Errorf("--max-custom-cluster-claims=%d: want 1 to %d", c.MaxClaims, maxClaims))
	}
	if c.MaxJSONRawLength <= 0 {
		errs = append(errs, fmt.Errorf("--max-json-raw-length=%d: want more than 0", c.MaxJSONRawLength))
	}
	for flag, d := range map[string]time.Duration{
		"status-sync-interval": c.StatusSyncInterval, "appliedmanifestwork-eviction-grace-period": c.EvictionGrace, "cluster-healthcheck-period": c.ClusterPeriod,
	} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("--%s=%s: want more than 0", flag, d))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) validateHub() error {
	if c.JoinFile != "" && (c.Join != "" || c.ownFiles()) {
		return errors.New("--join-file excludes --join and --client-cert: give one of them")
	}
	if !c.ownFiles() {
		if len(c.Endpoints) > 0 {
			return errors.New("--hub is for agents with their own certificate: give --hub-ca, --client-cert and --client-key too, or --join instead")
		}
		return nil
	}
	if c.Join != "" {
		return errors.New("--join and --client-cert exclude each other: a join string makes the agent get a certificate by itself")
	}
	missing := slices.DeleteFunc([]string{"hub", "hub-ca", "client-cert", "client-key", "cluster-name"}, func(flag string) bool {
		return map[string]bool{
			"hub": len(c.Endpoints) > 0, "hub-ca": c.HubCA != "", "client-cert": c.ClientCert != "", "client-key": c.ClientKey != "", "cluster-name": c.ClusterName != "",
		}[flag]
	})
	if len(missing) > 0 {
		return fmt.Errorf("an agent with its own certificate needs --%s too", strings.Join(missing, ", --"))
	}
	for _, endpoint := range c.Endpoints {
		if err := pki.ValidateEndpoint(endpoint); err != nil {
			return fmt.Errorf("--hub: %w", err)
		}
	}
	return nil
}

func (c *Config) validateStore() error {
	switch c.Store {
	case StoreAuto, StoreSecrets:
		return nil
	case StoreFiles:
		if c.DataDir == "" {
			return errors.New("--store=files needs --data-dir")
		}
		return nil
	}
	return fmt.Errorf("--store=%q: want %s, %s or %s", c.Store, StoreAuto, StoreSecrets, StoreFiles)
}

// controllers reads Controllers as Kubernetes does: * for all, name to add,
// -name to leave out.
func (c *Config) controllers() (map[string]bool, error) {
	known := []string{ControllerCluster, ControllerWork}
	on, all := map[string]bool{}, false
	for part := range strings.SplitSeq(c.Controllers, ",") {
		part = strings.TrimSpace(part)
		name := strings.TrimPrefix(part, "-")
		switch {
		case part == "":
		case part == "*":
			all = true
		case !slices.Contains(known, name):
			return nil, fmt.Errorf("--controllers=%q: there is no %q; known: %s", c.Controllers, name, strings.Join(known, ", "))
		default:
			on[name] = name == part
		}
	}
	for _, name := range known {
		if _, said := on[name]; !said {
			on[name] = all
		}
	}
	return on, nil
}
