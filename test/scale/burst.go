// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/scale/child"
	"fairlead.dev/fairlead/test/scale/fleet"
	"fairlead.dev/fairlead/test/scale/stat"
)

// burstSize is how many works are held back at most: they are to fit into what the
// way from the apiserver has in flight, 4 MiB, or not all would come at once.
const burstSize = 1000

// connectHeld starts the hub again with an apiserver of which bursts can hold the
// watch.
func (b *bench) connectHeld(ctx context.Context) error {
	proxy, err := env.NewProxy(env.ProxyConfig{Target: b.world.Plane.RESTConfig()})
	if err != nil {
		return err
	}
	b.held, b.ends = proxy, append(b.ends, proxy.Close)
	if err := b.clients.Call("hangup", child.None{}, nil); err != nil { // they may have gone with their memory measured
		return err
	}
	if _, err := b.bareConnect(nil); err != nil {
		return err
	}
	if err := b.fleet.Call("stop", child.None{}, nil); err != nil {
		return err
	}
	if err := b.stopHub(); err != nil {
		return err
	}
	b.hubAt.Kubeconfig = filepath.Join(b.dir, "held.kubeconfig")
	if err := env.WriteKubeconfig(b.hubAt.Kubeconfig, proxy.RESTConfig()); err != nil {
		return err
	}
	if err := writeJSON(b.hubFile(), b.hubAt); err != nil {
		return err
	}
	if err := b.startHub(ctx); err != nil {
		return err
	}
	_, err = b.attach(ctx)
	return err
}

// bursts has works come to the hub all at once, which the apiserver is too slow for:
// they are created while the hub's watch is held. What is left is the hub's own work,
// and the agents' acknowledgements, which the baseline has not.
func (b *bench) bursts(ctx context.Context) error {
	for round := range b.cfg.repeats * pushRounds / 2 {
		if err := b.burst(ctx, round); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) burst(ctx context.Context, round int) error {
	bare, err := b.push()
	if err != nil {
		return err
	}
	var had fleet.Counts
	if err := b.fleet.Call("counts", child.None{}, &had); err != nil {
		return err
	}
	size := min(burstSize, b.cfg.agents)
	thaw := b.held.Freeze(env.Match{Verbs: []string{"watch"}, Resources: []string{"manifestworks"}})
	defer thaw()
	first := round * size % b.cfg.agents
	clusters := slices.Concat(b.world.Clusters[first:], b.world.Clusters[:first])[:size]
	if err := b.world.CreateWorks(ctx, fmt.Sprintf("burst-%d", round), clusters...); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil { // the last of them are on their way
		return err
	}
	c, err := b.spend(func() error {
		thaw()
		return b.fleet.Call("stored", stat.Goal{Count: had.Stored + size, Within: patience}, nil)
	})
	if err != nil {
		return err
	}
	b.report.bursts = append(b.report.bursts, each(c.hub, size))
	b.report.bareBursts = append(b.report.bareBursts, bare)
	return nil
}
