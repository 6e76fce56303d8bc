// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/server/session"
)

// metrics are what sessions count. None has a cluster as a label.
type metrics struct {
	starts, ends, refusals, conflicts *prometheus.CounterVec
	nacks, statuses, retries          *prometheus.CounterVec
	mismatches, events, unsupported   prometheus.Counter
	panics, content                   prometheus.Counter
	delivery, persist                 prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer, sessions *Registry) *metrics {
	promoted := promauto.With(registry)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return promoted.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_hub_" + name, Help: help}, labels)
	}
	seconds := func(name, help string) prometheus.Histogram {
		return promoted.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_hub_" + name, Help: help,
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20, 50, 100},
		})
	}
	registry.MustRegister(&gauges{sessions})
	return &metrics{
		starts:      counter("session_starts_total", "Sessions that got their Welcome, by sync mode.", "mode"),
		ends:        counter("session_ends_total", "Sessions that ended, by reason.", "reason"),
		refusals:    counter("session_refusals_total", "Sessions that were refused, by reason.", "reason"),
		conflicts:   counter("epoch_conflicts_total", "Sessions refused because another claims the cluster, by kind.", "kind"),
		nacks:       counter("nacks_total", "Objects that did not reach an agent, by reason.", "reason"),
		statuses:    counter("statuses_total", "Statuses from agents, by what became of them.", "code"),
		retries:     counter("status_retries_total", "Statuses that the agent was asked to send again, by reason.", "reason"),
		mismatches:  counter("antientropy_mismatch_total", "Comparisons that found a difference nothing explains. Expected value: 0.").WithLabelValues(),
		events:      counter("agent_events_total", "Events that agents reported.").WithLabelValues(),
		unsupported: counter("unsupported_messages_total", "Messages from agents that this hub does not know.").WithLabelValues(),
		panics:      counter("session_panics_total", "Helpers of sessions that panicked. Expected value: 0.").WithLabelValues(),
		content:     counter("content_bytes_total", "Bytes of objects sent to agents, as they travel.").WithLabelValues(),
		delivery:    seconds("delivery_seconds", "From a change in the index to its being durable on the agent."),
		persist:     seconds("status_persist_seconds", "From a status being received to the apiserver's answer."),
	}
}

// sent counts what went out.
func (m *metrics) sent(message *agentv1.SessionResponse) {
	switch {
	case message.GetWelcome() != nil:
		m.starts.WithLabelValues(message.GetWelcome().GetSyncMode().String()).Inc()
	case message.GetDelta() != nil:
		for _, change := range message.GetDelta().GetChanges() {
			m.content.Add(float64(len(change.GetUpsert().GetObjectJson())))
		}
	}
}

func (m *metrics) stored(o session.StoredObject) {
	if !o.Marked.IsZero() {
		m.delivery.Observe(time.Since(o.Marked).Seconds())
	}
}

func (m *metrics) persisted(a Answer, took time.Duration) {
	m.statuses.WithLabelValues(a.Code.String()).Inc()
	if a.Code == agentv1.StatusCode_STATUS_CODE_PERSISTED {
		m.persist.Observe(took.Seconds())
	}
	if a.Code == agentv1.StatusCode_STATUS_CODE_RETRY {
		m.retries.WithLabelValues(a.Reason).Inc()
	}
}

// gauges reads all sessions when it is scraped, in one pass.
type gauges struct{ sessions *Registry }

func gauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("fairlead_hub_"+name, help, nil, nil)
}

func (*gauges) descriptions() [5]*prometheus.Desc {
	return [5]*prometheus.Desc{
		gauge("sessions", "Live sessions of this replica."),
		gauge("dirty_objects", "Objects on their way to agents."),
		gauge("unacked_bytes", "Bytes sent to agents and not acknowledged."),
		gauge("send_stalled_seconds", "How long the longest Send in progress has taken."),
		gauge("held_deletes", "Batches of deletes that agents hold until somebody releases them."),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range g.descriptions() {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	var values [5]float64
	for _, r := range g.sessions.runners() {
		state := r.state()
		values[0]++
		values[1] += float64(state.Dirty)
		values[2] += float64(state.UnackedBytes)
		values[3] = max(values[3], state.SendStalled.Seconds())
		r.reports.mu.Lock()
		values[4] += float64(len(r.reports.held))
		r.reports.mu.Unlock()
	}
	for i, d := range g.descriptions() {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, values[i])
	}
}
