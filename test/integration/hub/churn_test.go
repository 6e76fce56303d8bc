// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	agentenroll "fairlead.dev/fairlead/agent/enroll"
	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
)

// cupboard is a store in memory, which outlives links as the real one outlives
// processes.
type cupboard struct {
	shelf
	mu       sync.Mutex
	hubEpoch string
	mark     wire.HighWater
	held     map[wire.Key]wire.Revision
}

func (c *cupboard) Snapshot() link.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := link.Snapshot{StoreEpoch: "store", HubEpoch: c.hubEpoch, HighWater: c.mark}
	for key, revision := range c.held {
		s.Entries = append(s.Entries, wire.Entry{Key: key, Revision: revision})
	}
	return s
}

func (c *cupboard) Put(_ context.Context, key wire.Key, revision wire.Revision, _ []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[key] = revision
	return nil
}

func (c *cupboard) Delete(_ context.Context, d link.Delete) (link.Verdict, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, d.Key)
	return link.DeleteStored, nil
}

func (c *cupboard) Welcomed(_ context.Context, w link.Welcome) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hubEpoch, c.mark = w.HubEpoch, w.HighWater
	return nil
}

func (c *cupboard) Marked(mark wire.HighWater) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mark = mark
}

// holds is what is stored, by name.
func (c *cupboard) holds() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := map[string]string{}
	for key, revision := range c.held {
		held[key.Name] = fmt.Sprintf("%s of generation %d", revision.UID, revision.Generation)
	}
	return held
}

// visitor is an agent that comes and goes.
type visitor struct {
	cluster string
	creds   *agentenroll.Credentials
	store   *cupboard
	visits  int
}

// come visits the hub until ctx ends: a process starts, and ends within two seconds,
// with or without having had a session.
func (v *visitor) come(ctx context.Context, hub *running, log *journal) error {
	for ctx.Err() == nil {
		l, err := link.New(link.Config{
			Endpoints: []string{hub.addresses.Agent}, HubID: v.creds.HubID(), Credentials: v.creds, Store: v.store, Hub: v.store,
			Identity: link.Identity{AgentID: "visitor", InstanceID: "i-" + v.cluster, Fingerprint: "fp-" + v.cluster, Version: "test"},
			Log:      slog.New(slog.NewJSONHandler(log, nil)),
		})
		if err != nil {
			return err
		}
		stay, leave := context.WithTimeout(ctx, rand.N(2*time.Second))
		err = l.Run(stay)
		leave()
		if err != nil {
			return err
		}
		v.visits++
	}
	return nil
}

// T1: agents do nothing but connect and disconnect while works change. Ten seconds
// after the end each has what the hub has; that time is asserted by make soak alone,
// with 200 agents, 50 changes a second, for 5 minutes.
func TestT1_agents_come_and_go(t *testing.T) {
	t.Parallel()
	agents, pause, last := 10, 50*time.Millisecond, 5*time.Second
	if house.Soak() {
		agents, pause, last = 200, 20*time.Millisecond, 5*time.Minute
	}
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), func(c *server.Config) { c.LeaderElect = false }).ready()
	all := hub.visitors(t, plane.Unique("t1"), agents)
	log := &journal{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agents' log:\n%s", log)
		}
	})
	const works = 3
	for i := range works * agents {
		hub.create(newWork(all[i%agents].cluster, fmt.Sprintf("w%d", i/agents), "0"))
	}
	churn, end := context.WithTimeout(t.Context(), last)
	defer end()
	var group errgroup.Group
	for _, v := range all {
		group.Go(func() error { return v.come(churn, hub, log) })
	}
	var changers errgroup.Group // one after the other would be as slow as a busy apiserver
	changers.SetLimit(16)
	changes := 0
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for churn.Err() == nil {
		changes++
		work := newWork(all[changes%agents].cluster, fmt.Sprintf("w%d", rand.N(works)), "")
		patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil,
			`{"spec":{"workload":{"manifests":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"w","namespace":"default"},"data":{"value":"%d"}}]}}}`, changes))
		changers.Go(func() error { return hub.kube.Patch(t.Context(), work, patch) })
		select {
		case <-churn.Done():
		case <-ticker.C:
		}
	}
	require.NoError(t, changers.Wait())
	require.NoError(t, group.Wait())
	ended, visits := time.Now(), 0
	for _, v := range all {
		visits += v.visits
		hub.stays(t, v, log)
	}
	until(t, "each agent to have what the hub has", func() error { return hub.equal(t, all) })
	took := time.Since(ended)
	t.Logf("%d agents, %d changes, %d visits in %s; equal after %s", agents, changes, visits, last, took.Round(time.Millisecond))
	require.GreaterOrEqual(t, visits, agents)
	if house.Soak() {
		require.LessOrEqual(t, took, 10*time.Second)
	}
}

// visitors are agents that have enrolled.
func (r *running) visitors(t *testing.T, prefix string, n int) []*visitor {
	t.Helper()
	all := make([]*visitor, n)
	var group errgroup.Group
	for i := range all {
		v := &visitor{cluster: fmt.Sprintf("%s-%d", prefix, i), store: &cupboard{held: map[wire.Key]wire.Revision{}}}
		all[i] = v
		network := &cutter{address: r.addresses.Agent, source: loopback(i)}
		joining, err := agentenroll.New(agentenroll.Config{
			Vault: &memory{}, Log: slog.New(slog.DiscardHandler), Join: r.joinString(v.cluster), Fingerprint: "fp-" + v.cluster, Dial: network.dial,
		})
		require.NoError(t, err)
		group.Go(func() (err error) {
			v.creds, err = joining.Credentials(t.Context())
			return err
		})
	}
	require.NoError(t, group.Wait())
	return all
}

// stays runs the agent's link until the test ends.
func (r *running) stays(t *testing.T, v *visitor, log *journal) {
	t.Helper()
	r.linked(v.creds, log, func(c *link.Config) {
		c.Store, c.Hub, c.Identity.AgentID, c.Identity.InstanceID = v.store, v.store, "visitor", "i-"+v.cluster
	})
}

// equal compares what agents hold with what the hub's apiserver has.
func (r *running) equal(t *testing.T, all []*visitor) error {
	t.Helper()
	var works workv1.ManifestWorkList
	require.NoError(t, r.kube.List(t.Context(), &works))
	published := map[string]map[string]string{}
	for _, v := range all {
		published[v.cluster] = map[string]string{}
	}
	for _, work := range works.Items {
		if of := published[work.Namespace]; of != nil {
			of[work.Name] = fmt.Sprintf("%s of generation %d", work.UID, work.Generation)
		}
	}
	for _, v := range all {
		if held := v.store.holds(); !maps.Equal(held, published[v.cluster]) {
			return fmt.Errorf("%s holds %v of %v", v.cluster, held, published[v.cluster])
		}
	}
	return nil
}
