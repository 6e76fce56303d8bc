// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A cluster that got worse flapLimit times within flapWindow comes and goes: it
// counts as better again once it has stayed so for flapHold. Getting worse is
// never put off.
const (
	flapLimit  = 3
	flapWindow = 10 * time.Minute
	flapHold   = time.Minute
)

// flaps damps what clusters that come and go cause: conditions, taints, events.
// It lives in memory only: a new leader lets each cluster flap flapLimit times.
type flaps struct {
	mu sync.Mutex
	of map[string]*flapping
}

type flapping struct {
	worse  []time.Time // when it got worse or did not stay better; the newest flapLimit
	better time.Time   // since when it would be better; zero if it is not
}

// hold is how long a change of a cluster's availability has to wait; 0 is not.
// It is told of every look at the cluster, so that it sees who does not stay.
func (f *flaps) hold(cluster string, from, to metav1.ConditionStatus, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.of[cluster]
	if h == nil {
		return 0
	}
	if rank(to) <= rank(from) {
		if !h.better.IsZero() {
			h.note(now)
		}
		return 0
	}
	if h.better.IsZero() && h.recent(now) < flapLimit {
		return 0
	}
	if h.better.IsZero() || h.better.After(now) {
		h.better = now
	}
	if wait := h.better.Add(flapHold).Sub(now); wait > 0 {
		return wait
	}
	h.better = time.Time{}
	return 0
}

// worsened notes that a cluster got worse.
func (f *flaps) worsened(cluster string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of[cluster] == nil {
		f.of[cluster] = &flapping{}
	}
	f.of[cluster].note(now)
}

// said is what people should know of a cluster that is about to get worse.
func (f *flaps) said(cluster string, now time.Time) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.of[cluster]; h == nil || h.recent(now)+1 < flapLimit {
		return ""
	}
	return fmt.Sprintf(" It comes and goes, and counts as better again once it has stayed so for %s.", flapHold)
}

// forget drops what is remembered of a cluster that is gone.
func (f *flaps) forget(cluster string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.of, cluster)
}

// note keeps the newest flapLimit times.
func (h *flapping) note(now time.Time) {
	h.better = time.Time{}
	h.worse = append(h.worse, now)
	h.worse = h.worse[max(0, len(h.worse)-flapLimit):]
}

// recent is how many of the times count; none in the future does.
func (h *flapping) recent(now time.Time) int {
	n := 0
	for _, at := range h.worse {
		if ago := now.Sub(at); ago >= 0 && ago < flapWindow {
			n++
		}
	}
	return n
}

// rank orders availability. To have none is the highest, so that the first
// condition is never held.
func rank(status metav1.ConditionStatus) int {
	switch status {
	case metav1.ConditionUnknown:
		return 0
	case metav1.ConditionFalse:
		return 1
	case metav1.ConditionTrue:
		return 2
	}
	return 3
}
