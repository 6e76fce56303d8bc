// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/stats"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/internal/wire"
)

// frames notes the largest message of each direction, and all bytes of messages,
// as they are on the wire.
type frames struct{ largestIn, largestOut, in, out atomic.Int64 }

func (f *frames) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (f *frames) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (f *frames) HandleConn(context.Context, stats.ConnStats)                       {}

// HandleRPC implements stats.Handler. One stream's messages come one by one.
func (f *frames) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.InPayload:
		f.largestIn.Store(max(f.largestIn.Load(), int64(s.WireLength)))
		f.in.Add(int64(s.WireLength))
	case *stats.OutPayload:
		f.largestOut.Store(max(f.largestOut.Load(), int64(s.WireLength)))
		f.out.Add(int64(s.WireLength))
	}
}

// memory is what an agent holds, without a disk.
type memory struct {
	mu    sync.Mutex
	held  map[wire.Key]wire.Revision
	puts  int
	epoch string
}

// Snapshot, Put, Delete and Forget implement link.Store.
func (m *memory) Snapshot() link.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	entries := make([]wire.Entry, 0, len(m.held))
	for key, rev := range m.held {
		entries = append(entries, wire.Entry{Key: key, Revision: rev})
	}
	return link.Snapshot{StoreEpoch: "memory", HubEpoch: m.epoch, Entries: entries}
}

func (m *memory) Put(_ context.Context, key wire.Key, rev wire.Revision, _ []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held[key] = rev
	m.puts++
	return nil
}

func (m *memory) Delete(_ context.Context, d link.Delete) (link.Verdict, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, d.Key)
	return link.DeleteStored, nil
}

func (m *memory) Forget(context.Context, wire.Key, string) error { return nil }

// Welcomed, Marked, Synced and Release implement link.Hub.
func (m *memory) Welcomed(_ context.Context, w link.Welcome) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch = w.HubEpoch
	return nil
}
func (m *memory) Marked(wire.HighWater)                    {}
func (m *memory) Synced(context.Context, []wire.Key) error { return nil }
func (m *memory) Release(context.Context, string) error    { return nil }

// TestT21_inventory_of_20000_keys begins a session of an agent that holds 20,000
// works, of which 500 have changed on the hub, and 100 are new
// there: so all of the inventory goes over TLS, in frames of at most
// 256 KiB, and only what differs comes back.
func TestT21_inventory_of_20000_keys(t *testing.T) {
	const works, changed, added = 20_000, 500, 100
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t)
		long := strings.Repeat("n", 50)
		for i := range works + added {
			h.put(fmt.Sprintf("%s-%05d", long, i), "content")
		}
		m := &memory{held: map[wire.Key]wire.Revision{}, epoch: "epoch-1"}
		h.see(func() {
			for key, content := range h.objects {
				m.held[key] = content.Revision
			}
			for i := range added {
				delete(m.held, work(fmt.Sprintf("%s-%05d", long, i)))
			}
		})
		require.Len(t, m.held, works)
		for i := range changed {
			h.put(fmt.Sprintf("%s-%05d", long, added+i), "changed")
		}
		config := linkConfig(t, h)
		config.Store, config.Hub = m, m
		config.ClusterReport = func() link.ClusterReport { return link.ClusterReport{KubernetesVersion: "v1", APIServerHealthy: true} }
		l, err := link.New(config)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = l.Run(ctx) })
		defer func() { cancel(); running.Wait() }()

		began := time.Now()
		wanted := map[wire.Key]wire.Revision{}
		h.see(func() {
			for key, content := range h.objects {
				wanted[key] = content.Revision
			}
		})
		same := func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return maps.Equal(wanted, m.held)
		}
		puts := func() int {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.puts
		}
		for !same() {
			require.Less(t, time.Since(began), 5*time.Minute, "what the agent holds does not become what the hub has: %d of %d stored, last error %v", puts(), changed+added, l.State().LastError)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		f := h.frames
		t.Logf("%d KiB in, %d KiB out; the largest messages: %d and %d bytes", f.in.Load()>>10, f.out.Load()>>10, f.largestIn.Load(), f.largestOut.Load())
		require.Equal(t, changed+added, puts(), "what is equal is not sent again")
		require.LessOrEqual(t, f.largestIn.Load(), int64(wire.MaxFrame))
		require.LessOrEqual(t, f.largestOut.Load(), int64(wire.MaxFrame))
		require.Greater(t, f.in.Load(), int64(works*len(long)), "every key was on the wire")
	})
}
