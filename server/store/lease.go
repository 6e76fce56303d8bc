// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/identity"
)

// Labels and annotations of session and replica Leases.
const (
	LabelLease   = identity.LeaseLabel
	LeaseSession = identity.LeaseOfSession
	LeaseReplica = identity.LeaseOfReplica

	AnnotationFingerprint  = "fairlead.dev/cluster-fingerprint"
	AnnotationAgentID      = "fairlead.dev/agent-id"
	AnnotationInstanceID   = "fairlead.dev/instance-id"
	AnnotationSessionID    = "fairlead.dev/session-id"
	AnnotationRemote       = "fairlead.dev/remote-address"
	AnnotationLastSeen     = "fairlead.dev/last-seen"
	AnnotationKick         = "fairlead.dev/kick"
	AnnotationClusterUID   = "fairlead.dev/managed-cluster-uid"
	AnnotationSpokeHealthy = "fairlead.dev/spoke-healthy"
	AnnotationClockOffset  = "fairlead.dev/clock-offset"
	AnnotationAdminAddress = "fairlead.dev/admin-address"
)

// SessionClaim is what an agent says of itself when it asks for the session of
// its cluster, and what the hub knows of the connection.
type SessionClaim struct {
	SessionID   string // made by the hub for this session
	InstanceID  string // new on every start of an agent
	Fingerprint string // the spoke's identity
	AgentID     string // the agent's installation
	Remote      string // network address
}

// Grant says that a session owns its cluster as of one write to its Lease. Only
// Sessions.Take makes one, from an identity.Scope. It is comparable; the zero
// Grant owns nothing.
type Grant struct {
	scope     identity.Scope
	sessionID string
	holder    string
	leaseUID  string
	epoch     uint64
	written   uint64 // resourceVersion of that write
	complete  uint64 // how far the works index was before it
	number    uint64 // unique within this process, from 1
}

// Scope is the right that the Grant was taken with.
func (g Grant) Scope() identity.Scope { return g.scope }

// Cluster is the cluster owned.
func (g Grant) Cluster() string { return g.scope.Cluster() }

// SessionID is that of the claim.
func (g Grant) SessionID() string { return g.sessionID }

// Epoch numbers the owners of this cluster's Lease.
func (g Grant) Epoch() uint64 { return g.epoch }

// LeaseUID is the UID of the Lease. Only with it does Epoch mean anything: a
// Lease that was made anew counts from 1.
func (g Grant) LeaseUID() string { return g.leaseUID }

func (g Grant) serial() uint64 { return g.number }

// owns tells whether the Lease still says what the Grant was taken with.
func (g Grant) owns(lease *coordinationv1.Lease) bool {
	return string(lease.UID) == g.leaseUID && holderOf(lease) == g.holder && epochOf(lease) == g.epoch &&
		lease.Annotations[AnnotationSessionID] == g.sessionID
}

// Session is one session Lease, of whichever replica.
type Session struct {
	Cluster, SessionID, InstanceID, Fingerprint, AgentID, Remote string
	// Replica holds it, reachable for other replicas at AdminAddress; empty when
	// the session was released.
	Replica, AdminAddress string
	ManagedClusterUID     string
	Epoch                 uint64
	// Since is when it was taken; LastSeen is set when it was released, or to
	// the last sign of life of a replica that died.
	Since, LastSeen time.Time
	// Live: it is held, by a replica that lives.
	Live bool
}

// ErrFenced is returned when another session owns the cluster now.
var ErrFenced = errors.New("another session owns the cluster now")

// ErrNoSession is returned when there is no live session to act on.
var ErrNoSession = errors.New("no such session")

// DuplicateError refuses a second cluster that uses the identity of a connected
// one: a copied Secret, a restored VM (T60).
type DuplicateError struct {
	Cluster          string
	Holder, Newcomer Session
}

// Error names both.
func (e *DuplicateError) Error() string {
	return fmt.Sprintf("cluster %q is connected from agent %q at %s (fingerprint %q); agent %q at %s with fingerprint %q has the same identity; "+
		"enroll one of them under a name of its own", e.Cluster, e.Holder.AgentID, e.Holder.Remote, e.Holder.Fingerprint,
		e.Newcomer.AgentID, e.Newcomer.Remote, e.Newcomer.Fingerprint)
}

