// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	// sessionManager is the field manager of session and replica Leases.
	sessionManager = "fairlead-session"
	// tries is how often a compare-and-swap is begun anew.
	tries = 5
	// maxClaim bounds each text of a claim; they come from the agent.
	maxClaim = 256

	// More than freeTakeovers within takeoverWindow, and the session changes
	// hands once in takeoverPause only.
	freeTakeovers  = 3
	takeoverWindow = 5 * time.Minute
	takeoverPause  = time.Minute
)

// Take makes a session the owner of its cluster, by one compare-and-swap on the
// cluster's Lease (one write, and no read unless the cache is behind). Of agents
// with the same fingerprint the newer wins; another fingerprint is refused while
// the owner lives: *DuplicateError. Agents that keep taking the session from
// each other are slowed down: *FlappingError; an agent that reconnects takes
// nothing from itself. Every Grant is to be released.
func (s *Sessions) Take(ctx context.Context, scope identity.Scope, claim SessionClaim) (Grant, error) {
	if err := checkClaim(scope, claim); err != nil {
		return Grant{}, err
	}
	complete := uint64(0)
	if s.config.HighWater != nil {
		complete = s.config.HighWater()
	}
	lease := s.newest(scope.Cluster())
	for range tries {
		if err := s.admit(lease, scope, claim); err != nil {
			return Grant{}, err
		}
		stored, err := s.store(ctx, claimed(lease, scope, claim, s.config.Replica, s.clock.Now()))
		if err == nil {
			return s.granted(scope, stored, complete)
		}
		if !movedOn(err) {
			return Grant{}, fmt.Errorf("taking the session of cluster %q: %w", scope.Cluster(), err)
		}
		if lease, err = s.live(ctx, scope.Cluster()); err != nil && !errors.Is(err, errNoLease) {
			return Grant{}, fmt.Errorf("taking the session of cluster %q: %w", scope.Cluster(), err)
		}
	}
	return Grant{}, fmt.Errorf("taking the session of cluster %q: its Lease changed %d times meanwhile", scope.Cluster(), tries)
}

func checkClaim(scope identity.Scope, claim SessionClaim) error {
	if scope.Cluster() == "" {
		return errors.New("taking a session: the scope acts for no cluster")
	}
	if claim.SessionID == "" || claim.InstanceID == "" {
		return fmt.Errorf("taking the session of cluster %q: session id and instance id are needed", scope.Cluster())
	}
	for _, text := range []string{claim.SessionID, claim.InstanceID, claim.Fingerprint, claim.AgentID, claim.Remote} {
		if len(text) > maxClaim {
			return fmt.Errorf("taking the session of cluster %q: %q… is longer than %d bytes", scope.Cluster(), text[:32], maxClaim)
		}
	}
	return nil
}

// movedOn tells whether a compare-and-swap failed because the Lease is another.
func movedOn(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}

// admit says why a claim is refused.
func (s *Sessions) admit(lease *coordinationv1.Lease, scope identity.Scope, claim SessionClaim) error {
	if lease == nil {
		return nil
	}
	holder := sessionOf(lease)
	if holder.ManagedClusterUID != scope.UID() {
		return nil // that of a cluster which is gone, whose name was used again
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.alive(holder) {
		return nil
	}
	if holder.Fingerprint != claim.Fingerprint {
		newcomer := Session{Cluster: scope.Cluster(), InstanceID: claim.InstanceID, Fingerprint: claim.Fingerprint, AgentID: claim.AgentID, Remote: claim.Remote}
		return &DuplicateError{Cluster: scope.Cluster(), Holder: holder, Newcomer: newcomer}
	}
	if holder.InstanceID == claim.InstanceID {
		return nil
	}
	recent := s.recentTakeovers(scope.Cluster())
	if len(recent) <= freeTakeovers {
		return nil
	}
	if wait := takeoverPause - s.clock.Since(recent[len(recent)-1]); wait > 0 {
		return &FlappingError{Cluster: scope.Cluster(), Takeovers: len(recent), RetryAfter: wait}
	}
	return nil
}

// recentTakeovers are those that still count, the last one last. The lock is held.
func (s *Sessions) recentTakeovers(clusterName string) []time.Time {
	all := s.takeovers[clusterName]
	for len(all) > 0 && s.clock.Since(all[0]) > takeoverWindow {
		all = all[1:]
	}
	if len(all) == 0 {
		delete(s.takeovers, clusterName)
		return nil
	}
	s.takeovers[clusterName] = all
	return all
}

// Takeovers is how often agents of a cluster took its session from each other
// within the last five minutes; more than three is AgentFlapping.
func (s *Sessions) Takeovers(clusterName string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.recentTakeovers(clusterName))
}

