// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
)

const (
	// leaseKept is for how long a Lease that nobody renews is kept.
	leaseKept = 24 * time.Hour
	// endedKept is for how long an enrollment that came to nothing is shown.
	endedKept = 7 * 24 * time.Hour
	// removedKept is for how long the hub tells agents of a removed cluster that
	// it was removed on purpose: until the last certificate is over (7 days at
	// most), and some weeks for the clocks and people involved.
	removedKept = 30 * 24 * time.Hour
)

// inUse is what keeps Leases.
type inUse struct {
	// held are the replicas that session Leases name: the last sign of life of
	// those agents is in the replicas' Leases.
	held sets.Set[string]
	// alive are the replicas that renewed their Lease not long ago.
	alive sets.Set[string]
	// clusters are the names of all ManagedClusters.
	clusters sets.Set[string]
}

func usedBy(leases []coordinationv1.Lease, clusters []clusterv1.ManagedCluster, now time.Time) inUse {
	used := inUse{held: sets.New[string](), alive: sets.New[string](), clusters: sets.New[string]()}
	for i := range leases {
		switch leases[i].Labels[identity.LeaseLabel] {
		case identity.LeaseOfSession:
			used.held.Insert(holder(&leases[i]))
		case identity.LeaseOfReplica:
			if now.Sub(touched(&leases[i])) < leaseKept {
				used.alive.Insert(strings.TrimPrefix(leases[i].Name, identity.ReplicaLeasePrefix))
			}
		}
	}
	for i := range clusters {
		used.clusters.Insert(clusters[i].Name)
	}
	return used
}

// holder is the replica that a session Lease names, or "".
func holder(session *coordinationv1.Lease) string {
	if session.Spec.HolderIdentity == nil {
		return ""
	}
	replica, _, _ := strings.Cut(*session.Spec.HolderIdentity, "/")
	return replica
}

// touched is when a Lease was last taken or renewed.
func touched(lease *coordinationv1.Lease) time.Time {
	last := lease.CreationTimestamp.Time
	for _, at := range []*metav1.MicroTime{lease.Spec.AcquireTime, lease.Spec.RenewTime} {
		if at != nil && at.After(last) {
			last = at.Time
		}
	}
	return last
}

// deadLease tells whether nobody needs a Lease: that of a replica which died
// long ago and has no session to its name, or that of a cluster which is gone
// and has no session (where a certificate is enough, a cluster may have one
// without a ManagedCluster).
func (u inUse) deadLease(lease *coordinationv1.Lease, now time.Time) bool {
	if now.Sub(touched(lease)) < leaseKept {
		return false
	}
	switch lease.Labels[identity.LeaseLabel] {
	case identity.LeaseOfReplica:
		replica, ok := strings.CutPrefix(lease.Name, identity.ReplicaLeasePrefix)
		return ok && !u.held.Has(replica)
	case identity.LeaseOfSession:
		cluster := lease.Labels[identity.ClusterNameLabel]
		return cluster != "" && !u.clusters.Has(cluster) && !u.alive.Has(holder(lease))
	}
	return false
}

// deadEnrollment tells whether nobody needs an enrollment: it came to nothing,
// or its cluster was removed. One that ever had a certificate stays as long as
// its cluster: it is why another key cannot take that cluster over.
func deadEnrollment(e *v1alpha1.ClusterEnrollment, now time.Time) bool {
	if removed := e.Status.ClusterRemoved; removed != nil {
		return now.Sub(removed.Time) >= removedKept
	}
	if !e.Status.State.Final() || e.EverIssued() {
		return false
	}
	ended := e.Status.LastTransitionTime
	return ended != nil && now.Sub(ended.Time) >= endedKept
}
