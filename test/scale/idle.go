// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"fairlead.dev/fairlead/test/scale/child"
	"fairlead.dev/fairlead/test/scale/stat"
)

// idleMemory compares the hub with what it was before the agents came.
func (b *bench) idleMemory(ctx context.Context) error {
	asItIs, err := b.hub.RSS()
	if err != nil {
		return err
	}
	after, err := b.hub.Collect()
	if err != nil {
		return err
	}
	b.report.hubIdle = b.perAgent(b.report.hubAlone, after)
	b.report.hubAsItIs, b.report.hubTotal = asItIs, after.RSS
	b.report.goroutines = float64(after.Goroutines-b.report.hubAlone.Goroutines) / float64(b.cfg.agents)
	return ctx.Err()
}

// idleCPU looks at both servers doing nothing.
func (b *bench) idleCPU(ctx context.Context) error {
	if err := b.settle(ctx); err != nil {
		return err
	}
	var err error
	b.report.bareIdleCPU, err = b.bareSpend(func() error {
		b.report.idleCPU, err = b.spend(func() error { return pause(ctx, b.cfg.idle) })
		return err
	})
	return err
}

// perSecond is CPU in ms per second.
func perSecond(used, wall time.Duration) float64 {
	return 1000 * used.Seconds() / max(wall.Seconds(), 0.001)
}

// busyMemory is what goes with the agents when they go, after all they did.
func (b *bench) busyMemory(ctx context.Context) error {
	const big = 8 << 10 // two statuses that fill a TLS record
	for range 2 {
		if err := b.bareUpstream(big); err != nil {
			return err
		}
	}
	with, err := b.hub.Collect()
	if err != nil {
		return err
	}
	bareWith, err := b.bare.Collect()
	if err != nil {
		return err
	}
	if err := b.fleet.Call("stop", child.None{}, nil); err != nil {
		return err
	}
	if err := b.clients.Call("hangup", child.None{}, nil); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	without, err := b.hub.Collect()
	if err != nil {
		return err
	}
	bareWithout, err := b.bare.Collect()
	if err != nil {
		return err
	}
	b.report.hubBusy, b.report.bareBusy = b.perAgent(without, with), b.perAgent(bareWithout, bareWith)
	b.report.leftGoroutines = without.Goroutines - b.report.hubAlone.Goroutines
	return nil
}

func (b *bench) bareUpstream(bytes int) error {
	var before, sent int
	if err := b.bare.Call("received", stat.Goal{}, &before); err != nil {
		return err
	}
	if err := b.clients.Call("send", bytes, &sent); err != nil {
		return err
	}
	return b.bare.Call("received", stat.Goal{Count: before + sent, Within: patience}, nil)
}