func (s *Sessions) forgetTakeovers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.takeovers {
		s.recentTakeovers(name)
	}
}

// noteTakeover counts when one live agent instance took the session of another.
func (s *Sessions) noteTakeover(before, now *coordinationv1.Lease) {
	if before == nil {
		return
	}
	old, fresh := sessionOf(before), sessionOf(now)
	if old.Replica == "" || fresh.Replica == "" || old.InstanceID == fresh.InstanceID || old.Fingerprint != fresh.Fingerprint ||
		old.ManagedClusterUID != fresh.ManagedClusterUID || old.SessionID == fresh.SessionID {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, over := s.givenUp[old.SessionID]; over {
		return // it had ended, and only the Lease did not say so yet
	}
	s.takeovers[fresh.Cluster] = append(s.recentTakeovers(fresh.Cluster), s.clock.Now())
}

// store writes a Lease: creates one that has no resourceVersion, else replaces
// exactly the one it was made from. So many at a time as one connection to the
// apiserver takes: a thousand agents that come and go at once would open more.
func (s *Sessions) store(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := s.writes.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for other session Leases to be written: %w", err)
	}
	defer s.writes.Release(1)
	var stored *coordinationv1.Lease
	var err error
	if lease.ResourceVersion == "" {
		stored, err = s.leases.Create(ctx, lease, metav1.CreateOptions{FieldManager: sessionManager})
	} else {
		stored, err = s.leases.Update(ctx, lease, metav1.UpdateOptions{FieldManager: sessionManager})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.written, lease.Name)
		return nil, err
	}
	if shown := s.cached(lease.Labels[identity.ClusterNameLabel]); shown == nil || versionOf(shown) < versionOf(stored) {
		stored.ManagedFields = nil
		s.written[lease.Name] = stored
	}
	return stored, nil
}

// newest is a cluster's session Lease as far as this replica knows: what it
// wrote last, until the watch has shown that or more. It may be nil or out of
// date, which a compare-and-swap finds out.
func (s *Sessions) newest(clusterName string) *coordinationv1.Lease {
	lease := s.cached(clusterName)
	s.mu.Lock()
	defer s.mu.Unlock()
	if written := s.written[identity.SessionLeaseName(clusterName)]; written != nil && (lease == nil || versionOf(written) > versionOf(lease)) {
		return written
	}
	return lease
}

// errNoLease says that a cluster has no session Lease.
var errNoLease = errors.New("there is no session Lease")

// live reads a session Lease by quorum.
func (s *Sessions) live(ctx context.Context, clusterName string) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	lease, err := s.leases.Get(ctx, identity.SessionLeaseName(clusterName), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, errNoLease
	}
	return lease, err
}

