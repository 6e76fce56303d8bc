// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// schedulingName is the value of the label name of all of them.
const schedulingName = "placement_scheduling"

// metrics are histograms by the names that OCM gives them (PL-61, OB-03). They
// observe a World, with the clock of the machine.
type metrics struct {
	scheduling, bind, cel prometheus.Observer
	plugin                prometheus.ObserverVec
}

// newMetrics registers them with to, unless that is nil. A controller of a later
// term goes on with those of the earlier one.
func newMetrics(to prometheus.Registerer) (m metrics, err error) {
	var problems error
	histogram := func(first float64, name, help string, labels ...string) prometheus.ObserverVec {
		vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(first, 2, 16),
		}, append([]string{"name"}, labels...))
		if to == nil {
			return vec
		}
		err := to.Register(vec)
		if there := (prometheus.AlreadyRegisteredError{}); errors.As(err, &there) {
			if earlier, ok := there.ExistingCollector.(*prometheus.HistogramVec); ok {
				return earlier
			}
		}
		problems = errors.Join(problems, err)
		return vec
	}
	const millisecond, microsecond = 1e-3, 1e-6
	m.scheduling = histogram(millisecond/10, "scheduling_scheduling_duration_seconds", "How long it takes to choose the clusters of a Placement.").
		WithLabelValues(schedulingName)
	m.bind = histogram(millisecond/10, "scheduling_bind_duration_seconds", "How long it takes to write what was chosen for a Placement.").
		WithLabelValues(schedulingName)
	m.cel = histogram(5*microsecond, "scheduling_cel_runtime_duration_seconds", "How long one CEL expression takes on one cluster.").
		WithLabelValues(schedulingName)
	m.plugin = histogram(millisecond/10, "scheduling_plugin_duration_seconds", "How long a filter or prioritizer takes on the clusters of a Placement.", "plugin_type", "plugin_name")
	return m, problems
}

// Plugin implements scheduling.Observer.
func (m metrics) Plugin(kind, name string) func() {
	return since(m.plugin.With(prometheus.Labels{"name": schedulingName, "plugin_type": kind, "plugin_name": name}))
}

// CEL implements scheduling.Observer.
func (m metrics) CEL() func() { return since(m.cel) }

func since(o prometheus.Observer) func() {
	start := time.Now()
	return func() { o.Observe(time.Since(start).Seconds()) }
}
