// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/scale/bare"
	"fairlead.dev/fairlead/test/scale/child"
	"fairlead.dev/fairlead/test/scale/fleet"
	"fairlead.dev/fairlead/test/scale/hub"
	"fairlead.dev/fairlead/test/scale/stat"
	"fairlead.dev/fairlead/test/scale/world"
)

// patience is how long anything may take: thousands of clusters take some minutes
// to be accepted where all parts share two cores.
const patience = 15 * time.Minute

// bench is one measurement with all its parts.
type bench struct {
	cfg   config
	dir   string
	began time.Time
	world *world.World
	watch *world.Watch

	hub, fleet, bare, clients *child.Process
	hubAt                     hub.Config
	bareAt                    string

	held *env.Proxy
	ends []func() // of what is no process

	report report
}

func newBench(ctx context.Context, cfg config) (*bench, error) {
	dir, err := os.MkdirTemp("", "fairlead-scale-")
	if err != nil {
		return nil, err
	}
	b := &bench{cfg: cfg, dir: dir, began: time.Now()}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b.world, err = world.Start(ctx, cfg.agents, log)
	return b, err
}

// step is one part of the measurement; each needs those before it.
type step struct {
	name string
	do   func(context.Context) error
}

func (b *bench) steps() []step {
	return []step{
		{"baseline: bare gRPC streams", b.startBare},
		{"hub: clusters accepted, agents enrolled", b.prepare},
		{"hub: agents connect for the first time", b.introduce},
		{"hub: started again, agents connect", b.connect},
		{"memory of idle agents", b.idleMemory},
		{"CPU of idle agents", b.idleCPU},
		{"works delivered", b.works},
		{"latency", b.latency},
		{"statuses", b.statuses},
		{"statuses that change nothing", b.sameStatuses},
		{"reconnect storms", b.storms},
		{"memory after traffic", b.busyMemory},
		{"hub: started again, with a watch that can be held", b.connectHeld},
		{"works that come at once", b.bursts},
	}
}

// without leaves out steps whose names match a regular expression.
func without(steps []step, pattern string) ([]step, error) {
	if pattern == "" {
		return steps, nil
	}
	skip, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("-skip: %w", err)
	}
	return slices.DeleteFunc(steps, func(s step) bool { return skip.MatchString(s.name) }), nil
}

// run takes the steps in order.
func (b *bench) run(ctx context.Context, steps []step) error {
	for _, s := range steps {
		began := time.Now()
		stop, err := b.profiled(s.name)
		if err != nil {
			return err
		}
		if err := errors.Join(s.do(ctx), stop()); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(began).Seconds(), s.name)
	}
	b.report.took = time.Since(b.began)
	return nil
}