// granted notes a session of this replica, and ends the one it takes over from.
func (s *Sessions) granted(scope identity.Scope, lease *coordinationv1.Lease, complete uint64) (Grant, error) {
	g := Grant{
		scope: scope, sessionID: lease.Annotations[AnnotationSessionID], holder: holderOf(lease), leaseUID: string(lease.UID),
		epoch: epochOf(lease), written: versionOf(lease), complete: complete, number: s.numbers.Add(1),
	}
	s.mu.Lock()
	old, taken := s.local[g.Cluster()]
	if taken && old.leaseUID == g.leaseUID && old.epoch > g.epoch {
		s.mu.Unlock()
		return Grant{}, fmt.Errorf("taking the session of cluster %q: %w", g.Cluster(), ErrFenced) // a newer Take was quicker to get here
	}
	s.local[g.Cluster()] = g
	callbacks := s.lost
	s.mu.Unlock()
	if taken {
		lost := Lost{Cluster: g.Cluster(), SessionID: old.sessionID, Reason: reason.Superseded, Message: "a newer session of the same cluster has taken over"}
		tell(callbacks, lost)
	}
	if now := s.cached(g.Cluster()); now != nil {
		s.compare(now) // what the watch told before g was noted
	}
	return g, nil
}

// Held tells, without asking anybody, whether this replica still counts g as
// the owner. Only Check can confirm it.
func (s *Sessions) Held(g Grant) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	current, ok := s.local[g.Cluster()]
	return ok && current == g
}

// Check asks the apiserver, past every cache, whether g still owns its cluster;
// ErrFenced says that it does not, any other error says nothing.
func (s *Sessions) Check(ctx context.Context, g Grant) error {
	if g == (Grant{}) {
		return ErrFenced
	}
	lease, err := s.live(ctx, g.Cluster())
	switch {
	case errors.Is(err, errNoLease):
		return ErrFenced
	case err != nil:
		return fmt.Errorf("checking who owns cluster %q: %w", g.Cluster(), err)
	case !g.owns(lease):
		return ErrFenced
	}
	return nil
}

// GiveUp has this replica, at once and without asking anybody, no longer count g
// as the owner of its cluster. The Lease says so after Release only: between the
// two nobody is kept from taking the cluster here, and whoever does spares the
// write.
func (s *Sessions) GiveUp(g Grant, lastSeen time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.local[g.Cluster()] == g {
		delete(s.local, g.Cluster())
		s.givenUp[g.sessionID] = lastSeen
	}
}

// Release gives the cluster back, with the time at which the agent was last
// heard of. It does nothing when the cluster has another owner by now. When it
// returns an error, it is tried again by itself.
func (s *Sessions) Release(ctx context.Context, g Grant, lastSeen time.Time) error {
	s.GiveUp(g, lastSeen)
	if s.succeeded(g) {
		s.forgetGivenUp(g.sessionID)
		return nil // a newer session of this replica has it: the Lease says so already
	}
	err := s.modify(ctx, g, func(lease *coordinationv1.Lease) *coordinationv1.Lease { return released(lease, lastSeen) })
	if err != nil && !errors.Is(err, ErrFenced) {
		return fmt.Errorf("releasing the session of cluster %q: %w", g.Cluster(), err)
	}
	s.forgetGivenUp(g.sessionID)
	return nil
}

// succeeded tells whether a newer session of this replica owns g's cluster.
func (s *Sessions) succeeded(g Grant) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	current, held := s.local[g.Cluster()]
	return held && current != g
}

// modify changes the Lease that g owns by compare-and-swap; nil from change
// leaves it as it is. ErrFenced says that g does not own it.
func (s *Sessions) modify(ctx context.Context, g Grant, change func(*coordinationv1.Lease) *coordinationv1.Lease) error {
	if g == (Grant{}) {
		return ErrFenced
	}
	lease := s.newest(g.Cluster())
	for range tries {
		if lease == nil || versionOf(lease) < g.written {
			var err error
			if lease, err = s.live(ctx, g.Cluster()); err != nil && !errors.Is(err, errNoLease) {
				return err
			}
		}
		if lease == nil || !g.owns(lease) {
			return ErrFenced
		}
		wanted := change(lease)
		if wanted == nil {
			return nil
		}
		_, err := s.store(ctx, wanted)
		if err == nil || !movedOn(err) {
			return err
		}
		lease = nil
	}
	return fmt.Errorf("the session Lease of cluster %q changed %d times meanwhile", g.Cluster(), tries)
}

func (s *Sessions) forgetGivenUp(sessionID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.givenUp, sessionID)
}
