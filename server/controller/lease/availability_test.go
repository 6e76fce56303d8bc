// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
)

func TestJudge(t *testing.T) {
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	held := func(annotations ...string) *coordinationv1.Lease { return sessionLease("c1", "r1/i1", annotations...) }
	released := func(seen time.Time) *coordinationv1.Lease {
		return sessionLease("c1", "", LastSeenAnnotation, seen.Format(time.RFC3339Nano))
	}
	lives, dead := replicaState{alive: true, seen: at(0)}, replicaState{seen: at(0)}

	for name, tc := range map[string]struct {
		reason string
		facts  facts
		status metav1.ConditionStatus // "" = stays
		word   string
		again  time.Duration
	}{
		"held by a live replica":         {"received in time is available", facts{now: at(1000), session: held(), replica: lives}, metav1.ConditionTrue, reasonAvailable, 0},
		"spoke unhealthy":                {"the agent is there, its apiserver is not", facts{now: at(9), session: held(SpokeHealthyAnnotation, "false"), replica: lives}, metav1.ConditionFalse, reasonUnhealthy, 0},
		"spoke healthy in so many words": {"only false is false", facts{now: at(9), session: held(SpokeHealthyAnnotation, "true"), replica: lives}, metav1.ConditionTrue, reasonAvailable, 0},
		"released a moment ago":          {"the agent may be on its way to another replica", facts{now: at(59), session: released(at(0))}, "", "", time.Second},
		"released and silent":            {"silent for the whole duration", facts{now: at(60), session: released(at(0))}, metav1.ConditionUnknown, reasonStopped, 0},
		"released without a time":        {"counts from acceptance", facts{now: at(59), session: sessionLease("c1", "")}, "", "", time.Second},
		"seen in the future":             {"another replica's clock is ahead: no credit for it", facts{now: at(0), session: released(at(500))}, "", "", time.Minute},
		"replica dead for a while":       {"its sessions were alive when it was", facts{now: at(30), session: held(), replica: dead}, "", "", 30 * time.Second},
		"replica dead for longer":        {"nobody has taken over", facts{now: at(60), session: held(), replica: dead}, metav1.ConditionUnknown, reasonStopped, 0},
		"never seen, new":                {"it has just been accepted", facts{now: at(1)}, "", "", 59 * time.Second},
		"never seen":                     {"accepted and silent", facts{now: at(60)}, metav1.ConditionUnknown, reasonStopped, 0},
		"hub was deaf":                   {"silence is not proven yet", facts{now: at(600), session: released(at(0)), quiet: at(605)}, "", "", 5 * time.Second},
		"hub was deaf long ago":          {"silence is proven", facts{now: at(605), session: released(at(0)), quiet: at(605)}, metav1.ConditionUnknown, reasonStopped, 0},
		"hub was deaf, agent is here":    {"good news needs no patience", facts{now: at(1), session: held(), replica: lives, quiet: at(605)}, metav1.ConditionTrue, reasonAvailable, 0},
		"shorter duration":               {"leaseDurationSeconds decides", facts{now: at(10), duration: 10 * time.Second, session: released(at(0))}, metav1.ConditionUnknown, reasonStopped, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := tc.facts
			f.accepted = at(0)
			if f.duration == 0 {
				f.duration = time.Minute
			}
			got := judge(f)
			require.Equal(t, tc.again, got.again, tc.reason)
			if tc.status == "" {
				require.Nil(t, got.condition, tc.reason)
				return
			}
			require.NotNil(t, got.condition, tc.reason)
			require.Equal(t, tc.status, got.condition.Status, tc.reason)
			require.Equal(t, tc.word, got.condition.Reason, tc.reason)
		})
	}
}

func TestSilence(t *testing.T) {
	for seconds, want := range map[int32]time.Duration{0: time.Minute, -5: time.Minute, 1: time.Second, 300: 5 * time.Minute} {
		require.Equal(t, want, silence(&clusterv1.ManagedCluster{Spec: clusterv1.ManagedClusterSpec{LeaseDurationSeconds: seconds}}))
	}
}

func sessionLease(cluster, holder string, annotations ...string) *coordinationv1.Lease {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace: "open-cluster-management-hub", Name: "session-" + cluster, Annotations: map[string]string{},
		Labels: map[string]string{"fairlead.dev/lease": "session", "open-cluster-management.io/cluster-name": cluster},
	}}
	if holder != "" {
		lease.Spec.HolderIdentity = &holder
	}
	for i := 0; i+1 < len(annotations); i += 2 {
		lease.Annotations[annotations[i]] = annotations[i+1]
	}
	return lease
}
