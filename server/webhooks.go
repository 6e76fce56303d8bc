// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	ocmfeature "open-cluster-management.io/api/feature"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"

	"fairlead.dev/fairlead/server/ca"
	"fairlead.dev/fairlead/server/webhook"
)

// hooks are the admission webhooks and what they are served with.
type hooks struct {
	*webhook.Webhooks
	certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// keep keeps the certificate, and the apiserver's trust in it, fresh.
	keep func(ctx context.Context) error
}

// newHooks makes the webhooks, if they are to be served: with the operator's own
// certificate, or with one of an authority that all replicas share.
func (h *house) newHooks(ctx context.Context) (*hooks, error) {
	if h.cfg.WebhookListen == "" {
		return nil, nil //nolint:nilnil // none are served
	}
	inner, err := webhook.New(webhook.Config{
		Client: h.direct, ManifestLimit: h.cfg.ManifestLimit, Served: h.takesWorks, Log: h.log,
		CheckNilExecutor: h.cfg.Gates.Enabled(ocmfeature.NilExecutorValidating),
		ReplicaSets:      h.cfg.Gates.Enabled(ocmfeature.ManifestWorkReplicaSet),
		DefaultSet:       h.cfg.Gates.Enabled(ocmfeature.DefaultClusterSet),
	})
	if err != nil {
		return nil, err
	}
	if h.cfg.WebhookCert != "" {
		files, err := certwatcher.New(h.cfg.WebhookCert, h.cfg.WebhookKey)
		if err != nil {
			return nil, fmt.Errorf("--webhook-cert=%q, --webhook-key=%q: %w", h.cfg.WebhookCert, h.cfg.WebhookKey, err)
		}
		return &hooks{Webhooks: inner, certificate: files.GetCertificate, keep: files.Start}, nil
	}
	own, err := ca.NewWebhooks(ctx, ca.Config{
		Client: h.direct, Namespace: h.cfg.Namespace, Hub: h.hub, Clock: clock.RealClock{}, Log: h.log,
		ServingNames: append(h.cfg.servingNames(), webhook.ServiceName+"."+h.cfg.Namespace+".svc"),
	}, inner.Publish)
	if err != nil {
		return nil, err
	}
	keep := func(ctx context.Context) error {
		wake, err := h.webhookChanges(ctx)
		if err != nil {
			return err
		}
		return own.Run(ctx, wake)
	}
	return &hooks{Webhooks: inner, certificate: own.GetCertificate, keep: keep}, nil
}

// serveWebhooks runs on every replica, and until the face has closed.
func (h *house) serveWebhooks(ctx context.Context, listener net.Listener) error {
	if h.hooks == nil {
		return nil
	}
	return runTasks(ctx, []task{
		{"listener", func(ctx context.Context) error { return h.hooks.Serve(ctx, listener, h.hooks.certificate) }},
		{"certificate", h.hooks.keep},
	})
}

// takesWorks tells whether an agent of this cluster may come for its works. A
// hub that does not know yet says no.
func (h *house) takesWorks(ctx context.Context, cluster string) bool {
	admission := h.admission.Load()
	if admission == nil {
		return false
	}
	known, ok := admission.clusters.Get(ctx, cluster)
	return ok && known.Accepted
}

// webhookChanges tells of every change of the webhook configurations, so that one
// that is installed later, or anew, is of use at once.
func (h *house) webhookChanges(ctx context.Context) (<-chan struct{}, error) {
	changes := make(chan struct{}, 1)
	changed := func(any) {
		select {
		case changes <- struct{}{}:
		default: // nobody has looked since the last one
		}
	}
	for _, configuration := range webhook.Configurations() {
		informer, err := h.cache.GetInformer(ctx, configuration, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watching webhook configurations: %w", err)
		}
		handler := toolscache.ResourceEventHandlerFuncs{AddFunc: changed, UpdateFunc: func(_, now any) { changed(now) }}
		if _, err := informer.AddEventHandler(handler); err != nil {
			return nil, fmt.Errorf("watching webhook configurations: %w", err)
		}
	}
	return changes, nil
}
