// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func replicaLease(id string, renewed time.Time) coordinationv1.Lease {
	seconds, at := int32(20), metav1.NewMicroTime(renewed)
	return coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "open-cluster-management-hub", Name: "replica-" + id, Labels: map[string]string{"fairlead.dev/lease": "replica"}},
		Spec:       coordinationv1.LeaseSpec{RenewTime: &at, LeaseDurationSeconds: &seconds, HolderIdentity: &id},
	}
}

func TestObserve(t *testing.T) {
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	type look struct {
		at      int // seconds of our clock
		renewed int // seconds of the replica's clock; -1: its Lease is gone
		alive   bool
		changed bool
	}
	for name, tc := range map[string]struct {
		reason string
		looks  []look
	}{
		"renewing":           {"alive as long as it renews", []look{{0, 0, true, true}, {5, 5, true, false}, {30, 30, true, false}}},
		"stops":              {"dead after its duration, on our clock", []look{{0, 0, true, true}, {15, 0, true, false}, {20, 0, false, true}, {60, 0, false, false}}},
		"comes back":         {"a renewal proves life", []look{{0, 0, true, true}, {25, 0, false, true}, {30, 30, true, true}}},
		"old at first sight": {"it died before we started", []look{{1000, 0, false, false}, {1005, 0, false, false}}},
		"clock is behind":    {"only that the time moves counts", []look{{1000, 0, false, false}, {1005, 5, true, true}, {1010, 10, true, false}}},
		"clock is ahead":     {"likewise", []look{{0, 1000, false, false}, {5, 1005, true, true}, {30, 1005, false, true}}},
		"says goodbye":       {"without its Lease it is gone at once", []look{{0, 0, true, true}, {5, -1, false, true}, {10, -1, false, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &replicas{known: map[string]observation{}}
			for _, l := range tc.looks {
				var leases []coordinationv1.Lease
				if l.renewed >= 0 {
					leases = append(leases, replicaLease("r1", start.Add(time.Duration(l.renewed)*time.Second)))
				}
				changed := r.observe(leases, start.Add(time.Duration(l.at)*time.Second))
				state, _ := r.get("r1")
				require.Equal(t, l.alive, state.alive, "%s: at %d s", tc.reason, l.at)
				require.Equal(t, l.changed, changed["r1"], "%s: at %d s", tc.reason, l.at)
			}
		})
	}
}

func TestDeadReplicasAreForgotten(t *testing.T) {
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	r := &replicas{known: map[string]observation{}}
	for i := range 100 {
		r.observe([]coordinationv1.Lease{replicaLease(strconv.Itoa(i), start.Add(time.Duration(i)*time.Hour))}, start.Add(time.Duration(i)*time.Hour))
	}
	require.LessOrEqual(t, len(r.known), 26)
}

// TestRefreshIsSpread: a restart must not renew ten thousand Leases at once.
func TestRefreshIsSpread(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	leases := &clusterLeases{refresh: time.Hour, written: map[string]time.Time{}}
	perMinute := map[int]int{}
	for i := range 10_000 {
		due := leases.due(fmt.Sprintf("cluster-%d", i), now, true)
		require.Greater(t, due, time.Duration(0))
		require.LessOrEqual(t, due, time.Hour)
		perMinute[int(due/time.Minute)]++
	}
	for minute, n := range perMinute {
		require.Less(t, n, 260, "minute %d: 10,000 an hour are 167 a minute", minute)
	}
	require.Zero(t, leases.due("new", now, false), "one that was never written is due at once")
}
