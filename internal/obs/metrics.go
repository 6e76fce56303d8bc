// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package obs

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fairlead.dev/fairlead/internal/version"
)

// Prefixes of metric names.
const (
	HubPrefix   = "fairlead_hub_"
	AgentPrefix = "fairlead_agent_"
)

// NewRegistry returns a registry that already has the metrics of process,
// runtime and build. Prefix is HubPrefix or AgentPrefix.
func NewRegistry(prefix string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := version.Get()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        prefix + "build_info",
		Help:        "Always 1; the labels say which build runs.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit, "go": build.Go},
	})
	info.Set(1)
	registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// MetricsHandler serves what gatherers hold, for a Prometheus scrape. What one
// gatherer cannot collect is logged and does not hide the rest.
func MetricsHandler(log *slog.Logger, gatherers ...prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(prometheus.Gatherers(gatherers), promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling: promhttp.ContinueOnError,
	})
}
