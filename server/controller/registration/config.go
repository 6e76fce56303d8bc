// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"crypto/x509"
	"log/slog"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/identity"
)

const (
	// FieldManager owns what the controllers of this package apply.
	FieldManager = "fairlead-registration"
	// ManagedByLabel marks the RBAC objects that this package makes, so that only
	// these are followed.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedBy is the value of ManagedByLabel.
	ManagedBy = "fairlead"

	defaultPendingTTL = time.Hour
	defaultUnusedTTL  = 24 * time.Hour
)

// Signer makes a cluster agent's certificate. The request has passed
// pki.CheckCSR, was made by the hub for that very key, and is approved; id is
// complete (hub-id and ManagedCluster UID included). The result is the leaf and
// its issuers, leaf first, in PEM. An error that wraps a *pki.CSRError refuses
// the request for good; any other is tried again.
type Signer interface {
	Sign(csr *x509.CertificateRequest, id identity.Agent) (chainPEM []byte, err error)
}

// SignerFunc is a function that is a Signer.
type SignerFunc func(csr *x509.CertificateRequest, id identity.Agent) ([]byte, error)

// Sign implements Signer.
func (f SignerFunc) Sign(csr *x509.CertificateRequest, id identity.Agent) ([]byte, error) {
	return f(csr, id)
}

// Config is what both controllers of this package need.
type Config struct {
	// HubNamespace is where the ServiceAccount lives that asks for certificates
	// on behalf of agents. Default identity.HubNamespace.
	HubNamespace string
	// Labels are added to namespaces and RBAC objects of clusters.
	Labels map[string]string
	// Signer signs approved requests. nil leaves that to an external signer.
	Signer Signer
	// ClientCAs are the authorities whose certificates open a session. One that
	// chains to none of them is never recorded, whoever signed it.
	ClientCAs func() *x509.CertPool
	// PendingTTL is how long an enrollment waits for a person. Default 1 h.
	PendingTTL time.Duration
	// UnusedTTL is how long a first certificate may stay unused. Default 24 h.
	UnusedTTL time.Duration
	// Clock is the hub's clock. Default the real one.
	Clock clock.PassiveClock
	// Log gets one line for each decision. Default slog.Default().
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.HubNamespace == "" {
		c.HubNamespace = identity.HubNamespace
	}
	if c.PendingTTL == 0 {
		c.PendingTTL = defaultPendingTTL
	}
	if c.UnusedTTL == 0 {
		c.UnusedTTL = defaultUnusedTTL
	}
	if c.ClientCAs == nil {
		c.ClientCAs = x509.NewCertPool
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// requester is the only user whose certificate requests count.
func (c Config) requester() string {
	return "system:serviceaccount:" + c.HubNamespace + ":" + identity.GRPCServerServiceAccount
}

// CacheOptions keeps out of memory what these controllers never look at.
func CacheOptions() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&certificatesv1.CertificateSigningRequest{}: {
			Field: fields.OneTermEqualSelector("spec.signerName", identity.SignerName),
		},
	}
}
