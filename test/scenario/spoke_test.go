// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"k8s.io/utils/clock"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/store"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/rpc/rpctest"
)

// spoke is an agent without an executor: its durable store and its link.
type spoke struct {
	t     *testing.T
	hub   *hub
	dir   string
	store *store.Store
	link  *link.Link
	stop  func()

	mu   sync.Mutex
	puts []string // names of the works that were delivered, in order
}

// bubble runs a story in virtual time.
func bubble(t *testing.T, story func(t *testing.T, h *hub, s *spoke)) {
	t.Helper()
	dir := t.TempDir() // outside the bubble: removing it needs no virtual time
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t)
		s := &spoke{t: t, hub: h, dir: dir}
		s.start()
		defer func() { s.stop() }()
		story(t, h, s)
	})
}

// start opens the store, as after SIGKILL, and connects.
func (s *spoke) start() {
	s.t.Helper()
	log := slog.New(slog.DiscardHandler)
	backend, err := store.NewFiles(s.dir)
	require.NoError(s.t, err)
	s.store, err = store.Open(s.t.Context(), store.Config{Backend: backend, Log: log, Clock: clock.RealClock{}, HeldChanged: func() { s.link.ReportCluster() }})
	require.NoError(s.t, err)
	config := linkConfig(s.t, s.hub)
	config.Store, config.Hub, config.ClusterReport, config.StoreParallel = s, s, s.report, 1
	s.link, err = link.New(config)
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.link.Run(ctx) })
	running.Go(func() { _ = s.store.Run(ctx) })
	s.stop = func() { cancel(); running.Wait() }
	s.until("the session", func() bool { return s.link.State().Connected })
}

// linkConfig is that of the hub's agent, but for what it keeps.
func linkConfig(t *testing.T, h *hub) link.Config {
	t.Helper()
	return link.Config{
		Endpoints: []string{"hub:443"}, HubID: rpctest.HubID,
		Identity:    link.Identity{AgentID: "agent", InstanceID: rpctest.HubID + time.Now().String(), Fingerprint: "fp", Version: "test"},
		Credentials: credentials{h.server.PKI.ClientTLS(h.keys.Agent(t, "c1", "uid", 1000*time.Hour))},
		Log:         slog.New(slog.DiscardHandler),
		Dial:        func(ctx context.Context, _ string) (net.Conn, error) { return h.server.DialRaw(ctx) },
		Random:      func() float64 { return 0.5 },
	}
}

// until lets time pass in steps of a second until something is true.
func (s *spoke) until(what string, true_ func() bool) {
	s.t.Helper()
	for range 4 * 60 * 60 {
		synctest.Wait()
		if true_() {
			return
		}
		time.Sleep(time.Second)
	}
	require.FailNow(s.t, "it does not come about", what)
}

// wait lets virtual time pass.
func (s *spoke) wait(d time.Duration) { time.Sleep(d) }

// settle lets a minute pass, enough for everything that needs no grace.
func (s *spoke) settle() {
	time.Sleep(time.Minute)
	synctest.Wait()
}

// delivered returns what was delivered since the last call.
func (s *spoke) delivered() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.puts
	s.puts = nil
	return out
}

// has tells what the agent holds, and how far its delete is.
func (s *spoke) has(name string) (held bool, deletion store.Delete) {
	object, ok, err := s.store.Get(work(name))
	require.NoError(s.t, err)
	return ok, object.Delete
}

func (s *spoke) report() link.ClusterReport {
	out := link.ClusterReport{KubernetesVersion: "v1", APIServerHealthy: true, Observed: time.Now()}
	for _, b := range s.store.Held() {
		out.Held = append(out.Held, link.HeldBatch{ID: b.ID, Reason: string(b.Reason), Entries: b.Entries, Since: b.Since})
	}
	return out
}

// Snapshot, Put, Delete and Forget implement link.Store as the agent's root does.
func (s *spoke) Snapshot() link.Snapshot {
	n := s.store.Snapshot()
	return link.Snapshot{StoreEpoch: n.StoreEpoch, HubEpoch: n.HubEpoch, HighWater: n.HighWater, Entries: n.Entries}
}

func (s *spoke) Put(ctx context.Context, key wire.Key, rev wire.Revision, content []byte) error {
	s.mu.Lock()
	s.puts = append(s.puts, key.Name)
	s.mu.Unlock()
	return s.store.Put(ctx, key, rev, slices.Clone(content))
}

func (s *spoke) Delete(ctx context.Context, d link.Delete) (link.Verdict, error) {
	if !d.Orphan {
		_, err := s.store.Request(ctx, d.Key, d.Revision.UID, d.Revision.Generation)
		return link.DeleteStored, err
	}
	verdict, err := s.store.Orphan(ctx, d.Key, d.Revision.UID, d.Batch)
	if verdict == store.HeldBack {
		return link.DeleteHeld, err
	}
	return link.DeleteStored, err
}

func (s *spoke) Forget(ctx context.Context, key wire.Key, uid string) error {
	return s.store.Forget(ctx, key, uid)
}

// Welcomed, Marked, Synced and Release implement link.Hub likewise.
func (s *spoke) Welcomed(ctx context.Context, w link.Welcome) error {
	return s.store.Welcomed(ctx, store.Hub{ID: w.HubID, Epoch: w.HubEpoch, HighWater: w.HighWater, Grace: w.OrphanGrace})
}
func (s *spoke) Marked(mark wire.HighWater) { s.store.Marked(mark) }
func (s *spoke) Synced(ctx context.Context, failed []wire.Key) error {
	return s.store.Synced(ctx, failed)
}
func (s *spoke) Release(ctx context.Context, id string) error { return s.store.Release(ctx, id) }

// credentials never end within a story.
type credentials struct{ tls *tls.Config }

func (c credentials) TLS(string) (*tls.Config, error)                       { return c.tls, nil }
func (c credentials) RenewAt() time.Time                                    { return time.Time{} }
func (c credentials) Renew(context.Context, grpc.ClientConnInterface) error { return nil }
func (c credentials) Trust(context.Context, *agentv1.TrustBundle) error     { return nil }
func (c credentials) TrustVersion() uint64                                  { return 0 }
