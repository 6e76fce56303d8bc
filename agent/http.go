// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/obs"
)

// observe adds what is known once the store is open: metrics, and what readiness
// depends on. Liveness is the process alone.
func (a *Agent) observe() {
	a.ready.Add("store", func() error { return nil })
	a.ready.Add("enrolled", func() error {
		if why := a.unidentified.Load(); why != nil {
			return *why
		}
		if a.enrolled.get() == "" {
			return errNotEnrolled
		}
		return nil
	})
	a.ready.Add("session", func() error {
		l := a.outbound.link.Load()
		if l == nil {
			return errNoSession
		}
		state := l.State()
		switch {
		case state.Connected:
			return nil
		case state.LastError == nil:
			return errNoSession
		}
		return fmt.Errorf("%w: %w", errNoSession, state.LastError)
	})
	a.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fairlead_agent_held_deletes", Help: "Deletes and prunes that wait for a person's release."}, func() float64 {
			n := 0
			for _, batch := range a.store.Held() {
				n += len(batch.Entries)
			}
			return float64(n)
		}),
		a.evictions("waiting", false),
		a.evictions("held", true),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fairlead_agent_certificate_expiry_seconds", Help: "How long the agent's certificate is valid; 0 without one."}, func() float64 {
			notAfter := a.notAfter.Load()
			if notAfter == nil {
				return 0
			}
			return max(0, time.Until((*notAfter)()).Seconds())
		}),
	)
}

// evictions counts what a controller of works found without a work (MW-62).
func (a *Agent) evictions(state string, held bool) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fairlead_agent_evictions", Help: "AppliedManifestWorks without a work: waiting for the grace period, or held for a person.",
		ConstLabels: prometheus.Labels{"state": state},
	}, func() float64 {
		n := 0
		if controller := a.work.Load(); controller != nil {
			for _, eviction := range controller.Evictions() {
				if eviction.Held == held {
					n++
				}
			}
		}
		return float64(n)
	})
}

// serveHTTP serves metrics and health until ctx ends.
func (a *Agent) serveHTTP(ctx context.Context) error {
	if a.cfg.HTTPListen == "" {
		return nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", a.cfg.HTTPListen)
	if err != nil {
		return fmt.Errorf("--http-listen=%q: %w", a.cfg.HTTPListen, err)
	}
	live := &obs.Health{}
	mux := http.NewServeMux()
	mux.Handle("GET /livez", live)
	mux.Handle("GET /healthz", live)
	mux.Handle("GET /readyz", &a.ready)
	mux.Handle("GET /metrics", obs.MetricsHandler(a.log, a.registry))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
