// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/x509"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/ca"
	"fairlead.dev/fairlead/server/controller/registration"
	"fairlead.dev/fairlead/server/rpc/admin"
	"fairlead.dev/fairlead/server/rpc/agent"
	"fairlead.dev/fairlead/server/rpc/person"
	"fairlead.dev/fairlead/server/rpc/scheduler"
	"fairlead.dev/fairlead/server/session"
	"fairlead.dev/fairlead/server/store"
)

// house is a hub whose rooms are wired.
type house struct {
	*Server
	scheme      *runtime.Scheme
	direct      client.Client // the hub's own identity, past every cache
	agents      *rest.Config  // the identity that writes for agents
	hub         ca.Hub
	authorities *ca.Authorities
	cache       *sharedCache

	index      *store.Index
	sessions   *store.Sessions
	writer     *store.StatusWriter
	service    *agent.Service
	peers      *peers
	callers    *person.Callers
	people     *admin.Service
	schedulers *scheduler.Service
	placements placements
	hooks      *hooks // nil where no webhooks are served
	sizes      manifestSizes

	shared    atomic.Pointer[session.Hub] // with the hub epoch of now
	epochMu   sync.Mutex                  // one change of epoch at a time
	epochs    map[string]bool             // that this replica has been in; with epochMu once it runs
	admission atomic.Pointer[admission]   // nil until its kinds are served
	mark      atomic.Pointer[provenMark]
	cutOff    atomic.Bool // the apiserver has not answered for too long
	draining  atomic.Bool
	throttled throttled
}

// apiserverPatience is how long a replica keeps sessions without its apiserver
// (c8): then agents are better off with another, or with none.
const apiserverPatience = 15 * time.Second

// tokensKept is how long an expired join token stays, for people to see what
// became of it.
const tokensKept = 7 * 24 * time.Hour

// wire makes every room and tells each what it needs of the others. It asks
// nobody anything.
func (h *house) wire() (err error) {
	h.sizes.limit = h.cfg.ManifestLimit
	h.shareHub(h.hub.Epoch)
	h.placements = newPlacements(h.placementReader())
	if h.index, err = store.NewIndex(store.IndexConfig{Config: h.rest, OnRestored: h.onRestored, CheckEpoch: h.checkEpoch, Log: h.log}); err != nil {
		return err
	}
	h.sessions, err = store.NewSessions(store.SessionsConfig{
		Config: h.rest, Namespace: h.cfg.Namespace, Replica: h.cfg.Replica, AdminAddress: h.cfg.adminAddress(h.addresses.Admin),
		HighWater: h.index.HighWater, Clock: clock.RealClock{}, Log: h.log,
	})
	if err != nil {
		return err
	}
	h.writer, err = store.NewStatusWriter(store.StatusConfig{
		Config: h.agents, Index: h.index, Fence: h.sessions, OnThrottle: h.throttle, Clock: clock.RealClock{}, Log: h.log,
	})
	if err != nil {
		return err
	}
	h.callers = person.NewCallers(h.rest)
	h.peers = newPeers(h)
	enrollments := enrollments{h}
	h.service, err = agent.New(agent.Config{
		Enroller: enrollments, Renewer: enrollments, Trust: h.trust,
		Gate: gate{h}, Leases: leases{h}, Log: h.log, Registry: h.registry,
	})
	if err != nil {
		return err
	}
	if h.schedulers, err = h.newSchedulers(); err != nil {
		return err
	}
	h.sessions.OnLost(func(lost store.Lost) {
		h.service.Lost(lost.Cluster, lost.SessionID, lost.Reason, lost.Message)
	})
	h.checks()
	return h.registry.Register(newFigures(h))
}

// run keeps the house until the face has closed. ctx is the kitchen's.
func (h *house) run(ctx, face context.Context, listeners *listeners) error {
	kitchen, closeKitchen := context.WithCancel(ctx)
	defer closeKitchen()
	return runTasks(kitchen, []task{
		{"authorities", h.authorities.Run},
		{"cache", h.cache.Start},
		{"works index", h.index.Run},
		{"session leases", h.sessions.Run},
		{"status writer", h.writer.Run},
		{"controllers", h.runControllers},
		{"admission", h.openAdmission},
		{"apiserver watch", h.watchApiserver},
		{"join tokens", h.sweepTokens},
		{"session watchdog", h.service.Run},
		{"peers", h.peers.run},
		{"webhooks", func(ctx context.Context) error { return h.serveWebhooks(ctx, listeners.webhook) }},
		{"listeners", func(context.Context) error {
			defer closeKitchen()
			err := h.serve(face, listeners)
			h.service.Wait()
			return err
		}},
	})
}

// watchApiserver ends all sessions when the apiserver has been silent for too
// long, and lifts throttles once it breathes again.
func (h *house) watchApiserver(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			h.checkApiserver(now)
			h.liftThrottles(now)
		}
	}
}

// sweepTokens removes join tokens that ended long ago. Every replica does; it
// does no harm twice.
func (h *house) sweepTokens(ctx context.Context) error {
	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		admission := h.admission.Load()
		if admission == nil {
			continue
		}
		if err := admission.enroll.Tokens().Sweep(ctx, tokensKept); err != nil {
			h.log.Warn("join tokens that ended long ago were not removed", "error", err)
		}
	}
}

func (h *house) checkApiserver(now time.Time) {
	if !h.sessions.Synced() {
		return
	}
	lost := now.Sub(h.sessions.LastRenew()) > apiserverPatience
	if h.cutOff.Swap(lost) == lost {
		return
	}
	if !lost {
		h.log.Info("the apiserver answers again; sessions are taken")
		return
	}
	h.log.Error("the apiserver has not answered for too long; sessions are closed until it does", "for", apiserverPatience)
	h.service.Sessions().EndAll(reason.ApiserverLost, "this replica has lost its apiserver; try another", apiserverPatience/3)
}

func (h *house) trust() agent.TrustBundle {
	version, roots := h.authorities.TrustBundle()
	bundle := agent.TrustBundle{Version: version}
	for _, root := range roots {
		bundle.Roots = append(bundle.Roots, root.Raw)
	}
	return bundle
}

// clientCAs are the authorities that agents' certificates are of, as they are now.
func (h *house) clientCAs() *x509.CertPool { return h.authorities.Server().State().ClientCAs }

// signer is nil when certificates come from an external PKI.
func (h *house) signer() registration.Signer {
	signer := h.authorities.Signer()
	if signer == nil {
		return nil
	}
	return registration.SignerFunc(func(csr *x509.CertificateRequest, id identity.Agent) ([]byte, error) {
		issued, err := signer.Sign(csr, id, h.cfg.Clock.Now(), 0)
		return issued.ChainPEM, err
	})
}
