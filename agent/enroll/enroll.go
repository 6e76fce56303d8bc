// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Config is what an Enroller needs.
type Config struct {
	Vault Vault
	Log   *slog.Logger
	// Join is a join string. It may be empty when the vault has a certificate.
	Join string
	// ClusterName is the name to join under; empty takes that of the vault, or of
	// the join string.
	ClusterName string
	// AgentName is the agent's own name; empty takes that of the vault, or a
	// random one.
	AgentName string
	// Fingerprint, AgentID and Version are told to the hub.
	Fingerprint, AgentID, Version string
	// Waiting is called when the request is made and a person on the hub has to
	// accept it. May be nil.
	Waiting func(Request)
	// Dial replaces the network, for tests. Nil is TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Request is a request to join that waits for a person.
type Request struct {
	Cluster      string
	EnrollmentID string
	PairingCode  string
	HubID        string
}

// How long the agent waits between attempts.
const (
	retryBase = time.Second
	retryMax  = time.Minute
	retryCap  = 5 * time.Minute // of what a hub may ask for
)

// Enroller gets an agent its identity.
type Enroller struct {
	cfg  Config
	join *pki.JoinString // nil without one
	pin  [32]byte
}

// New checks the join string and names, without a word to anybody. Its errors
// are *Error.
func New(cfg Config) (*Enroller, error) {
	e := &Enroller{cfg: cfg}
	if cfg.Join != "" {
		join, err := pki.ParseJoinString(cfg.Join)
		if err != nil {
			return nil, problem(reason.InvalidJoinString, err, "%v", err)
		}
		if e.pin, err = pki.PinFromHex(join.CASHA256); err != nil {
			return nil, problem(reason.InvalidJoinString, err, "%v", err)
		}
		e.join = &join
		if e.cfg.ClusterName == "" {
			e.cfg.ClusterName = join.Name
		}
	}
	if e.cfg.ClusterName != "" {
		if err := identity.ValidateClusterName(e.cfg.ClusterName); err != nil {
			return nil, problem(reason.InvalidName, err, "%v", err)
		}
	}
	if cfg.AgentName != "" {
		if err := identity.ValidateAgentName(cfg.AgentName); err != nil {
			return nil, problem(reason.InvalidName, err, "%v", err)
		}
	}
	if e.cfg.Waiting == nil {
		e.cfg.Waiting = func(Request) {}
	}
	return e, nil
}

// Credentials returns the identity that the vault has, or enrolls: then it
// waits until the hub has issued a certificate, or refuses with an *Error. It
// may be called again after an error.
func (e *Enroller) Credentials(ctx context.Context) (*Credentials, error) {
	record, err := e.cfg.Vault.Load(ctx)
	if err != nil {
		return nil, err
	}
	usable, err := e.usable(record)
	if usable && !e.newToken(record) {
		return newCredentials(e.cfg.Vault, e.cfg.Log, record)
	}
	if e.join == nil || e.spent(record, err) {
		return nil, err
	}
	issued, err := e.enroll(ctx, record)
	if err == nil {
		return newCredentials(e.cfg.Vault, e.cfg.Log, issued)
	}
	if usable && ctx.Err() == nil {
		e.cfg.Log.Error("the new join string did not work; going on with the certificate that is there", "error", err)
		return newCredentials(e.cfg.Vault, e.cfg.Log, record)
	}
	return nil, err
}

// usable tells whether a record has a certificate to go on with, or why not.
func (e *Enroller) usable(record Record) (bool, error) {
	if len(record.Certificate) == 0 {
		return false, problem(reason.InvalidJoinString, nil, "this agent has no certificate and no join string was given (--join or FAIRLEAD_JOIN)")
	}
	if name := e.cfg.ClusterName; name != "" && name != record.ClusterName {
		return false, &Error{
			Reason:  reason.InvalidName,
			Message: fmt.Sprintf("this agent is enrolled as cluster %q, and was started for %q", record.ClusterName, name),
			Advice:  "start it with the name that it has, or remove its credentials to enroll anew",
		}
	}
	cert, err := keyPair(record.Certificate, record.Key)
	if err != nil {
		return false, fmt.Errorf("the stored credentials cannot be used: %w; remove them to enroll anew", err)
	}
	if !time.Now().Before(cert.Leaf.NotAfter) {
		return false, problem(reason.CertificateExpired, nil, "the agent's certificate expired at %s", cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return true, nil
}

// newToken tells whether the join string is another one than the record came
// from: whoever gives a new one wants to join anew.
func (e *Enroller) newToken(record Record) bool {
	return e.join != nil && len(record.Certificate) > 0 && record.TokenID != tokenID(e.join.Token)
}

// spent tells whether the join string is the one that the expired certificate
// came from: its token was used, and asking with it would only hide what is wrong.
func (e *Enroller) spent(record Record, why error) bool {
	return errors.Is(why, &Error{Reason: reason.CertificateExpired}) && record.TokenID == tokenID(e.join.Token)
}

func tokenID(token string) string {
	id, _, _ := strings.Cut(token, ".")
	return id
}

// enroll makes the request and waits for its end, at one endpoint after the
// other. What a crash interrupts goes on with the same key.
func (e *Enroller) enroll(ctx context.Context, record Record) (Record, error) {
	p, err := e.pending(ctx, record)
	if err != nil {
		return Record{}, err
	}
	endpoints, impostors := dialer.NewEndpoints(e.join.Endpoints), 0
	for round := 0; ; {
		issued, err := p.attempt(ctx, endpoints.Current())
		if err == nil {
			return issued, nil
		}
		if ctx.Err() != nil {
			return Record{}, ctx.Err()
		}
		refused, ok := errors.AsType[*Error](err)
		if !ok || !refused.Transient() {
			return Record{}, err
		}
		if refused.Reason == reason.HubCAMismatch {
			impostors++
		}
		if p.answered { // this one is the hub; it was lost while a person took time
			endpoints.Worked()
			p.answered = false
		} else if endpoints.Failed(time.Now()) && refused.RetryAfter == 0 {
			e.cfg.Log.Warn("enrolling is not possible there", "error", err, "next", endpoints.Current())
			continue
		}
		if impostors >= len(e.join.Endpoints) {
			return Record{}, err // nobody with the hub's CA is at any endpoint
		}
		wait := backoff(round, refused.RetryAfter)
		round, impostors = round+1, 0
		e.cfg.Log.Warn("enrolling is not possible yet", "error", err, "retryIn", wait.Round(time.Millisecond))
		pause(ctx, wait)
	}
}

// pending returns the request under way, or begins one: its key is stored
// before anybody sees the request.
func (e *Enroller) pending(ctx context.Context, record Record) (*pending, error) {
	name := e.cfg.ClusterName
	if name == "" {
		name = record.ClusterName
	}
	if name == "" {
		return nil, problem(reason.InvalidName, nil, "neither --cluster-name nor the join string names this cluster")
	}
	next := Record{ClusterName: name, AgentName: e.agentName(record), Endpoints: e.join.Endpoints, PendingToken: tokenID(e.join.Token)}
	resumed := len(record.PendingKey) > 0 && record.ClusterName == name && record.PendingToken == next.PendingToken
	key, err := pki.NewKey()
	if resumed {
		key, err = pki.ParseKey(record.PendingKey)
	}
	if err != nil {
		return nil, err
	}
	if next.PendingKey, err = pki.EncodeKey(key); err != nil {
		return nil, err
	}
	p := &pending{Enroller: e, key: key, next: next, old: record}
	if resumed {
		e.cfg.Log.Info("going on with the request to join that was under way", "cluster", name, "enrollment", record.EnrollmentID, "pairingCode", record.PairingCode)
		return p, nil
	}
	return p, p.save(ctx)
}

func (e *Enroller) agentName(record Record) string {
	switch {
	case e.cfg.AgentName != "":
		return e.cfg.AgentName
	case record.AgentName != "":
		return record.AgentName
	}
	return "agent-" + strings.ToLower(rand.Text()[:8])
}

// rootOf finds the pinned root among what the hub presented; VerifyServer has
// found it there too.
func rootOf(chain []*x509.Certificate, pin [32]byte) (*x509.Certificate, error) {
	i := slices.IndexFunc(chain, func(cert *x509.Certificate) bool { return pki.Fingerprint(cert) == pin })
	if i < 0 {
		return nil, problem(reason.HubCAMismatch, pki.ErrPinMismatch, "the hub did not present the root that the join string pins")
	}
	return chain[i], nil
}

// pairingCode is computed here, from this agent's own key; the hub's word for
// it has to be the same.
func pairingCode(key crypto.Signer, cluster, hubID, told string) (string, error) {
	spki, err := pki.SPKI(key.Public())
	if err != nil {
		return "", err
	}
	code := identity.PairingCode(spki, cluster, hubID)
	if code != told {
		return "", problem(reason.PairingCodeMismatch, nil, "the hub shows pairing code %q for this agent's key, which has %q", told, code)
	}
	return code, nil
}

// backoff is full jitter on top of what the hub asks for.
func backoff(round int, floor time.Duration) time.Duration {
	limit := retryMax
	if round < 6 {
		limit = min(retryMax, retryBase<<round)
	}
	return min(floor, retryCap) + time.Duration(mathrand.Float64()*float64(limit)) //nolint:gosec // jitter, not a secret
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
