// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

// TestSync_two_random_sets_converge_in_three_round_trips: whatever the agent
// holds, after Welcome it takes at most digests, entries and content.
func TestSync_two_random_sets_converge_in_three_round_trips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.agent.window = &agentv1.Window{Bytes: 16 << 20, Objects: 4096}
		w.agent.storeEpoch = rapid.SampledFrom([]string{"store-1", "store-1", ""}).Draw(t, "store")
		shared := rapid.IntRange(0, 150).Draw(t, "shared")
		for i := range shared {
			w.hub.put(fmt.Sprintf("shared-%d", i), []byte{byte(i)})
			o := w.hub.truth[work(fmt.Sprintf("shared-%d", i))]
			w.agent.holds[work(fmt.Sprintf("shared-%d", i))] = &holding{rev: o.revision()}
		}
		for i := range rapid.IntRange(0, 30).Draw(t, "different") {
			differ(t, w, fmt.Sprintf("differs-%d", i))
		}
		w.connect()
		w.run()

		require.Empty(t, w.agent.faults)
		require.LessOrEqual(t, w.rounds, 3, w.log.String())
		require.Equal(t, 1, w.agent.synced)
		requireSame(t, w)
	})
}

// differ makes a key in which hub and agent differ.
func differ(t *rapid.T, w *world, name string) {
	key := work(name)
	w.hub.put(name, []byte(name))
	o := w.hub.truth[key]
	held := &holding{rev: o.revision()}
	switch rapid.IntRange(0, 6).Draw(t, "how") {
	case 0: // the agent has not heard of it
		return
	case 1: // an older revision
		w.hub.put(name, []byte("newer"))
	case 2: // another object of that name
		held.rev.UID = "other"
	case 3: // a generation that the hub does not have (any more)
		held.rev.Generation = 9
	case 4: // gone from the hub
		w.hub.purge(name)
	case 5: // being deleted
		w.hub.remove(name)
	case 6: // being deleted, and the agent has not heard of it
		w.hub.remove(name)
		return
	}
	w.agent.holds[key] = held
}

// requireSame: the agent holds what the hub has; what the hub has not is known
// to be an orphan.
func requireSame(t require.TestingT, w *world) {
	for key, o := range w.hub.truth {
		h := w.agent.holds[key]
		require.NotNil(t, h, "%s is missing on the agent\n%s", key, w.log.String())
		require.True(t, o.revision().Same(h.rev), "%s: hub %s/%d, agent %s/%d\n%s", key, o.uid, o.generation, h.rev.UID, h.rev.Generation, w.log.String())
		require.Equal(t, o.deleting, h.deleting, key)
		require.False(t, h.orphaned, "%s is taken for an orphan\n%s", key, w.log.String())
	}
	for key, h := range w.agent.holds {
		if _, ok := w.hub.truth[key]; !ok {
			require.True(t, h.orphaned, "%s is left over on the agent\n%s", key, w.log.String())
		}
	}
	stats := w.core.Stats()
	require.Zero(t, stats.Dirty)
	require.Zero(t, stats.UnackedBytes)
	require.Zero(t, stats.UnackedObjects)
	require.False(t, stats.Syncing)
}

