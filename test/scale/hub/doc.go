// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package hub runs the hub in a process of its own: the same server.Server that
// «hub serve» runs, beside a connection to the parent that can have it collect
// garbage and take profiles, which «hub serve» offers to nobody.
package hub

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"

	"fairlead.dev/fairlead/internal/obs"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/test/scale/child"
)

// heapRate is in bytes for each sample.
const heapRate = 64 << 10

var errStopped = errors.New("the parent has ended the hub")

// Config is what the parent says. A hub that is started again at the same
// address is the same hub to its agents.
type Config struct {
	Kubeconfig, Agents, HTTP string
	// Profiled makes heap profiles exact enough for a few hundred agents.
	Profiled bool
}

// Run is the hub's process; file has its Config. It stops when its parent closes
// the connection.
func Run(ctx context.Context, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var config Config
	if err := json.Unmarshal(text, &config); err != nil { //nolint:musttag // both ends are this program
		return err
	}
	if config.Profiled {
		runtime.MemProfileRate = heapRate
	}
	log, err := obs.NewLogger(os.Stderr, obs.FormatJSON, 0)
	if err != nil {
		return err
	}
	obs.RouteKubernetes(log)
	slog.SetDefault(log)
	cfg := server.Default()
	cfg.Kubeconfig, cfg.Log = config.Kubeconfig, log
	cfg.AgentListen, cfg.AdminListen, cfg.HTTPListen = config.Agents, "127.0.0.1:0", config.HTTP
	cfg.Endpoints = []string{"127.0.0.1"}
	cfg.MaxConnectionsPerSource = 0 // all agents come from one address
	cfg.DrainTime = 0
	hub, err := server.New(cfg)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return hub.Run(ctx) })
	group.Go(func() error {
		err := child.Serve(ctx, os.Stdin, os.Stdout, nil)
		return errors.Join(err, errStopped)
	})
	if err := group.Wait(); !errors.Is(err, errStopped) {
		return err
	}
	return nil
}