// close ends everything. After a failure the logs are kept.
func (b *bench) close(failed bool) error {
	var errs []error
	if b.watch != nil {
		errs = append(errs, b.watch.Stop())
	}
	for _, p := range []*child.Process{b.fleet, b.clients, b.hub, b.bare} {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	for _, end := range b.ends {
		end()
	}
	if b.world != nil {
		b.world.Stop()
	}
	if failed || b.cfg.keep {
		fmt.Fprintln(os.Stderr, "logs are in", b.dir)
	} else {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}

// startBare connects the baseline's clients and measures them.
func (b *bench) startBare(ctx context.Context) (err error) {
	if err := bare.WriteCA(b.dir); err != nil {
		return err
	}
	if b.bare, err = child.Start(ctx, b.dir, partBare, partBare, b.dir); err != nil {
		return err
	}
	if b.clients, err = child.Start(ctx, b.dir, partClients, partClients, b.dir); err != nil {
		return err
	}
	if err := b.bare.Call("listen", child.None{}, &b.bareAt); err != nil {
		return err
	}
	before, err := b.bare.Collect()
	if err != nil {
		return err
	}
	attach, err := b.bareConnect(nil)
	if err != nil {
		return err
	}
	after, err := b.bare.Collect()
	if err != nil {
		return err
	}
	b.report.bareAttach, b.report.bareIdle = attach, b.perAgent(before, after)
	return nil
}

// prepare has a hub set the clusters up, and gives their agents certificates.
func (b *bench) prepare(ctx context.Context) error {
	if err := b.configureHub(); err != nil {
		return err
	}
	if err := b.startHub(ctx); err != nil {
		return err
	}
	before, err := b.world.Requests(ctx)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := b.world.Accept(bounded); err != nil {
		return err
	}
	after, err := b.world.Requests(ctx)
	if err != nil {
		return err
	}
	b.report.acceptance = after.Since(before)
	if err := b.stopHub(); err != nil {
		return err
	}
	setup, err := b.world.Enroll(ctx)
	if err != nil {
		return err
	}
	setup.Address = b.hubAt.Agents
	if err := writeJSON(b.fleetFile(), setup); err != nil {
		return err
	}
	b.fleet, err = child.Start(ctx, b.dir, partFleet, partFleet, b.fleetFile())
	return err
}

func (b *bench) hubFile() string   { return filepath.Join(b.dir, "hub.json") }
func (b *bench) fleetFile() string { return filepath.Join(b.dir, "fleet.json") }

func (b *bench) configureHub() error {
	b.hubAt.Kubeconfig, b.hubAt.Profiled = b.world.Plane.Kubeconfig(), b.cfg.profile != ""
	for _, address := range []*string{&b.hubAt.Agents, &b.hubAt.HTTP} {
		free, err := house.FreeAddress()
		if err != nil {
			return err
		}
		*address = free
	}
	return writeJSON(b.hubFile(), b.hubAt)
}

func writeJSON(file string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

func (b *bench) startHub(ctx context.Context) (err error) {
	if b.hub, err = child.Start(ctx, b.dir, partHub, partHub, b.hubFile()); err != nil {
		return err
	}
	return until(ctx, 50*time.Millisecond, func() (bool, error) {
		_, err := b.ask(ctx, "/readyz")
		return err == nil, nil
	})
}

func (b *bench) stopHub() error {
	hub := b.hub
	b.hub = nil
	return hub.Stop()
}

// introduce has every agent connect for the first time in its life, which makes
// what is kept of it from then on, and ends the hub.
func (b *bench) introduce(ctx context.Context) (err error) {
	if err := b.startHub(ctx); err != nil {
		return err
	}
	if b.report.firstAttach, err = b.attach(ctx); err != nil {
		return err
	}
	if err := b.fleet.Call("stop", child.None{}, nil); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	return b.stopHub()
}

// attach starts the fleet, all agents at once.
func (b *bench) attach(ctx context.Context) (cost, error) {
	var had fleet.Counts
	if err := b.fleet.Call("counts", child.None{}, &had); err != nil {
		return cost{}, err
	}
	return b.spendAndCount(ctx, func() error {
		if err := b.fleet.Call("start", child.None{}, nil); err != nil {
			return err
		}
		if err := b.fleet.Call("synced", stat.Goal{Count: had.Synced + b.cfg.agents, Within: patience}, nil); err != nil {
			return err
		}
		return b.settle(ctx)
	})
}

// connect measures a hub that knows all clusters, before and after their agents
// come.
func (b *bench) connect(ctx context.Context) (err error) {
	if err := b.startHub(ctx); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	if b.report.hubAlone, err = b.hub.Collect(); err != nil {
		return err
	}
	alone, err := b.spend(func() error { return pause(ctx, b.cfg.idle/4) })
	if err != nil {
		return err
	}
	b.report.aloneCPU = alone
	if b.report.attach, err = b.attach(ctx); err != nil {
		return err
	}
	b.watch, err = b.world.Watch(ctx)
	return err
}

// ask reads from the hub's HTTP listener.
func (b *bench) ask(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.hubAt.HTTP+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, response.Status, text)
	}
	return text, err
}

// until calls check until it is true.
func until(ctx context.Context, every time.Duration, check func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ok, err := check(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
