// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/server/session"
)

// way is the link to an agent that stores one frame after the other. It takes
// whatever is sent: what is sent too far ahead waits in it.
type way struct {
	*world
	rate    float64       // bytes a second
	latency time.Duration // one way
	store   time.Duration // of one frame

	sent, stored time.Time // when the last frame will have left, and been stored
	transit      []transit
	deleted      time.Time // when a delete was stored
	before       int       // upserts that were stored until then
	deltas       int       // that were sent
}

type transit struct {
	m  *agentv1.SessionResponse
	at time.Time // when its acknowledgement is back
}

// newWay is a session in sync with one work, over a way.
func newWay(rate float64, latency, store time.Duration) *way {
	return &way{world: connected("victim"), rate: rate, latency: latency, store: store}
}

// put makes many works at once.
func (w *way) put(n, size int) {
	for i := range n {
		w.hub.put(fmt.Sprintf("w-%04d", i), bytes.Repeat([]byte("x"), size))
	}
}

// send takes from the core whatever it has.
func (w *way) send() {
	w.marks()
	w.step(session.Tick{})
	for m := w.next(); m != nil; m = w.next() {
		w.sent = later(w.sent, w.now).Add(time.Duration(float64(proto.Size(m)) / w.rate * float64(time.Second)))
		at := w.sent.Add(w.latency)
		if m.GetDelta() != nil {
			w.deltas++
			w.stored = later(w.stored, at).Add(w.store)
			at = w.stored
		}
		w.transit = append(w.transit, transit{m: m, at: at.Add(w.latency)})
	}
}

// advance goes on to the next acknowledgement; false when there is none left.
func (w *way) advance() bool {
	w.send()
	if len(w.transit) == 0 {
		return false
	}
	next := w.transit[0]
	w.transit = w.transit[1:]
	w.now = later(w.now, next.at)
	removes := len(next.m.GetDelta().GetChanges()) > 0 && next.m.GetDelta().GetChanges()[0].GetDelete() != nil
	if removes && w.deleted.IsZero() {
		w.deleted, w.before = next.at.Add(-w.latency), w.agent.upserts
	}
	for _, request := range w.agent.take(next.m) {
		w.step(session.Frame{Message: request})
	}
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func TestT10_a_delete_overtakes_99_percent_of_the_updates_on_a_slow_link(t *testing.T) {
	w := newWay(64<<10, 25*time.Millisecond, time.Millisecond)
	w.put(5000, 2000)
	made := w.now.Add(10 * time.Second)
	for w.now.Before(made) {
		require.True(t, w.advance())
	}
	delivered := w.agent.upserts
	w.hub.remove("victim")
	for w.deleted.IsZero() {
		require.True(t, w.advance())
	}
	queued := 5001 - delivered
	t.Logf("%d updates were queued, %d came before the delete, which took %s", queued, w.before-delivered, w.deleted.Sub(made))
	require.Greater(t, queued, 4500)
	require.LessOrEqual(t, w.before-delivered, queued/100)
	for w.advance() {
	}
	requireSame(t, w.world)
}

// TestPace_no_link_is_slowed_and_none_is_filled: on every link that does not
// change, a delete waits for not much more than what the way takes and half a
// second, or two parts and one work; and works come about as fast as the link allows.
func TestPace_no_link_is_slowed_and_none_is_filled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.SampledFrom([]float64{16 << 10, 64 << 10, 256 << 10, 1 << 20, 8 << 20, 1 << 30}).Draw(t, "rate")
		latency := rapid.SampledFrom([]time.Duration{100 * time.Microsecond, 20 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second}).Draw(t, "latency")
		store := rapid.SampledFrom([]time.Duration{0, 10 * time.Millisecond, time.Second}).Draw(t, "store")
		size := rapid.SampledFrom([]int{2000, 10_000, 40_000, 300_000}).Draw(t, "size")
		n := min(500, 1<<20/size)
		w := newWay(rate, latency, store)
		w.agent.window = &agentv1.Window{Bytes: 4 << 20, Objects: 4096}
		w.connect()
		w.run()
		w.put(n, size)
		began := w.now
		for w.agent.upserts <= n/2 {
			require.True(t, w.advance())
		}
		made := w.now
		w.hub.remove("victim")
		for w.advance() {
		}
		requireSame(t, w.world)

		of := func(bytes int) time.Duration { return time.Duration(float64(bytes) / rate * float64(time.Second)) }
		trip := 2*latency + store + of(32<<10)
		lead := max(500*time.Millisecond, trip/2)
		require.LessOrEqual(t, w.deleted.Sub(made), trip+lead+2*store+of(64<<10)+of(min(size, 32<<10)), "the delete waited; a trip takes %s", trip)
		ideal := max(of(n*size), time.Duration(w.deltas)*store)
		require.LessOrEqual(t, w.now.Sub(began), ideal*13/10+7*trip, "%d works of %d bytes", n, size)
	})
}

func TestPace_what_waits_is_sent_when_an_acknowledgement_comes(t *testing.T) {
	w := newWay(64<<10, time.Millisecond, 0)
	w.put(100, 20_000)
	w.marks()
	w.step(session.Tick{})
	w.pull(1000)
	before := w.core.Stats().UnackedBytes
	require.LessOrEqual(t, before, uint64(66<<10), "two parts at the beginning, though the window is 4 MiB")
	require.Nil(t, w.core.Next(w.now.Add(10*time.Second)), "time alone lets nothing go: the agent may be that slow")
	require.False(t, w.core.Quiet(), "an acknowledgement wakes the sender")
	w.process()
	require.NotNil(t, w.core.Next(w.now).GetDelta())
}

func TestPace_is_found_anew_after_a_minute_without_traffic(t *testing.T) {
	w := newWay(1<<30, time.Millisecond, 0)
	w.put(200, 20_000)
	for w.advance() {
	}
	unacked := func() uint64 {
		w.put(200, 20_000)
		w.marks()
		w.step(session.Tick{})
		w.pull(1000)
		n := w.core.Stats().UnackedBytes
		w.process()
		w.run()
		return n
	}
	require.Greater(t, unacked(), uint64(500<<10), "the limit has grown with the link")
	w.wait(59 * time.Second)
	require.Greater(t, unacked(), uint64(500<<10))
	w.wait(61 * time.Second)
	anew := unacked()
	require.LessOrEqual(t, anew, uint64(66<<10), "the link may be another one by now")
	require.NotZero(t, anew)
}
