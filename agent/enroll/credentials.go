// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/failpoint"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// When a certificate is renewed if the hub does not say: between these parts of
// its life.
const (
	renewFrom  = 0.6
	renewUntil = 0.7
)

// reloadTimeout bounds how long a vault that does not answer delays a dial.
const reloadTimeout = 2 * time.Second

// Credentials are an identity that the hub has confirmed. They follow renewals
// and newer roots while they are in use. Safe for concurrent use.
type Credentials struct {
	vault  Vault
	log    *slog.Logger
	tls    *pki.Client
	saving chan struct{} // held by the one who changes the record

	mu     sync.Mutex
	record Record
	leaf   *x509.Certificate
	next   crypto.Signer // the key of a renewal that was not answered yet
}

// newCredentials takes a record whose certificate was checked.
func newCredentials(vault Vault, log *slog.Logger, record Record) (*Credentials, error) {
	cert, err := keyPair(record.Certificate, record.Key)
	if err != nil {
		return nil, err
	}
	roots, err := pki.ParseCertificates(record.CAs)
	if err != nil {
		return nil, fmt.Errorf("the roots of the hub: %w", err)
	}
	c := &Credentials{vault: vault, log: log, saving: make(chan struct{}, 1), tls: pki.NewClient(pki.Trust{Roots: roots}), record: record, leaf: cert.Leaf}
	c.tls.SetCertificate(cert)
	return c, nil
}

func keyPair(chain, key []byte) (*tls.Certificate, error) {
	certs, err := pki.ParseCertificates(chain)
	if err != nil {
		return nil, err
	}
	signer, err := pki.ParseKey(key)
	if err != nil {
		return nil, err
	}
	if !sameKey(certs[0].PublicKey, signer) {
		return nil, fmt.Errorf("the certificate of %q is not for the key beside it", certs[0].Subject.CommonName)
	}
	out := &tls.Certificate{PrivateKey: signer, Leaf: certs[0]}
	for _, cert := range certs {
		out.Certificate = append(out.Certificate, cert.Raw)
	}
	return out, nil
}

func sameKey(public crypto.PublicKey, signer crypto.Signer) bool {
	p, ok := public.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && p.Equal(signer.Public())
}

// Cluster is the name under which the hub knows this spoke.
func (c *Credentials) Cluster() string { return c.snapshot().ClusterName }

// AgentName is the agent's own name within the cluster.
func (c *Credentials) AgentName() string { return c.snapshot().AgentName }

// HubID is the hub that confirmed the identity; empty where that is not known.
func (c *Credentials) HubID() string { return c.snapshot().HubID }

// Endpoints are host:port of that hub.
func (c *Credentials) Endpoints() []string { return c.snapshot().Endpoints }

// TrustVersion is the version of the hub's roots that is kept.
func (c *Credentials) TrustVersion() uint64 { return c.snapshot().TrustVersion }

// NotAfter is when the certificate expires.
func (c *Credentials) NotAfter() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaf.NotAfter
}

// Serial is the certificate's serial number, as the hub records it.
func (c *Credentials) Serial() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return pki.Serial(c.leaf)
}

// RenewAt is when it is to be renewed.
func (c *Credentials) RenewAt() time.Time { return c.snapshot().RenewAfter }

func (c *Credentials) snapshot() Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record
}

// TLS returns the configuration for one endpoint, or an *Error when the
// certificate has expired: the hub would only break off the handshake. It reads
// the vault first: a sibling that has the same one may have renewed, and to show
// the hub an older certificate would raise an alarm there.
func (c *Credentials) TLS(endpoint string) (*tls.Config, error) {
	ctx, cancel := context.WithTimeout(context.Background(), reloadTimeout)
	defer cancel()
	c.reload(ctx)
	if at := c.NotAfter(); !time.Now().Before(at) {
		return nil, problem(reason.CertificateExpired, nil, "the agent's certificate expired at %s", at.UTC().Format(time.RFC3339))
	}
	return c.tls.TLSConfig(host(endpoint)), nil
}

// reload puts in force what the vault has, if that is a newer certificate of the
// same agent. A vault that cannot be read changes nothing.
func (c *Credentials) reload(ctx context.Context) {
	record, err := c.vault.Load(ctx)
	now := c.snapshot()
	if err != nil || bytes.Equal(record.Certificate, now.Certificate) || record.ClusterName != now.ClusterName || record.AgentName != now.AgentName || record.HubID != now.HubID {
		return
	}
	cert, err := keyPair(record.Certificate, record.Key)
	if err != nil {
		return
	}
	roots, err := pki.ParseCertificates(record.CAs)
	if err != nil {
		return
	}
	c.mu.Lock()
	newer := cert.Leaf.NotBefore.After(c.leaf.NotBefore)
	if newer {
		c.record, c.leaf, c.next = record, cert.Leaf, nil
	}
	c.mu.Unlock()
	if newer {
		c.tls.SetTrust(pki.Trust{Roots: roots})
		c.tls.SetCertificate(cert)
		c.log.Info("the vault has a newer certificate", "serial", pki.Serial(cert.Leaf), "notAfter", cert.Leaf.NotAfter)
	}
}

func host(endpoint string) string {
	name, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return endpoint
	}
	return name
}

// Renew gets a certificate for a new key over a connection that the present one
// opened, and stores it; the next handshake uses it. A call that failed is
// repeated with the same key, so a lost reply costs nothing.
func (c *Credentials) Renew(ctx context.Context, conn grpc.ClientConnInterface) error {
	key, record, err := c.nextKey()
	if err != nil {
		return err
	}
	csr, err := pki.NewCSR(key, identity.Subject(record.ClusterName, record.AgentName))
	if err != nil {
		return err
	}
	failpoint.Pass(failpoint.Renew)
	response, err := agentv1.NewAgentServiceClient(conn).RenewCertificate(ctx, &agentv1.RenewCertificateRequest{CsrDer: csr})
	if err != nil {
		c.giveUp(key, answered(err))
		return fmt.Errorf("renewing the certificate: %w", err)
	}
	failpoint.Pass(failpoint.Renew)
	return c.change(ctx, func(now Record) (Record, error) { return takeCertificate(now, key, response.GetCertificate()) })
}

