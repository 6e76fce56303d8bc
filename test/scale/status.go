// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"fairlead.dev/fairlead/test/scale/fleet"
	"fairlead.dev/fairlead/test/scale/stat"
)

// transitions are reported of each work in one burst.
const transitions = 10

// statuses has every agent report a burst of transitions of one work, once for
// each round of works, and waits until the apiserver has the last ones.
func (b *bench) statuses(ctx context.Context) error {
	for round := range b.cfg.repeats {
		first := round*transitions + 1
		last := first + transitions - 1
		b.watch.Expect(fleet.Marker(last))
		events := b.watch.Events.Count()
		c, err := b.spendAndCount(ctx, func() error {
			if err := b.fleet.Call("report", fleet.Report{Prefix: workName(round), First: first, Last: last}, nil); err != nil {
				return err
			}
			_, err := b.watch.Await(ctx, stat.Goal{Count: b.cfg.agents, Within: patience})
			return err
		})
		if err != nil {
			return err
		}
		b.report.statuses = append(b.report.statuses, burst{cost: c, events: b.watch.Events.Count() - events})
		if err := b.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// burst is the cost of one, and the writes of works that watchers saw.
type burst struct {
	cost
	events int
}

// sameStatuses restarts the agents, which forget what the hub has persisted, and
// has them report it all again.
func (b *bench) sameStatuses(ctx context.Context) error {
	if _, err := b.attach(ctx); err != nil {
		return err
	}
	before, err := b.persisted(ctx)
	if err != nil {
		return err
	}
	reports := 0
	c, err := b.spendAndCount(ctx, func() error {
		for round := range b.cfg.repeats {
			var n int
			if err := b.fleet.Call("report", fleet.Report{Prefix: workName(round), First: (round + 1) * transitions, Last: (round + 1) * transitions}, &n); err != nil {
				return err
			}
			reports += n
		}
		return until(ctx, 200*time.Millisecond, func() (bool, error) {
			now, err := b.persisted(ctx)
			return now-before >= reports, err
		})
	})
	if err != nil {
		return fmt.Errorf("%d statuses were said again: %w", reports, err)
	}
	b.report.same, b.report.sameReports = c, reports
	return nil
}

// persisted is how many statuses the hub has answered so.
func (b *bench) persisted(ctx context.Context) (int, error) {
	text, err := b.ask(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	n := 0
	err = stat.ParsePrometheus(text, func(s stat.Sample) {
		if s.Labels["code"] == "STATUS_CODE_PERSISTED" {
			n += int(s.Value)
		}
	}, "fairlead_hub_statuses_total")
	return n, err
}
