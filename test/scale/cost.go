// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"fairlead.dev/fairlead/test/scale/child"
	"fairlead.dev/fairlead/test/scale/stat"
)

// cost is what a step used.
type cost struct {
	hub, plane, fleet time.Duration
	wall              time.Duration
	requests          stat.Counts // of the apiserver; nil if nobody asked
}

// spend runs f and returns the CPU that was used meanwhile.
func (b *bench) spend(f func() error) (cost, error) {
	before, began, err := b.used()
	if err != nil {
		return cost{}, err
	}
	if err := f(); err != nil {
		return cost{}, err
	}
	wall := time.Since(began)
	after, _, err := b.used()
	return cost{
		hub: after.hub - before.hub, plane: after.plane - before.plane, fleet: after.fleet - before.fleet, wall: wall,
	}, err
}

// spendAndCount also counts the apiserver's requests, outside of what is timed.
func (b *bench) spendAndCount(ctx context.Context, f func() error) (cost, error) {
	before, err := b.world.Requests(ctx)
	if err != nil {
		return cost{}, err
	}
	c, err := b.spend(f)
	if err != nil {
		return c, err
	}
	after, err := b.world.Requests(ctx)
	c.requests = after.Since(before)
	return c, err
}

func (b *bench) used() (c cost, at time.Time, err error) {
	if c.hub, err = b.hub.CPU(); err != nil {
		return c, at, err
	}
	if c.fleet, err = b.fleet.CPU(); err != nil {
		return c, at, err
	}
	c.plane, err = b.world.CPU()
	return c, time.Now(), err
}

// bareSpend runs f and returns the CPU of the baseline's server.
func (b *bench) bareSpend(f func() error) (time.Duration, error) {
	before, err := b.bare.CPU()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := b.bare.CPU()
	return after - before, err
}

const (
	settleLook  = 250 * time.Millisecond
	settleTimes = 4
	settleLimit = 10 * time.Minute
)

// settle waits until hub and apiserver have nothing more to do: until each takes
// no more CPU than heartbeats and renewals do. What a controller still has to
// write shows with the apiserver, which takes many times what the hub does for it.
func (b *bench) settle(ctx context.Context) error {
	began := time.Now()
	last, _, err := b.used()
	if err != nil {
		return err
	}
	beats := time.Duration(b.cfg.agents) * settleLook / 20_000
	calm := 0
	return until(ctx, settleLook, func() (bool, error) {
		now, at, err := b.used()
		if err != nil {
			return false, err
		}
		calm++
		if now.hub-last.hub > beats+5*time.Millisecond || now.plane-last.plane > beats+25*time.Millisecond {
			calm = 0
		}
		last = now
		if at.Sub(began) > settleLimit {
			return false, fmt.Errorf("hub or apiserver is still busy after %s: is anything else running on this machine?", settleLimit)
		}
		return calm >= settleTimes, nil
	})
}

// each is a cost divided by how many times it was paid for.
func each(total time.Duration, times int) time.Duration {
	return time.Duration(float64(total) / float64(max(times, 1)))
}

// memory is what one agent costs.
type memory struct{ rss, heap, spans, stack float64 } // KiB

func (b *bench) perAgent(before, after child.Usage) memory {
	n := float64(b.cfg.agents) * 1024
	return memory{
		rss:   float64(after.RSS-before.RSS) / n,
		heap:  float64(after.Heap.Heap-before.Heap.Heap) / n,
		spans: float64(after.Spans-before.Spans) / n,
		stack: float64(after.Stack-before.Stack) / n,
	}
}

// profiled takes a CPU profile of the hub until stop is called, and a heap
// profile then, if asked for. Steps that start a hub have none.
func (b *bench) profiled(step string) (stop func() error, err error) {
	if b.cfg.profile == "" || b.hub == nil || b.fleet == nil || strings.HasPrefix(step, "hub:") {
		return func() error { return nil }, nil
	}
	name, err := filepath.Abs(filepath.Join(b.cfg.profile, strings.ReplaceAll(strings.ReplaceAll(step, " ", "-"), ":", "")))
	if err != nil {
		return nil, err
	}
	err = b.hub.Profile(child.ProfileRequest{Kind: "cpu", Begin: true, File: name + ".cpu"})
	return func() error {
		if err := b.hub.Profile(child.ProfileRequest{Kind: "cpu"}); err != nil {
			return err
		}
		return b.hub.Profile(child.ProfileRequest{Kind: "heap", File: name + ".heap"})
	}, err
}