func (c *Credentials) nextKey() (crypto.Signer, Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		return c.next, c.record, nil
	}
	key, err := pki.NewKey()
	c.next = key
	return key, c.record, err
}

// giveUp forgets the key of a renewal that the hub has turned down for good, so
// that the next attempt is another request.
func (c *Credentials) giveUp(key crypto.Signer, why *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if why.Reason == reason.InvalidCSR && c.next == key {
		c.next = nil
	}
}

// change stores what edit makes of the record, then puts it in force. One
// change at a time; readers never wait.
func (c *Credentials) change(ctx context.Context, edit func(Record) (Record, error)) error {
	select {
	case c.saving <- struct{}{}:
		defer func() { <-c.saving }()
	case <-ctx.Done():
		return ctx.Err()
	}
	record, err := edit(c.snapshot())
	if err != nil {
		return err
	}
	cert, err := keyPair(record.Certificate, record.Key)
	if err != nil {
		return err
	}
	roots, err := pki.ParseCertificates(record.CAs)
	if err != nil {
		return err
	}
	if err := c.vault.Save(ctx, record); err != nil {
		return err
	}
	failpoint.Pass(failpoint.Renew)
	c.mu.Lock()
	if pki.Serial(cert.Leaf) != pki.Serial(c.leaf) {
		c.next = nil
	}
	c.record, c.leaf = record, cert.Leaf
	c.mu.Unlock()
	c.tls.SetTrust(pki.Trust{Roots: roots})
	c.tls.SetCertificate(cert)
	c.log.Info("credentials changed", "cluster", record.ClusterName, "serial", pki.Serial(cert.Leaf), "notAfter", cert.Leaf.NotAfter,
		"renewAfter", record.RenewAfter, "trustVersion", record.TrustVersion)
	return nil
}

// Trust stores newer roots of the hub. Older bundles change nothing.
func (c *Credentials) Trust(ctx context.Context, bundle *agentv1.TrustBundle) error {
	if bundle.GetVersion() <= c.TrustVersion() {
		return nil
	}
	return c.change(ctx, func(now Record) (Record, error) { return withTrust(now, bundle) })
}

func withTrust(record Record, bundle *agentv1.TrustBundle) (Record, error) {
	roots := make([]*x509.Certificate, 0, len(bundle.GetHubCaDer()))
	for _, der := range bundle.GetHubCaDer() {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return record, fmt.Errorf("a root in the hub's trust bundle %d: %w", bundle.GetVersion(), err)
		}
		roots = append(roots, root)
	}
	if len(roots) == 0 {
		return record, fmt.Errorf("the hub's trust bundle %d has no roots", bundle.GetVersion())
	}
	record.CAs, record.TrustVersion = pki.EncodeCertificates(roots...), bundle.GetVersion()
	return record, nil
}

// takeCertificate checks what the hub issued against what was asked for, and
// returns the record with it.
func takeCertificate(record Record, key crypto.Signer, issued *agentv1.IssuedCertificate) (Record, error) {
	var certs []*x509.Certificate
	for _, der := range issued.GetChainDer() {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return record, fmt.Errorf("the certificate that the hub issued: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return record, errors.New("the hub sent no certificate")
	}
	leaf := certs[0]
	if err := checkLeaf(record, key, leaf); err != nil {
		return record, err
	}
	raw, err := pki.EncodeKey(key)
	if err != nil {
		return record, err
	}
	record.Certificate, record.Key, record.PendingKey = pki.EncodeCertificates(certs...), raw, nil
	record.RenewAfter = renewAfter(leaf, issued)
	if bundle := issued.GetTrustBundle(); bundle.GetVersion() > record.TrustVersion {
		return withTrust(record, bundle)
	}
	return record, nil
}

func checkLeaf(record Record, key crypto.Signer, leaf *x509.Certificate) error {
	agent, err := identity.ParseCertificate(leaf)
	switch {
	case err != nil:
		return fmt.Errorf("the certificate that the hub issued: %w", err)
	case !sameKey(leaf.PublicKey, key):
		return errors.New("the hub issued a certificate for another key than this agent's")
	case agent.Cluster != record.ClusterName || agent.Name != record.AgentName:
		return fmt.Errorf("the hub issued a certificate for %q, asked was for %q", agent.User(), identity.User(record.ClusterName, record.AgentName))
	case agent.HubID != "" && record.HubID != "" && agent.HubID != record.HubID:
		return fmt.Errorf("the hub issued a certificate of hub %q, this agent enrolled with %q", agent.HubID, record.HubID)
	case !time.Now().Before(leaf.NotAfter):
		return fmt.Errorf("the hub issued a certificate that expired at %s; compare the clocks of hub and spoke", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// renewAfter is when the hub says, or a jittered time in the usual part of the
// certificate's life.
func renewAfter(leaf *x509.Certificate, issued *agentv1.IssuedCertificate) time.Time {
	now := time.Now()
	if at := issued.GetRenewAfter(); at.IsValid() && at.AsTime().After(now) && at.AsTime().Before(leaf.NotAfter) {
		return at.AsTime()
	}
	life := leaf.NotAfter.Sub(now)
	return now.Add(time.Duration(float64(life) * (renewFrom + (renewUntil-renewFrom)*rand.Float64()))) //nolint:gosec // jitter, not a secret
}