// TestSession_survives_whatever_happens: works are created, changed, deleted
// and recreated, connections are cut, replicas with older indexes take over,
// the agent is slow, refuses or asks again. In the end both sides hold the
// same, nothing was sent wrongly, and nothing is left in memory.
func TestSession_survives_whatever_happens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chaos{world: newWorld()}
		c.cfg.AntiEntropy = time.Minute
		c.agent.window = &agentv1.Window{Bytes: 1 << 20, Objects: uint32(rapid.IntRange(1, 20).Draw(t, "window"))}
		c.connect()
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) { c.hub.put(c.name(t), c.content(t)) },
			"put without finalizer": func(t *rapid.T) {
				c.hub.put(c.name(t), []byte("bare"), func(o *object) { o.finalizer = false })
			},
			"delete":        func(t *rapid.T) { c.hub.remove(c.name(t)) },
			"purge":         func(t *rapid.T) { c.hub.purge(c.name(t)) },
			"mark":          func(*rapid.T) { c.marks(); c.step(session.Tick{}) },
			"pull":          func(t *rapid.T) { c.marks(); c.pull(rapid.IntRange(1, 5).Draw(t, "messages")) },
			"process":       func(*rapid.T) { c.process() },
			"run":           func(*rapid.T) { c.run() },
			"pause":         func(t *rapid.T) { c.agent.paused = rapid.Bool().Draw(t, "paused") },
			"finalize":      func(*rapid.T) { c.finalize() },
			"reject":        func(t *rapid.T) { c.agent.rejects[work(c.name(t))] = rapid.Bool().Draw(t, "rejects") },
			"retry":         func(t *rapid.T) { c.agent.retries[work(c.name(t))] = 1 },
			"unreadable":    func(t *rapid.T) { c.hub.unreadable[work(c.name(t))] = rapid.Bool().Draw(t, "unreadable") },
			"quorum":        func(t *rapid.T) { c.noQuorum = rapid.Bool().Draw(t, "off") },
			"slow store":    func(t *rapid.T) { c.slowStore = rapid.Bool().Draw(t, "slow") },
			"persist":       func(*rapid.T) { c.persistAll(); c.step(session.Tick{}) },
			"reconnect":     func(*rapid.T) { c.connect() },
			"remember":      func(*rapid.T) { c.old, c.oldRV = maps.Clone(c.hub.index), c.hub.indexRV },
			"other replica": func(*rapid.T) { c.failOver() },
			"catch up":      func(*rapid.T) { c.hub.catchUp() },
			"compare":       func(*rapid.T) { c.antiEntropy() },
			"time":          func(t *rapid.T) { c.wait(time.Duration(rapid.IntRange(1, 100).Draw(t, "s")) * time.Second) },
			"":              c.check,
		})
		c.settle(t)
	})
}

type chaos struct {
	*world
	old   map[wire.Key]object
	oldRV uint64
}

func (c *chaos) name(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "name")
}

func (c *chaos) content(t *rapid.T) []byte {
	size := rapid.SampledFrom([]int{10, 2000, 40_000, 90_000}).Draw(t, "size")
	content := fmt.Appendf(nil, "%d ", c.hub.rv)
	return append(content, make([]byte, size)...)
}

// failOver ends the session and begins one at a replica whose index is an older
// one.
func (c *chaos) failOver() {
	if c.old == nil {
		return
	}
	c.hub.index, c.hub.indexRV, c.hub.lagging = maps.Clone(c.old), c.oldRV, true
	c.hub.marks = nil
	c.connect()
}

func (c *chaos) check(t *rapid.T) {
	require.Empty(t, c.agent.faults, c.log.String())
	require.LessOrEqual(t, c.maxFrame, wire.MaxFrame)
	if c.closed != nil { // too long without a frame
		require.True(t, c.agent.paused, c.log.String())
		c.agent.paused = false
		c.connect()
	}
	for _, e := range c.effects {
		if alarm, ok := e.(session.CountMismatch); ok {
			require.True(t, c.hub.lagging, "false alarm: %v\n%s", alarm, c.log.String())
		}
	}
	c.effects = nil
	stats := c.core.Stats()
	require.LessOrEqual(t, stats.UnackedObjects, int(c.agent.window.GetObjects()))
	require.LessOrEqual(t, stats.UnackedBytes, c.agent.window.GetBytes())
	for key, h := range c.agent.holds {
		if o, ok := c.hub.truth[key]; ok && h.orphaned {
			require.NotEqual(t, o.uid, h.rev.UID, "%s lives and its delete was sent\n%s", key, c.log.String())
		}
	}
}

// settle ends all trouble and lets some time pass.
func (c *chaos) settle(t *rapid.T) {
	c.agent.paused, c.noQuorum, c.slowStore = false, false, false
	clear(c.agent.rejects)
	clear(c.hub.unreadable)
	c.hub.catchUp()
	c.persistAll()
	c.wait(3 * time.Minute)
	c.finalize()
	c.connect() // the rejected ones, and the ones whose finalizing was cut off
	c.wait(time.Minute)
	for key, h := range c.agent.holds {
		if h.deleting {
			h.finalized = false
			c.tell(c.agent.status(key, "", true))
			c.run()
		}
	}
	c.wait(3 * time.Minute)
	maps.DeleteFunc(c.agent.holds, func(_ wire.Key, h *holding) bool { return h.orphaned }) // their grace is over
	c.wait(13 * time.Minute)                                                                // anti-entropy
	c.finalize()
	c.check(t)
	for key, o := range c.hub.truth {
		require.False(t, o.deleting, "%s is never finished\n%s", key, c.log.String())
	}
	requireSame(t, c.world)
	c.connect()
	c.run()
	require.Equal(t, agentv1.SyncMode_SYNC_MODE_IN_SYNC, c.core.Stats().Mode, c.log.String())
}
