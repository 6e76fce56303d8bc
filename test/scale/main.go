// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command scale measures the hub with many simulated agents: real agent/link
// over real mTLS, a real apiserver behind the hub, every part in a process of
// its own, and a bare gRPC server with as many clients in the same run, which is
// what the hub's figures are held against. It prints a table of figures, goals
// and verdicts; with -write it also writes RESULTS.md.
//
// CPU per operation and memory are the numbers to keep: all of it shares one
// machine, so what the wall clock says is noise beside them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"fairlead.dev/fairlead/test/scale/bare"
	"fairlead.dev/fairlead/test/scale/fleet"
	"fairlead.dev/fairlead/test/scale/hub"
)

type config struct {
	agents  int
	idle    time.Duration
	repeats int
	write   string
	profile string
	skip    string
	keep    bool
	details bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if isPart(os.Args) {
		err = part(context.WithoutCancel(ctx), os.Args[1], os.Args[2]) // a part ends with its parent
	} else {
		err = measure(ctx)
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "scale: %v\n", err)
		os.Exit(1)
	}
}

// The parts of a measurement that are processes of their own.
const (
	partHub     = "hub"
	partFleet   = "fleet"
	partBare    = "bare"
	partClients = "bare-clients"
)

func isPart(arguments []string) bool {
	return len(arguments) == 3 && !strings.HasPrefix(arguments[1], "-")
}

func part(ctx context.Context, name, argument string) error {
	parts := map[string]func(context.Context, string) error{
		partHub: hub.Run, partFleet: fleet.Run, partBare: bare.Serve, partClients: bare.Clients,
	}
	run := parts[name]
	if run == nil {
		return fmt.Errorf("there is no part %q", name)
	}
	return run(ctx, argument)
}

func measure(ctx context.Context) (err error) {
	var cfg config
	flag.IntVar(&cfg.agents, "agents", 1000, "how many agents")
	flag.DurationVar(&cfg.idle, "idle", time.Minute, "over how long idleness is measured: some intervals of heartbeats (20 s), which come together")
	flag.IntVar(&cfg.repeats, "repeats", 3, "how often what is cheap is repeated; the median counts")
	flag.StringVar(&cfg.write, "write", "", "file to write the table to as well, such as test/scale/RESULTS.md")
	flag.StringVar(&cfg.profile, "profile", "", "folder for CPU and heap profiles of the hub, one per step (costs CPU)")
	flag.StringVar(&cfg.skip, "skip", "", "steps to leave out whose names match this regular expression; their figures are zero")
	flag.BoolVar(&cfg.keep, "keep", false, "keep logs of all parts")
	flag.BoolVar(&cfg.details, "details", false, "also print the apiserver's requests of each step")
	flag.Parse()
	if cfg.agents < 1 || cfg.repeats < 1 || flag.NArg() > 0 {
		return errors.New("usage: scale [-agents N] [-repeats N] [-idle DURATION] [-write FILE] [-profile FOLDER] [-skip REGEXP] [-details] [-keep]")
	}
	if cfg.profile != "" {
		if err := os.MkdirAll(cfg.profile, 0o750); err != nil {
			return err
		}
	}
	b, err := newBench(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(err != nil)) }()
	steps, err := without(b.steps(), cfg.skip)
	if err != nil {
		return err
	}
	if err := b.run(ctx, steps); err != nil {
		return err
	}
	return b.publish()
}
