// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/pki"
)

// Purpose says what an authority signs. They are apart so that an agent's
// certificate can never verify as a server.
type Purpose string

// The authorities.
const (
	AgentClient Purpose = "agent-client"
	HubServing  Purpose = "hub-serving"
	Webhook     Purpose = "webhook"
)

// Labels and annotations of authority Secrets.
const (
	AuthorityLabel  = "fairlead.dev/authority"
	PhaseLabel      = "fairlead.dev/phase"
	PhaseActive     = "active"
	HubIDAnnotation = "fairlead.dev/hub-id"

	secretPrefix = "fairlead-ca-"
	caLifetime   = 10 * 365 * 24 * time.Hour
)

// Config is what the authorities need. Client must not read from a cache.
type Config struct {
	Client    client.Client
	Namespace string
	Hub       Hub
	// ServingNames are the DNS names and IP addresses that the hub's certificate
	// is valid for.
	ServingNames []string
	// ServingLifetime is how long one serving certificate lives; 0 means 30 days.
	// It is replaced when a third of its life is left.
	ServingLifetime time.Duration
	// CertificateLifetime is how long agents' certificates live; 0 means 24 h. It
	// must lie between MinCertificateLifetime (0 means 1 h) and 7 days.
	CertificateLifetime    time.Duration
	MinCertificateLifetime time.Duration
	// FileRefresh is how often Files are read again; 0 means 30 s.
	FileRefresh time.Duration
	Clock       clock.WithTicker
	Log         *slog.Logger
}

const (
	defaultServingLifetime     = 30 * 24 * time.Hour
	defaultCertificateLifetime = 24 * time.Hour
	defaultMinLifetime         = time.Hour
	defaultFileRefresh         = 30 * time.Second
	maxCertificateLifetime     = 7 * 24 * time.Hour
)

func (cfg Config) withDefaults() (Config, error) {
	if cfg.ServingLifetime == 0 {
		cfg.ServingLifetime = defaultServingLifetime
	}
	if cfg.CertificateLifetime == 0 {
		cfg.CertificateLifetime = defaultCertificateLifetime
	}
	if cfg.MinCertificateLifetime == 0 {
		cfg.MinCertificateLifetime = defaultMinLifetime
	}
	if cfg.FileRefresh == 0 {
		cfg.FileRefresh = defaultFileRefresh
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if l := cfg.CertificateLifetime; l < cfg.MinCertificateLifetime || l > maxCertificateLifetime {
		return cfg, fmt.Errorf("agent certificates of %v: want between %v and %v", l, cfg.MinCertificateLifetime, maxCertificateLifetime)
	}
	return cfg, nil
}

// Authorities are the hub's authorities in use. Safe for concurrent use.
type Authorities struct {
	cfg         Config
	server      *pki.Server
	signer      *Signer // nil with an external PKI
	servingCA   *pki.CA // nil with an external PKI
	files       *Files  // nil with our own PKI
	fileContent string  // what Run last loaded; only Run touches it
}

// New reads the authorities from their Secrets, and makes them on the first
// start. Of several replicas starting at once, all get the same ones.
func New(ctx context.Context, cfg Config) (*Authorities, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	agentCA, _, err := ensureAuthority(ctx, cfg, AgentClient)
	if err != nil {
		return nil, err
	}
	servingCA, _, err := ensureAuthority(ctx, cfg, HubServing)
	if err != nil {
		return nil, err
	}
	a := &Authorities{
		cfg:       cfg,
		servingCA: servingCA,
		signer:    &Signer{ca: agentCA, lifetime: cfg.CertificateLifetime, min: cfg.MinCertificateLifetime, hubID: cfg.Hub.ID},
	}
	serving, err := servingCA.IssueServing(cfg.ServingNames, cfg.Clock.Now(), cfg.ServingLifetime)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(agentCA.Cert)
	a.server = pki.NewServer(pki.ServerState{Certificate: serving, ClientCAs: pool}).By(cfg.Clock.Now)
	return a, nil
}

// ensureAuthority reads one authority, or makes it. made is when that was.
func ensureAuthority(ctx context.Context, cfg Config, purpose Purpose) (authority *pki.CA, made time.Time, err error) {
	fresh, err := pki.NewCA("fairlead "+string(purpose)+" "+cfg.Hub.ID, cfg.Clock.Now(), caLifetime)
	if err != nil {
		return nil, made, err
	}
	certPEM, keyPEM, err := fresh.Encode()
	if err != nil {
		return nil, made, err
	}
	secret, err := ensureSecret(ctx, cfg.Client, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:        secretPrefix + string(purpose),
			Namespace:   cfg.Namespace,
			Labels:      map[string]string{AuthorityLabel: string(purpose), PhaseLabel: PhaseActive},
			Annotations: map[string]string{HubIDAnnotation: cfg.Hub.ID},
		},
		Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: certPEM, corev1.TLSPrivateKeyKey: keyPEM},
	})
	if err != nil {
		return nil, made, err
	}
	if id := secret.Annotations[HubIDAnnotation]; id != cfg.Hub.ID {
		return nil, made, fmt.Errorf("secret %s/%s is the authority of hub %q, and this hub is %q; restore the ConfigMap %s with that id, or remove the Secret to cut off every agent of it",
			cfg.Namespace, secret.Name, id, cfg.Hub.ID, HubConfigMap)
	}
	authority, err = pki.ParseCA(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, made, fmt.Errorf("secret %s/%s: %w", cfg.Namespace, secret.Name, err)
	}
	return authority, secret.CreationTimestamp.Time, nil
}

