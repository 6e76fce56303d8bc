// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/watch"

	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/netfault"
)

const kib = 1 << 10

// noise makes payloads of n characters that compression can do little about.
func noise(n int) func() string {
	return func() string {
		raw := make([]byte, n*3/4)
		_, _ = rand.Read(raw) // never fails
		return base64.StdEncoding.EncodeToString(raw)
	}
}

// TestT10_a_delete_overtakes_updates makes one delete while many updates wait
// for a slow link: it comes before all but 1 % of them, or 128 KiB, of which 5000
// are more than a hundred times as much. In server/session a model has 5000.
func TestT10_a_delete_overtakes_updates(t *testing.T) {
	t.Parallel()
	const rate = 64 * kib
	count, size := house.Scaled(20, 5000), house.Scaled(64*kib, 4*kib)
	t.Logf("scale: %d updates of %d KiB on a link of %d KiB/s (full)", count, size/kib, rate/kib)
	w := newWorld(t)
	c := w.unique("t10")
	slow := w.proxy("")
	hub := w.replica(hubOptions{}, slow)
	w.join(hub, c, "--kube-api-qps=-1") // it is the link that is slow
	all := names(c, count)
	w.put(c, nil, c+"-doomed")
	w.equal(c)
	slow.Set(netfault.Rule{Rate: [2]int{netfault.Down: 4 * kib}}) // nearly nothing, while the queue builds up
	built := w.spoke.journal.Mark()
	w.put(c, noise(size), all...)
	slow.Set(netfault.Rule{Rate: [2]int{netfault.Down: rate}})
	queued, made := count-w.updates(c, built), w.spoke.journal.Mark()
	w.remove(c, c+"-doomed")
	w.until("the delete to be carried out", func(context.Context) (bool, error) {
		return gone(w, made, c+"-doomed"), nil
	})
	before := w.updates(c, made)
	slow.Set(netfault.Rule{})
	w.verdict(c)
	t.Logf("%d updates were queued, %d came before the delete", queued, before)
	require.Greater(t, queued, count*9/10, "there was a queue")
	require.LessOrEqual(t, before, max(queued/100, 128*kib/size), "the delete waited for updates")
}

// updates counts the works of a cluster of which the spoke has seen something new
// since mark, up to a delete.
func (w *world) updates(cluster string, mark int) int {
	updated := map[string]bool{}
	for _, e := range w.spoke.journal.Of(mark, cluster) {
		if e.What == watch.Deleted {
			break
		}
		updated[e.Name] = true
	}
	return len(updated)
}

// gone tells whether the spoke lost an object since mark.
func gone(w *world, mark int, name string) bool {
	for _, e := range w.spoke.journal.Since(mark, name) {
		if e.What == watch.Deleted {
			return true
		}
	}
	return false
}

// TestT15_slow_link_with_cuts delivers large works over a slow link that is cut
// again and again.
func TestT15_slow_link_with_cuts(t *testing.T) {
	t.Parallel()
	count, size, rate, every := house.Scaled(4, 20), house.Scaled(120*kib, 480*kib), house.Scaled(64*kib, 16*kib), house.Scaled(200*kib, 960*kib)
	t.Logf("scale: %d works of %d KiB on a link of %d KiB/s, cut each %d KiB", count, size/kib, rate/kib, every/kib)
	w := newWorld(t)
	c := w.unique("t15")
	slow := w.proxy("")
	hub := w.replica(hubOptions{}, slow)
	w.join(hub, c)
	began := slow.Accepted()
	slow.Set(netfault.Rule{Rate: [2]int{netfault.Down: rate}, Cut: [2]int64{netfault.Down: int64(every)}})
	w.put(c, noise(size), names(c, count)...)
	w.until("all works to be on the spoke", func(context.Context) (bool, error) {
		n := len(w.spoke.journal.Of(w.mark, c))
		return n >= count, fmt.Errorf("%d are", n)
	})
	cuts := slow.Accepted() - began
	slow.Set(netfault.Rule{})
	w.verdict(c)
	for _, reason := range []string{"SLOW_CONSUMER", "LIVENESS_LOST"} {
		require.Zero(t, w.metric(hub, ends, `reason="`+reason+`"`), "bytes were moving all the time: %s", reason)
	}
	t.Logf("%d KiB passed for %d KiB of works, with %d cuts", slow.Passed(netfault.Down)/kib, count*size/kib, cuts)
	require.NotZero(t, cuts)
	require.LessOrEqual(t, cuts, int64(count), "each connection has room for an object: no cut may restart more than the one in flight")
}