// FlappingError slows down agents of one cluster that keep taking its session
// from each other.
type FlappingError struct {
	Cluster    string
	Takeovers  int // in the last five minutes
	RetryAfter time.Duration
}

// Error says what is going on.
func (e *FlappingError) Error() string {
	return fmt.Sprintf("agents of cluster %q took its session from each other %d times in 5 minutes; run one agent only, or try again in %s",
		e.Cluster, e.Takeovers, e.RetryAfter.Round(time.Second))
}

func sessionOf(lease *coordinationv1.Lease) Session {
	a := lease.Annotations
	replica, _, _ := strings.Cut(holderOf(lease), "/")
	s := Session{
		Cluster: lease.Labels[identity.ClusterNameLabel], SessionID: a[AnnotationSessionID], InstanceID: a[AnnotationInstanceID],
		Fingerprint: a[AnnotationFingerprint], AgentID: a[AnnotationAgentID], Remote: a[AnnotationRemote],
		Replica: replica, ManagedClusterUID: a[AnnotationClusterUID], Epoch: epochOf(lease),
	}
	if lease.Spec.AcquireTime != nil {
		s.Since = lease.Spec.AcquireTime.Time
	}
	if seen, err := time.Parse(time.RFC3339Nano, a[AnnotationLastSeen]); err == nil {
		s.LastSeen = seen
	}
	return s
}

func holderOf(lease *coordinationv1.Lease) string {
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

func epochOf(lease *coordinationv1.Lease) uint64 {
	if lease.Spec.LeaseTransitions == nil {
		return 0
	}
	return uint64(max(0, *lease.Spec.LeaseTransitions))
}

func versionOf(lease *coordinationv1.Lease) uint64 {
	rv, _ := strconv.ParseUint(lease.ResourceVersion, 10, 64) // what is no number is older than anything
	return rv
}

// claimed is the Lease as the claim wants it; from is the stored one, or nil.
func claimed(from *coordinationv1.Lease, scope identity.Scope, claim SessionClaim, replica string, now time.Time) *coordinationv1.Lease {
	lease := &coordinationv1.Lease{}
	if from != nil {
		lease = from.DeepCopy()
	}
	lease.Name = identity.SessionLeaseName(scope.Cluster())
	set := func(m *map[string]string, key, value string) {
		if *m == nil {
			*m = map[string]string{}
		}
		(*m)[key] = value
	}
	set(&lease.Labels, LabelLease, LeaseSession)
	set(&lease.Labels, identity.ClusterNameLabel, scope.Cluster())
	set(&lease.Annotations, AnnotationFingerprint, claim.Fingerprint)
	set(&lease.Annotations, AnnotationAgentID, claim.AgentID)
	set(&lease.Annotations, AnnotationInstanceID, claim.InstanceID)
	set(&lease.Annotations, AnnotationSessionID, claim.SessionID)
	set(&lease.Annotations, AnnotationRemote, claim.Remote)
	set(&lease.Annotations, AnnotationClusterUID, scope.UID())
	delete(lease.Annotations, AnnotationKick)
	delete(lease.Annotations, AnnotationLastSeen)
	holder, epoch, at := replica+"/"+claim.InstanceID, int32(1), metav1.NewMicroTime(now)
	if before := lease.Spec.LeaseTransitions; before != nil {
		epoch += *before
	}
	lease.Spec.HolderIdentity, lease.Spec.LeaseTransitions = &holder, &epoch
	lease.Spec.AcquireTime, lease.Spec.RenewTime = &at, &at
	return lease
}

// released is the Lease without a holder.
func released(from *coordinationv1.Lease, lastSeen time.Time) *coordinationv1.Lease {
	lease, nobody := from.DeepCopy(), ""
	lease.Spec.HolderIdentity = &nobody
	delete(lease.Annotations, AnnotationKick)
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[AnnotationLastSeen] = lastSeen.UTC().Format(time.RFC3339Nano)
	return lease
}
