// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync"
	"time"
)

const (
	// throttleInterval is what a busy cluster's agent is held to while the
	// apiserver pushes back.
	throttleInterval = 2 * time.Second
	// throttleLeast is how long a throttle stays, at least.
	throttleLeast = 10 * time.Second
)

// throttled is the clusters whose agents report more slowly for now (c5).
type throttled struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// throttle is the status writer's: this cluster has most to write while the
// apiserver pushes back.
func (h *house) throttle(cluster string) {
	t := &h.throttled
	t.mu.Lock()
	if t.since == nil {
		t.since = map[string]time.Time{}
	}
	_, already := t.since[cluster]
	t.since[cluster] = time.Now()
	t.mu.Unlock()
	if !already {
		h.log.Info("an agent is asked to report more slowly", "cluster", cluster, "interval", throttleInterval)
		_ = h.service.Sessions().Throttle(cluster, throttleInterval) // gone meanwhile: nothing to slow down
	}
}

// liftThrottles ends throttles once the apiserver takes what comes.
func (h *house) liftThrottles(now time.Time) {
	if h.writer.Pressure() {
		return
	}
	for _, cluster := range h.throttled.expired(now) {
		_ = h.service.Sessions().Throttle(cluster, 0)
	}
}

func (t *throttled) expired(now time.Time) (clusters []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for cluster, since := range t.since {
		if now.Sub(since) >= throttleLeast {
			clusters = append(clusters, cluster)
			delete(t.since, cluster)
		}
	}
	return clusters
}
