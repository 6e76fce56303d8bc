// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"time"

	"fairlead.dev/fairlead/test/scale/bare"
	"fairlead.dev/fairlead/test/scale/child"
	"fairlead.dev/fairlead/test/scale/fleet"
	"fairlead.dev/fairlead/test/scale/stat"
)

// stableAfter is how long a session lasts until an agent takes its loss for the
// first one; before, it backs off.
const stableAfter = 11 * time.Second

// storm is one in which all connections break at once.
type storm struct {
	cost
	bare   time.Duration // CPU of the baseline for as many connections
	stored int           // objects that agents were sent again
}

// storms breaks all connections at once, with both key exchanges.
func (b *bench) storms(ctx context.Context) (err error) {
	if b.report.stormFast, err = b.storm(ctx, []tls.CurveID{tls.X25519}); err != nil {
		return err
	}
	b.report.stormHybrid, err = b.storm(ctx, nil)
	return err
}

func (b *bench) storm(ctx context.Context, curves []tls.CurveID) (s storm, err error) {
	if err := b.clients.Call("hangup", child.None{}, nil); err != nil {
		return s, err
	}
	if s.bare, err = b.bareConnect(curves); err != nil {
		return s, err
	}
	var had, now fleet.Counts
	if err := b.fleet.Call("counts", child.None{}, &had); err != nil {
		return s, err
	}
	if err := b.fleet.Call("curves", curves, nil); err != nil {
		return s, err
	}
	if err := pause(ctx, stableAfter); err != nil {
		return s, err
	}
	if err := b.settle(ctx); err != nil {
		return s, err
	}
	s.cost, err = b.spendAndCount(ctx, func() error {
		if err := b.fleet.Call("cut", child.None{}, nil); err != nil {
			return err
		}
		if err := b.fleet.Call("synced", stat.Goal{Count: had.Synced + b.cfg.agents, Within: patience}, nil); err != nil {
			return err
		}
		return b.settle(ctx)
	})
	if err != nil {
		return s, err
	}
	err = b.fleet.Call("counts", child.None{}, &now)
	s.stored = now.Stored - had.Stored
	return s, err
}

// bareConnect connects the baseline's clients and returns the server's CPU.
func (b *bench) bareConnect(curves []tls.CurveID) (time.Duration, error) {
	return b.bareSpend(func() error {
		return b.clients.Call("connect", bare.Connect{Address: b.bareAt, Agents: b.cfg.agents, Curves: curves}, nil)
	})
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
