// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are histograms by the names that OCM gives them (PL-61, OB-03).
type metrics struct{ scheduling, bind prometheus.Observer }

// newMetrics registers them with to, unless that is nil. A controller of a later
// term goes on with those of the earlier one.
func newMetrics(to prometheus.Registerer) (metrics, error) {
	histogram := func(name, help string) (prometheus.Observer, error) {
		vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16), // 0.1 ms to 3 s
		}, []string{"name"})
		if to != nil {
			err := to.Register(vec)
			if there := (prometheus.AlreadyRegisteredError{}); errors.As(err, &there) {
				if earlier, ok := there.ExistingCollector.(*prometheus.HistogramVec); ok {
					vec, err = earlier, nil
				}
			}
			if err != nil {
				return nil, err
			}
		}
		return vec.WithLabelValues("placement_scheduling"), nil
	}
	scheduling, err := histogram("scheduling_scheduling_duration_seconds", "How long it takes to choose the clusters of a Placement.")
	if err != nil {
		return metrics{}, err
	}
	bind, err := histogram("scheduling_bind_duration_seconds", "How long it takes to write what was chosen for a Placement.")
	return metrics{scheduling: scheduling, bind: bind}, err
}
