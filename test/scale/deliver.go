// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"fairlead.dev/fairlead/test/scale/bare"
	"fairlead.dev/fairlead/test/scale/child"
	"fairlead.dev/fairlead/test/scale/fleet"
	"fairlead.dev/fairlead/test/scale/stat"
	"fairlead.dev/fairlead/test/scale/world"
)

const (
	pushBytes  = 2 << 10 // as in the baseline's own limits
	pushRounds = 8       // of the baseline, for each round of works
)

func workName(round int) string { return fmt.Sprintf("work-%d", round) }

// works creates one work per cluster, again and again, and beside it pushes as
// many messages over the bare streams.
func (b *bench) works(ctx context.Context) error {
	for round := range b.cfg.repeats {
		for range pushRounds {
			each, err := b.push()
			if err != nil {
				return err
			}
			b.report.barePush = append(b.report.barePush, each)
		}
		c, err := b.deliver(ctx, round)
		if err != nil {
			return err
		}
		b.report.works = append(b.report.works, c)
		slow, err := b.trickle(each(c.wall, b.cfg.agents))
		if err != nil {
			return err
		}
		b.report.bareSlow = append(b.report.bareSlow, slow)
	}
	return nil
}

// trickle sends over one bare stream after the other, as slowly as works came.
func (b *bench) trickle(every time.Duration) (time.Duration, error) {
	var before int
	if err := b.clients.Call("received", stat.Goal{}, &before); err != nil {
		return 0, err
	}
	used, err := b.bareSpend(func() error {
		if err := b.bare.Call("trickle", bare.Trickle{Messages: b.cfg.agents, Bytes: pushBytes, Every: every}, nil); err != nil {
			return err
		}
		return b.clients.Call("received", stat.Goal{Count: before + b.cfg.agents, Within: patience}, nil)
	})
	return each(used, b.cfg.agents), err
}

func (b *bench) deliver(ctx context.Context, round int) (cost, error) {
	var had fleet.Counts
	if err := b.fleet.Call("counts", child.None{}, &had); err != nil {
		return cost{}, err
	}
	return b.spendAndCount(ctx, func() error {
		if err := b.world.CreateWorks(ctx, workName(round)); err != nil {
			return err
		}
		return b.fleet.Call("stored", stat.Goal{Count: had.Stored + b.cfg.agents, Within: patience}, nil)
	})
}

// push sends one message over each bare stream and waits for all.
func (b *bench) push() (time.Duration, error) {
	var before int
	if err := b.clients.Call("received", stat.Goal{}, &before); err != nil {
		return 0, err
	}
	used, err := b.bareSpend(func() error {
		var sent int
		if err := b.bare.Call("push", pushBytes, &sent); err != nil {
			return err
		}
		return b.clients.Call("received", stat.Goal{Count: before + sent, Within: patience}, nil)
	})
	return each(used, b.cfg.agents), err
}

const (
	latencySamples = 500
	latencyPace    = 10 * time.Millisecond
)

// latency changes one work after the other, slowly.
func (b *bench) latency(ctx context.Context) error {
	samples := min(latencySamples, b.cfg.agents)
	if err := b.clients.Call("latencies", child.None{}, nil); err != nil { // of before
		return err
	}
	if err := b.bare.Call("trickle", bare.Trickle{Messages: samples, Bytes: pushBytes, Every: latencyPace}, nil); err != nil {
		return err
	}
	if err := b.fleet.Call("arrivals", child.None{}, nil); err != nil { // of before
		return err
	}
	var had fleet.Counts
	if err := b.fleet.Call("counts", child.None{}, &had); err != nil {
		return err
	}
	b.watch.Record()
	b.watch.Expect(`"touched":"latency"`)
	answered, err := b.touch(ctx, samples)
	if err != nil {
		return err
	}
	if err := b.fleet.Call("stored", stat.Goal{Count: had.Stored + samples, Within: patience}, nil); err != nil {
		return err
	}
	if _, err := b.watch.Await(ctx, stat.Goal{Count: samples, Within: patience}); err != nil { // agents may be faster
		return err
	}
	var arrivals []fleet.Arrival
	if err := b.fleet.Call("arrivals", child.None{}, &arrivals); err != nil {
		return err
	}
	b.report.latency, b.report.latencyAll = delays(arrivals, b.watch.Recorded(), answered)
	return b.clients.Call("latencies", child.None{}, &b.report.bareLatency)
}

// touch changes one work in each of some clusters and returns when the
// apiserver had answered.
func (b *bench) touch(ctx context.Context, samples int) (map[string]time.Time, error) {
	answered := map[string]time.Time{}
	ticker := time.NewTicker(latencyPace)
	defer ticker.Stop()
	for _, cluster := range b.world.Clusters[:samples] {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
		if err := b.world.Touch(ctx, cluster, workName(0), "latency"); err != nil {
			return nil, err
		}
		answered[cluster] = time.Now()
	}
	return answered, nil
}

// delays are from when any watcher could see a change, and from when its writer
// had the answer, to when the agent had stored it.
func delays(arrivals []fleet.Arrival, seen []world.Seen, answered map[string]time.Time) (sinceSeen, sinceAnswer []time.Duration) {
	at := map[string]time.Time{}
	for _, s := range seen {
		if s.Name == workName(0) && s.Label != "" {
			if _, again := at[s.Cluster]; !again {
				at[s.Cluster] = s.At
			}
		}
	}
	for _, a := range arrivals {
		if when, ok := at[a.Cluster]; ok && a.Name == workName(0) {
			sinceSeen = append(sinceSeen, a.At.Sub(when))
			sinceAnswer = append(sinceAnswer, a.At.Sub(answered[a.Cluster]))
		}
	}
	return sinceSeen, sinceAnswer
}
