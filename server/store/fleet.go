// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"fairlead.dev/fairlead/internal/identity"
)

// List returns all sessions of all replicas, released ones too, in the order of
// their clusters, as the cache has them.
func (s *Sessions) List() []Session {
	var all []Session
	for _, object := range s.cache.GetStore().List() {
		lease, ok := object.(*coordinationv1.Lease)
		if ok && lease.Labels[LabelLease] == LeaseSession {
			all = append(all, s.complete(sessionOf(lease)))
		}
	}
	slices.SortFunc(all, func(a, b Session) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return all
}

// Get returns the last session of a cluster, as the cache has it.
func (s *Sessions) Get(clusterName string) (Session, bool) {
	lease := s.cached(clusterName)
	if lease == nil {
		return Session{}, false
	}
	return s.complete(sessionOf(lease)), true
}

// complete adds what the replica's Lease says.
func (s *Sessions) complete(session Session) Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	session.Live = s.alive(session)
	seen, known := s.replicas[session.Replica]
	if known {
		session.AdminAddress = seen.address
	}
	if session.Replica != "" && !session.Live && known && session.LastSeen.IsZero() {
		session.LastSeen = seen.renewed // a replica that died
	}
	return session
}

// Kick asks the replica that holds a session to end it; target is a cluster or a
// session id. It returns the session when the request stands in the Lease; see
// WaitEnded.
func (s *Sessions) Kick(ctx context.Context, target string) (Session, error) {
	session, ok := s.Get(target)
	if !ok {
		all := s.List()
		i := slices.IndexFunc(all, func(have Session) bool { return have.SessionID == target })
		if i < 0 {
			return Session{}, fmt.Errorf("ending session %q: %w", target, ErrNoSession)
		}
		session = all[i]
	}
	if session.Replica == "" {
		return session, fmt.Errorf("ending the session of cluster %q: it is not connected: %w", session.Cluster, ErrNoSession)
	}
	if err := s.annotate(ctx, session.Cluster, AnnotationKick, session.SessionID); err != nil {
		return session, fmt.Errorf("ending the session of cluster %q: %w", session.Cluster, err)
	}
	return session, nil
}

func (s *Sessions) annotate(ctx context.Context, clusterName, key, value string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{key: value}}})
	if err != nil {
		return err
	}
	_, err = s.leases.Patch(ctx, identity.SessionLeaseName(clusterName), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: sessionManager})
	return err
}

// SetSpokeHealthy notes on the session Lease whether the spoke's apiserver is
// healthy, for the controller of availability. Nothing is written without a
// change. ErrFenced says that g no longer owns its cluster.
func (s *Sessions) SetSpokeHealthy(ctx context.Context, g Grant, healthy bool) error {
	value := strconv.FormatBool(healthy)
	err := s.modify(ctx, g, func(lease *coordinationv1.Lease) *coordinationv1.Lease {
		if have, ok := lease.Annotations[AnnotationSpokeHealthy]; have == value || (!ok && healthy) {
			return nil
		}
		lease = lease.DeepCopy()
		lease.Annotations[AnnotationSpokeHealthy] = value // a Lease that g owns has annotations
		return lease
	})
	if err != nil {
		return fmt.Errorf("noting the health of cluster %q: %w", g.Cluster(), err)
	}
	return nil
}

// clockStep is by how much an offset has to change to be noted.
const clockStep = time.Second

// SetClockOffset notes on the session Lease how far the agent's clock is behind
// ours, for the controller that judges it; from one session to the next the note
// stays. Nothing is written for a change of less than a second. ErrFenced says
// that g no longer owns its cluster.
func (s *Sessions) SetClockOffset(ctx context.Context, g Grant, offset time.Duration) error {
	err := s.modify(ctx, g, func(lease *coordinationv1.Lease) *coordinationv1.Lease {
		noted, err := time.ParseDuration(lease.Annotations[AnnotationClockOffset])
		if err == nil && (offset-noted).Abs() < clockStep {
			return nil
		}
		lease = lease.DeepCopy()
		lease.Annotations[AnnotationClockOffset] = offset.Round(time.Millisecond).String()
		return lease
	})
	if err != nil {
		return fmt.Errorf("noting the clock of cluster %q: %w", g.Cluster(), err)
	}
	return nil
}

// WaitEnded returns when the cache shows that a session no longer owns its
// cluster or its replica is dead, or with ctx's error.
func (s *Sessions) WaitEnded(ctx context.Context, clusterName, sessionID string) error {
	return wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(context.Context) (bool, error) {
		session, ok := s.Get(clusterName)
		return !ok || session.SessionID != sessionID || !session.Live, nil
	})
}
