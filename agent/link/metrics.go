// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

// Metrics are what a Link counts. A nil *Metrics counts nothing.
type Metrics struct {
	connected prometheus.Gauge
	epoch     prometheus.Gauge
	ends      *prometheus.CounterVec
	acks      *prometheus.CounterVec
	unsent    prometheus.Gauge
	skew      prometheus.Gauge
}

// NewMetrics registers the metrics of one Link.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_agent_connected", Help: "1 while a session with the hub is up."}),
		epoch:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_agent_session_epoch", Help: "Fencing epoch of the newest session."}),
		ends:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_agent_reconnects_total", Help: "Ends of sessions and of attempts, by reason."}, []string{"reason"}),
		acks:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_agent_objects_total", Help: "Objects received, by what the hub was answered."}, []string{"code"}),
		unsent:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_agent_statuses_unpersisted", Help: "Statuses that the hub has not persisted."}),
		skew:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_agent_clock_skew_seconds", Help: "How far the hub's clock was ahead at the last Welcome."}),
	}
	registry.MustRegister(m.connected, m.epoch, m.ends, m.acks, m.unsent, m.skew)
	return m
}

func (m *Metrics) began(epoch uint64, skewSeconds float64) {
	if m == nil {
		return
	}
	m.connected.Set(1)
	m.epoch.Set(float64(epoch))
	m.skew.Set(skewSeconds)
}

func (m *Metrics) ended(why string) {
	if m == nil {
		return
	}
	m.connected.Set(0)
	m.ends.WithLabelValues(why).Inc()
}

func (m *Metrics) acked(code agentv1.AckCode) {
	if m == nil {
		return
	}
	m.acks.WithLabelValues(strings.TrimPrefix(code.String(), "ACK_CODE_")).Inc()
}

func (m *Metrics) pending(n int) {
	if m == nil {
		return
	}
	m.unsent.Set(float64(n))
}
