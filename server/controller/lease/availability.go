// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/internal/identity"
)

// Names on the Leases in the hub's namespace.
const (
	// KindLabel tells the Leases of sessions from those of replicas.
	KindLabel = identity.LeaseLabel
	// KindSession and KindReplica are its values.
	KindSession = identity.LeaseOfSession
	KindReplica = identity.LeaseOfReplica
	// LastSeenAnnotation is when the last frame of a released session came.
	LastSeenAnnotation = "fairlead.dev/last-seen"
	// SpokeHealthyAnnotation is "false" while the agent reports that the spoke's
	// apiserver is not healthy.
	SpokeHealthyAnnotation = "fairlead.dev/spoke-healthy"
	// ClockOffsetAnnotation is how far the agent's clock is behind the hub's, as a
	// Go duration; absent until it was measured.
	ClockOffsetAnnotation = "fairlead.dev/clock-offset"

	replicaPrefix = identity.ReplicaLeasePrefix
)

// Reasons of the condition, as OCM's tools read them.
const (
	reasonAvailable = "ManagedClusterAvailable"
	reasonUnhealthy = "ManagedClusterKubeAPIServerUnavailable"
	reasonStopped   = "ManagedClusterLeaseUpdateStopped"
	// reasonDetached is our own: the spoke has left, and nothing more will come.
	reasonDetached = "ManagedClusterDetached"
)

const defaultDuration = time.Minute

// facts are all that availability depends on.
type facts struct {
	now time.Time
	// duration is how long a cluster may be silent.
	duration time.Duration
	// accepted is when the hub decided about the cluster: a cluster that was never
	// seen is silent since then.
	accepted time.Time
	// detached: the spoke said that it leaves.
	detached bool
	// deleting: the ManagedCluster is on its way out.
	deleting bool
	// session is the Lease of the cluster's session, nil if there never was one.
	session *coordinationv1.Lease
	// replica is the state of the session's holder; meaningless without one.
	replica replicaState
	// quiet is until when nothing may turn Unknown, since the hub itself was deaf.
	quiet time.Time
}

// verdict is what follows from facts.
type verdict struct {
	// alive: a live replica holds the session.
	alive bool
	// condition is what should stand in the status, nil if what stands there may stay.
	condition *metav1.Condition
	// lastSeen is when something was last received.
	lastSeen time.Time
	// clock is the offset that the session's Lease tells, empty if it tells none.
	clock string
	// again is when the verdict will change if nothing happens; 0 is never.
	again time.Duration
}

// judge turns facts into a verdict.
func judge(f facts) verdict {
	if f.detached {
		return verdict{lastSeen: f.lastSeen(), condition: detached()}
	}
	if holder(f.session) != "" && f.replica.alive {
		return verdict{alive: true, condition: alive(f.session), lastSeen: f.now, clock: f.session.Annotations[ClockOffsetAnnotation]}
	}
	seen := f.lastSeen()
	if f.deleting && f.session == nil {
		return verdict{lastSeen: seen, condition: stopped()} // RC-38: nobody will come back to be waited for
	}
	deadline := seen.Add(f.duration)
	if deadline.Before(f.quiet) {
		deadline = f.quiet
	}
	if wait := deadline.Sub(f.now); wait > 0 {
		return verdict{lastSeen: seen, again: wait}
	}
	return verdict{lastSeen: seen, condition: stopped()}
}

// lastSeen is when something was last received from a cluster that no live
// replica holds. No time in the future counts.
func (f facts) lastSeen() time.Time {
	seen := f.accepted
	switch {
	case holder(f.session) != "":
		seen = f.replica.seen
	case f.session != nil:
		if at, err := time.Parse(time.RFC3339Nano, f.session.Annotations[LastSeenAnnotation]); err == nil {
			seen = at
		}
	}
	if seen.After(f.now) {
		return f.now
	}
	return seen
}

// holder is the id of the replica that holds a session, empty if none does.
func holder(session *coordinationv1.Lease) string {
	if session == nil || session.Spec.HolderIdentity == nil {
		return ""
	}
	replica, _, _ := strings.Cut(*session.Spec.HolderIdentity, "/")
	return replica
}

// silence is how long a cluster may be silent (RC-35).
func silence(cluster *clusterv1.ManagedCluster) time.Duration {
	if cluster.Spec.LeaseDurationSeconds <= 0 {
		return defaultDuration
	}
	return time.Duration(cluster.Spec.LeaseDurationSeconds) * time.Second
}

func alive(session *coordinationv1.Lease) *metav1.Condition {
	if session.Annotations[SpokeHealthyAnnotation] == "false" {
		return available(metav1.ConditionFalse, reasonUnhealthy, "The agent is connected, and the kube-apiserver of its cluster is not healthy.")
	}
	return available(metav1.ConditionTrue, reasonAvailable, "Managed cluster is available")
}

func stopped() *metav1.Condition {
	return available(metav1.ConditionUnknown, reasonStopped, "Registration agent stopped updating its lease.")
}

func detached() *metav1.Condition {
	return available(metav1.ConditionUnknown, reasonDetached, "The spoke has left the hub: its agent was detached there.")
}

func available(status metav1.ConditionStatus, reason, message string) *metav1.Condition {
	return &metav1.Condition{
		Type: clusterv1.ManagedClusterConditionAvailable, Status: status, Reason: reason, Message: message,
	}
}
