// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationapply "k8s.io/client-go/applyconfigurations/coordination/v1"
	"k8s.io/client-go/tools/cache"

	"fairlead.dev/fairlead/internal/identity"
)

// orphanedAfter is how old a session Lease of this replica without a session
// has to be before it is released: taking one is quicker.
const orphanedAfter = time.Minute

// Replica is one hub replica.
type Replica struct {
	ID, AdminAddress string
	// Renewed is its last sign of life, on its own clock.
	Renewed time.Time
	Live    bool
}

// Run keeps the cache and this replica's Lease until ctx ends, then signs off.
// It returns nil; trouble is logged and retried.
func (s *Sessions) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	cached := make(chan struct{})
	tasks.Go(func() { s.cache.RunWithContext(ctx) })
	tasks.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), s.handler.HasSynced) {
			close(cached)
		}
	})
	ticker := time.NewTicker(replicaRenew)
	defer ticker.Stop()
	defer s.signOff(ctx)
	for s.tick(ctx); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-cached:
			cached = nil
			s.ready()
		case <-s.doubt:
			s.verify(ctx)
		case <-ticker.C:
			s.tick(ctx)
		}
	}
}

// ready closes synced once the cache is full and this replica's Lease written.
func (s *Sessions) ready() {
	if !s.Synced() && s.handler.HasSynced() && !s.LastRenew().IsZero() {
		close(s.synced)
	}
}

// tick is what is done every few seconds.
func (s *Sessions) tick(ctx context.Context) {
	if err := s.renew(ctx, s.config.Replica); err != nil {
		if ctx.Err() == nil {
			s.log.Warn("this hub replica cannot renew its Lease", "lease", replicaLeaseName(s.config.Replica), "error", err)
		}
		return
	}
	now := s.clock.Now()
	s.lastRenew.Store(&now)
	s.ready()
	s.verify(ctx)
	if s.Synced() && now.Sub(s.swept) > orphanedAfter/2 {
		s.swept = now
		s.releaseOrphans(ctx)
		s.forgetTakeovers()
	}
}

// renew writes this replica's Lease; with holder "" it signs off.
func (s *Sessions) renew(ctx context.Context, holder string) error {
	ctx, cancel := context.WithTimeout(ctx, replicaRenew)
	defer cancel()
	lease := coordinationapply.Lease(replicaLeaseName(s.config.Replica), s.config.Namespace).
		WithLabels(map[string]string{LabelLease: LeaseReplica}).
		WithAnnotations(map[string]string{AnnotationAdminAddress: s.config.AdminAddress}).
		WithSpec(coordinationapply.LeaseSpec().WithHolderIdentity(holder).
			WithLeaseDurationSeconds(int32(replicaDuration / time.Second)).WithRenewTime(metav1.NewMicroTime(s.clock.Now())))
	_, err := s.leases.Apply(ctx, lease, metav1.ApplyOptions{FieldManager: sessionManager, Force: true})
	return err
}

// signOff tells the siblings that this replica is gone. Its context is over.
func (s *Sessions) signOff(ctx context.Context) {
	if s.LastRenew().IsZero() {
		return
	}
	if err := s.renew(context.WithoutCancel(ctx), ""); err != nil {
		s.log.Warn("this hub replica could not sign off; its siblings notice after 20 s", "error", err)
	}
}

// releaseOrphans releases Leases that say that this replica has a session which
// it has not: its release failed, or an earlier process of the same name died.
func (s *Sessions) releaseOrphans(ctx context.Context) {
	now := s.clock.Now()
	for _, object := range s.cache.GetStore().List() {
		lease, ok := object.(*coordinationv1.Lease)
		if !ok || !s.orphaned(lease, now) {
			continue
		}
		have := sessionOf(lease)
		if _, err := s.store(ctx, released(lease, s.lastSeenOf(have))); err != nil {
			s.log.Warn("a session Lease without a session could not be released", "cluster", have.Cluster, "error", err)
			return // the next tick goes on
		}
		s.forgetGivenUp(have.SessionID)
	}
}

func (s *Sessions) orphaned(lease *coordinationv1.Lease, now time.Time) bool {
	if !strings.HasPrefix(holderOf(lease), s.config.Replica+"/") || lease.Labels[LabelLease] != LeaseSession {
		return false
	}
	if since := lease.Spec.AcquireTime; since != nil && now.Sub(since.Time) < orphanedAfter {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.local[lease.Labels[identity.ClusterNameLabel]]
	return !ok || g.sessionID != lease.Annotations[AnnotationSessionID]
}

// lastSeenOf is when a session without an owner in this process was last seen:
// as its release said that failed, or before this process began.
func (s *Sessions) lastSeenOf(session Session) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen, ok := s.givenUp[session.SessionID]; ok {
		return seen
	}
	if session.Since.After(s.started) {
		return session.Since
	}
	return s.started
}

// alive tells whether a session is held by a replica that lives. The lock is held.
func (s *Sessions) alive(session Session) bool {
	if session.Replica == "" {
		return false
	}
	if session.Replica == s.config.Replica {
		g, ok := s.local[session.Cluster]
		return ok && g.sessionID == session.SessionID
	}
	seen, ok := s.replicas[session.Replica]
	return ok && s.replicaLives(seen)
}

func (s *Sessions) replicaLives(seen sighting) bool {
	return seen.live && s.clock.Since(seen.seen) < replicaDuration
}

// Replicas returns all hub replicas that are known, in the order of their ids.
func (s *Sessions) Replicas() []Replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Replica
	for id, seen := range s.replicas {
		all = append(all, Replica{ID: id, AdminAddress: seen.address, Renewed: seen.renewed, Live: s.replicaLives(seen)})
	}
	slices.SortFunc(all, func(a, b Replica) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func replicaLeaseName(id string) string { return fmt.Sprintf("%s-%s", LeaseReplica, id) }

// cached returns the session Lease of a cluster as the cache has it, or nil.
func (s *Sessions) cached(clusterName string) *coordinationv1.Lease {
	object, ok, err := s.cache.GetStore().GetByKey(s.config.Namespace + "/" + identity.SessionLeaseName(clusterName))
	if err != nil || !ok {
		return nil
	}
	lease, _ := object.(*coordinationv1.Lease)
	return lease
}
