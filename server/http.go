// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	ocmfeature "open-cluster-management.io/api/feature"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"fairlead.dev/fairlead/internal/obs"
)

// httpTask serves metrics and health. Liveness is the process alone: a
// dependency in it would restart every replica at once when the apiserver is
// away (B30). Readiness has the dependencies, with reasons.
func (s *Server) httpTask(listener net.Listener) task {
	live := &obs.Health{}
	mux := http.NewServeMux()
	mux.Handle("GET /livez", live)
	mux.Handle("GET /healthz", live)
	mux.Handle("GET /readyz", &s.ready)
	mux.Handle("GET /metrics", obs.MetricsHandler(s.log, s.registry, ctrlmetrics.Registry))
	if s.cfg.Gates.Enabled(ocmfeature.PlacementDebugServer) {
		mux.HandleFunc(debugPath, func(w http.ResponseWriter, r *http.Request) {
			debug := s.debug.Load()
			if debug == nil {
				http.Error(w, "the hub is starting; ask again in some seconds", http.StatusServiceUnavailable)
				return
			}
			debug.ServeHTTP(w, r)
		})
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	return task{"http listener", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = server.Close() })
		defer stop()
		if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}}
}

// listen opens a TCP listener; the error names the flag.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--%s=%q: %w", flag, address, err)
	}
	return listener, nil
}