// TestT16_connections_leave_nothing_behind opens and ends connections in every
// way; goroutines and file descriptors of the hub come back to what they were, and
// its heap, which takes minutes to see, in a soak.
func TestT16_connections_leave_nothing_behind(t *testing.T) {
	t.Parallel()
	rounds, streams := house.Scaled(40, 50_000), house.Scaled(4, 100)
	t.Logf("scale: %d connections of each kind, %d sessions", rounds, streams)
	side, err := shared()
	if house.Soak() { // what other tests have the hub keep is no leak
		side, err = startHubSide("t16")
	}
	require.NoError(t, err)
	w := newWorldOn(t, side)
	c := w.unique("t16")
	good, lossy := w.proxy(""), w.proxy("")
	hub := w.replica(hubOptions{}, good)
	lossy.Retarget(hub.AgentAddress)
	w.join(hub, c)
	w.put(c, nil, c+"-w")
	w.equal(c)
	goroutines, files, heap := w.metric(hub, "go_goroutines"), w.metric(hub, "process_open_fds"), w.heap(hub)
	for range rounds {
		clean := w.handshake(good)
		require.NoError(t, clean.Close())
		broken := w.handshake(good)
		raw, ok := broken.NetConn().(*net.TCPConn)
		require.True(t, ok)
		require.NoError(t, raw.SetLinger(0))
		require.NoError(t, raw.Close())
	}
	const halfOpen = 50
	for range halfOpen {
		defer w.handshake(lossy).Close()
	}
	lossy.Set(netfault.Rule{Drop: true})
	for range streams {
		before := w.metric(hub, starts)
		good.Reset()
		w.reaches(hub, starts, atLeast(before+1))
	}
	began := time.Now()
	w.reaches(hub, "process_open_fds", atMost(files+10))
	w.reaches(hub, "go_goroutines", atMost(goroutines+10))
	t.Logf("%v goroutines and %v files at the beginning; back at that %s after the end", goroutines, files, time.Since(began).Round(time.Millisecond))
	if after := w.heap(hub); house.Soak() {
		t.Logf("%.1f MiB on the heap at the beginning, %.1f in the end", heap/kib/kib, after/kib/kib)
		require.LessOrEqual(t, after, heap*1.05)
	}
	w.verdict(c)
}

// heap is what the hub has on its heap right after a garbage collection, of which
// there is one every two minutes at least. It is 0 but in a soak.
func (w *world) heap(hub *house.Hub) float64 {
	w.t.Helper()
	least := 0.0
	for begun := time.Now(); house.Soak() && time.Since(begun) < 5*time.Minute; w.pace(time.Now().Add(100 * time.Millisecond)) {
		if now := w.metric(hub, "go_memstats_heap_alloc_bytes"); least == 0 || now < least {
			least = now
		}
	}
	return least
}

// handshake is a connection to the hub that says nothing more.
func (w *world) handshake(through *netfault.Proxy) *tls.Conn {
	w.t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}} // nothing is said
	conn, err := tls.Dial("tcp", through.Address(), config)
	require.NoError(w.t, err)
	return conn
}

// TestT12_a_lost_message_is_found has the hub lose one message inside the
// session: anti-entropy finds that out, and says so.
func TestT12_a_lost_message_is_found(t *testing.T) {
	t.Parallel()
	every := house.Scaled("4s", "10m")
	t.Logf("scale: anti-entropy each %s", every)
	w := newWorld(t)
	c := w.unique("t12")
	binary, err := faulty()
	require.NoError(t, err)
	hub := w.replica(hubOptions{binary: binary, environment: []string{"FAIRLEAD_FAULT_LOSE_WORK=" + c + "-lost", "FAIRLEAD_FAULT_ANTIENTROPY=" + every}}, w.proxy(""))
	w.join(hub, c)
	w.put(c, nil, c+"-lost", c+"-other")
	began := time.Now()
	w.equal(c)
	t.Logf("found and mended after %s", time.Since(began).Round(time.Millisecond))
	w.noAlarm(1)
	require.InDelta(t, 1, w.metric(hub, starts), 0, "in one session")
}