// Server is the TLS state to serve the agent listener with; it stays the same
// object while certificates in it are replaced.
func (a *Authorities) Server() *pki.Server { return a.server }

// Signer signs agents' certificates; nil when they come from an external PKI.
func (a *Authorities) Signer() *Signer { return a.signer }

// TrustBundle is what agents need to verify the hub, with its version.
func (a *Authorities) TrustBundle() (version uint64, roots []*x509.Certificate) {
	if a.servingCA != nil {
		return 1, []*x509.Certificate{a.servingCA.Cert}
	}
	return 1, []*x509.Certificate{a.presentedRoot()}
}

// RootSHA256 is the pin for join strings: the SHA-256 of the root that the hub
// presents, in hex.
func (a *Authorities) RootSHA256() string {
	_, roots := a.TrustBundle()
	return fmt.Sprintf("%x", pki.Fingerprint(roots[0]))
}

// presentedRoot is the last certificate of the chain that the hub presents.
func (a *Authorities) presentedRoot() *x509.Certificate {
	chain := a.server.State().Certificate.Certificate
	root, err := x509.ParseCertificate(chain[len(chain)-1])
	if err != nil {
		return a.server.State().Certificate.Leaf // it was parsed when it was loaded
	}
	return root
}

// IssueServing makes a certificate of the hub's serving authority for another
// listener of the hub (such as the admin listener).
func (a *Authorities) IssueServing(names []string) (*tls.Certificate, error) {
	if a.servingCA == nil {
		return nil, errors.New("the hub has no serving authority of its own: its certificate was given as files")
	}
	return a.servingCA.IssueServing(names, a.cfg.Clock.Now(), a.cfg.ServingLifetime)
}

// Run keeps the serving certificate fresh (issued anew, or read again from its
// files) until ctx ends.
func (a *Authorities) Run(ctx context.Context) error {
	for {
		timer := a.cfg.Clock.NewTimer(a.untilRefresh())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C():
		}
		if err := a.refresh(); err != nil {
			a.cfg.Log.Error("the hub's serving certificate was not renewed; the old one stays in use", "error", err)
		}
	}
}

const minimumInterval = time.Second

func (a *Authorities) untilRefresh() time.Duration {
	if a.files != nil {
		return a.cfg.FileRefresh
	}
	left := a.server.State().Certificate.Leaf.NotAfter.Sub(a.cfg.Clock.Now())
	return max(left-a.cfg.ServingLifetime/3, minimumInterval)
}

func (a *Authorities) refresh() error {
	if a.files != nil {
		return a.reloadFiles()
	}
	serving, err := a.servingCA.IssueServing(a.cfg.ServingNames, a.cfg.Clock.Now(), a.cfg.ServingLifetime)
	if err != nil {
		return err
	}
	state := a.server.State()
	state.Certificate = serving
	a.server.Set(state)
	a.cfg.Log.Info("the hub's serving certificate was renewed", "notAfter", serving.Leaf.NotAfter, "serial", pki.Serial(serving.Leaf))
	return nil
}
