// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"time"

	"fairlead.dev/fairlead/internal/pki"
)

const (
	// webhookRefresh is how often the Secret is read again, webhookPause the least
	// time in between.
	webhookRefresh = 30 * time.Second
	webhookPause   = time.Second
	// webhookHandover is how long after a change of the authority the former one is
	// trusted too: all replicas have read the Secret long before it is over.
	webhookHandover = 10 * time.Minute
)

// Publish has the apiserver trust an authority of webhooks, beside those that it
// trusts already or instead of them. trusted tells whether it did so before.
type Publish func(ctx context.Context, root *x509.Certificate, keepOthers bool) (trusted bool, err error)

// Webhooks is the certificate that this replica serves webhooks with. All
// replicas' are of one authority; whoever wants another deletes its Secret. Then
// the apiserver trusts both for a while, and a replica serves with the new one
// not before it is trusted, so that no call fails.
type Webhooks struct {
	cfg     Config
	publish Publish
	current atomic.Pointer[tls.Certificate]

	// Only Run touches these: the authority that certificates are made of, and the
	// one that the apiserver was found to trust.
	authority *pki.CA
	trusted   *x509.Certificate
}

// NewWebhooks reads the authority of webhooks from its Secret, or makes it.
// cfg.ServingNames are the names by which the apiserver calls.
func NewWebhooks(ctx context.Context, cfg Config, publish Publish) (*Webhooks, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Webhooks{cfg: cfg, publish: publish}
	if w.authority, _, err = ensureAuthority(ctx, cfg, Webhook); err != nil {
		return nil, err
	}
	return w, w.issue()
}

// GetCertificate is for a tls.Config.
func (w *Webhooks) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return w.current.Load(), nil
}

// Run keeps certificate and trust in order until ctx ends: now, now and then, and
// when it is woken.
func (w *Webhooks) Run(ctx context.Context, wake <-chan struct{}) error {
	for {
		if err := w.step(ctx); err != nil && ctx.Err() == nil {
			w.cfg.Log.Error("the webhooks' certificate and the apiserver's trust in it may be out of step; it is tried again", "in", webhookRefresh, "error", err)
		}
		pause, again := w.cfg.Clock.NewTimer(webhookPause), w.cfg.Clock.NewTimer(webhookRefresh)
		select {
		case <-ctx.Done():
		case <-pause.C():
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-again.C():
		}
		pause.Stop()
		again.Stop()
	}
}

func (w *Webhooks) step(ctx context.Context) error {
	authority, made, err := ensureAuthority(ctx, w.cfg, Webhook)
	if err != nil {
		return err
	}
	trusted, err := w.publish(ctx, authority.Cert, w.cfg.Clock.Since(made) < webhookHandover)
	if err != nil {
		return err
	}
	// Found twice, a look apart: the apiserver takes a moment to act by what it stores.
	moved := trusted && authority.Cert.Equal(w.trusted) && !authority.Cert.Equal(w.authority.Cert)
	if moved {
		w.authority = authority
	}
	if w.trusted = nil; trusted {
		w.trusted = authority.Cert
	}
	left := w.current.Load().Leaf.NotAfter.Sub(w.cfg.Clock.Now())
	if !moved && left > w.cfg.ServingLifetime/3 {
		return nil
	}
	if err := w.issue(); err != nil {
		return err
	}
	leaf := w.current.Load().Leaf
	w.cfg.Log.Info("the webhooks' certificate was renewed", "notAfter", leaf.NotAfter, "serial", pki.Serial(leaf), "newAuthority", moved)
	return nil
}

func (w *Webhooks) issue() error {
	issued, err := w.authority.IssueServing(w.cfg.ServingNames, w.cfg.Clock.Now(), w.cfg.ServingLifetime)
	if err != nil {
		return err
	}
	w.current.Store(issued)
	return nil
}
