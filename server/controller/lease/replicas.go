// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

const (
	pollInterval = 5 * time.Second
	pollTimeout  = 5 * time.Second
	// contactGap is for how long a read may fail before we count as deaf. What the
	// replicas wrote in that time, or could not write, is no evidence.
	contactGap = 15 * time.Second
	// replicaDuration is assumed where a replica's Lease does not say.
	replicaDuration = 20 * time.Second
	// forgetAfter is how long a dead replica is remembered.
	forgetAfter = 24 * time.Hour

	// Agents come back spread over max(minSpread, sessions / spreadRate).
	minSpread  = 2 * time.Second
	spreadRate = 500
)

// replicaState is what is known of one hub replica.
type replicaState struct {
	alive bool
	// seen is when, by our clock, its Lease was last seen to be renewed.
	seen time.Time
}

// observation is what was read of one replica's Lease.
type observation struct {
	replicaState
	renewed  time.Time // as the replica wrote it; only ever compared for equality after the first look
	duration time.Duration
}

// replicas keeps an eye on the Leases of the hub's replicas by reading them
// every few seconds. It reads the apiserver and not a cache, so that a broken
// watch cannot make a living replica look dead; the reads tell besides whether
// we hear the apiserver at all.
type replicas struct {
	live      client.Reader
	cached    client.Reader
	namespace string
	clock     clock.PassiveClock
	log       *slog.Logger
	// wake carries session Leases whose clusters have to be looked at.
	wake chan event.GenericEvent

	polling sync.Mutex // one read at a time

	mu      sync.Mutex
	known   map[string]observation
	heard   time.Time     // the last successful read
	hearing time.Time     // since when reads have been succeeding
	spread  time.Duration // for agents to come back after that
}

// Start polls until ctx ends. The manager runs it on the leader only.
func (r *replicas) Start(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if err := r.poll(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "the Leases of the hub's replicas cannot be read; no cluster turns Unknown meanwhile", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// poll reads the replicas' Leases once and wakes the clusters of every replica
// that has died or come back.
func (r *replicas) poll(ctx context.Context) error {
	r.polling.Lock()
	defer r.polling.Unlock()
	list := &coordinationv1.LeaseList{}
	reading, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	if err := r.live.List(reading, list, client.InNamespace(r.namespace), client.MatchingLabels{KindLabel: KindReplica}); err != nil {
		return fmt.Errorf("listing Leases of replicas in %q: %w", r.namespace, err)
	}
	now := r.clock.Now()
	if err := r.hear(ctx, now); err != nil {
		return err
	}
	changed := r.observe(list.Items, now)
	if len(changed) == 0 {
		return nil
	}
	return r.wakeClusters(ctx, changed)
}

// hear notes a successful read. After a start, or when it is the first in a
// while, the time in which nothing turns Unknown begins anew.
func (r *replicas) hear(ctx context.Context, now time.Time) error {
	r.mu.Lock()
	deaf := now.Sub(r.heard)
	first := r.heard.IsZero()
	r.heard = now
	r.mu.Unlock()
	if !first && deaf <= contactGap {
		return nil
	}
	sessions := &coordinationv1.LeaseList{}
	err := r.cached.List(ctx, sessions, client.InNamespace(r.namespace), client.MatchingLabels{KindLabel: KindSession}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("counting sessions: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hearing = now
	r.spread = max(minSpread, time.Duration(len(sessions.Items))*time.Second/spreadRate)
	for id, o := range r.known {
		if o.alive { // nobody could renew while nobody was heard
			o.seen = now
			r.known[id] = o
		}
	}
	if !first {
		r.log.WarnContext(ctx, "the apiserver is back; clusters get time to be heard from before any turns Unknown", "away", deaf.Round(time.Second), "spread", r.spread)
	}
	return nil
}

// observe takes in what was read and returns the replicas whose state changed.
func (r *replicas) observe(leases []coordinationv1.Lease, now time.Time) map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed, present := map[string]bool{}, map[string]bool{}
	for i := range leases {
		id, ok := strings.CutPrefix(leases[i].Name, replicaPrefix)
		if !ok {
			continue
		}
		present[id] = true
		old, known := r.known[id]
		fresh := old.next(&leases[i], known, now)
		if fresh.alive != old.alive {
			changed[id] = true
		}
		r.known[id] = fresh
	}
	for id, o := range r.known {
		if present[id] {
			continue
		}
		if o.alive { // it said goodbye
			o.alive = false
			r.known[id], changed[id] = o, true
		}
		if now.Sub(o.seen) > forgetAfter {
			delete(r.known, id)
		}
	}
	return changed
}

// next is the observation after looking at the Lease again. Only a renewal that
// we see happen proves life; at the first look the written time has to do.
func (o observation) next(lease *coordinationv1.Lease, known bool, now time.Time) observation {
	out := observation{replicaState: o.replicaState, duration: replicaDuration}
	if s := lease.Spec.LeaseDurationSeconds; s != nil && *s > 0 {
		out.duration = time.Duration(*s) * time.Second
	}
	if lease.Spec.RenewTime != nil {
		out.renewed = lease.Spec.RenewTime.Time
	}
	switch {
	case !known:
		out.seen = now
		out.alive = now.Sub(out.renewed).Abs() < out.duration
	case !out.renewed.Equal(o.renewed):
		out.seen, out.alive = now, true
	default:
		out.alive = o.alive && now.Sub(o.seen) < out.duration
	}
	return out
}

// state returns what is known of a replica, reading once if it is unknown: a new
// replica's first sessions do not wait for the next poll.
func (r *replicas) state(ctx context.Context, id string) (replicaState, error) {
	if s, ok := r.get(id); ok {
		return s, nil
	}
	if err := r.poll(ctx); err != nil {
		return replicaState{}, err
	}
	if s, ok := r.get(id); ok {
		return s, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	missing := observation{replicaState: replicaState{seen: r.clock.Now()}}
	r.known[id] = missing
	return missing.replicaState, nil
}

func (r *replicas) get(id string) (replicaState, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.known[id]
	return o.replicaState, ok
}

// quietUntil is until when no cluster that may be silent for duration turns
// Unknown. While we are deaf it is always a little ahead.
func (r *replicas) quietUntil(now time.Time, duration time.Duration) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heard.IsZero() || now.Sub(r.heard) > contactGap {
		return now.Add(pollInterval)
	}
	return r.hearing.Add(duration + r.spread)
}

// wakeClusters wakes the clusters whose sessions those replicas hold.
func (r *replicas) wakeClusters(ctx context.Context, ids map[string]bool) error {
	sessions := &coordinationv1.LeaseList{}
	err := r.cached.List(ctx, sessions, client.InNamespace(r.namespace), client.MatchingLabels{KindLabel: KindSession}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("listing sessions: %w", err)
	}
	for i := range sessions.Items {
		if !ids[holder(&sessions.Items[i])] {
			continue
		}
		select {
		case r.wake <- event.GenericEvent{Object: &sessions.Items[i]}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
