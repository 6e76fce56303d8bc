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
// for a slow link.
func TestT10_a_delete_overtakes_updates(t *testing.T) {
	t.Parallel()
	count, size, rate := scaled(30, 300), 160*kib, scaled(256*kib, 64*kib)
	t.Logf("scale: %d updates of %d KiB on a link of %d KiB/s", count, size/kib, rate/kib)
	w := newWorld(t)
	c := w.unique("t10")
	slow := w.proxy("")
	hub := w.replica(hubOptions{}, slow)
	w.join(hub, c)
	all := names(c, count)
	w.put(c, nil, append([]string{c + "-doomed"}, all...)...)
	w.equal(c)
	slow.Set(netfault.Rule{Rate: [2]int{netfault.Down: 4 * kib}}) // nearly nothing, while the queue builds up
	mark := w.spoke.journal.Mark()
	w.put(c, noise(size), all...)
	w.remove(c, c+"-doomed")
	slow.Set(netfault.Rule{Rate: [2]int{netfault.Down: rate}})
	w.until("the delete to be carried out", func(context.Context) (bool, error) {
		return len(w.spoke.journal.Deletions(mark)) > 0 && gone(w, mark, c+"-doomed"), nil
	})
	slow.Set(netfault.Rule{})
	w.verdict(c)
	updates, before := map[string]bool{}, -1
	for _, e := range w.spoke.journal.Of(mark, c) {
		if e.What == watch.Deleted {
			before = len(updates)
			continue
		}
		updates[e.Name] = true
	}
	t.Logf("%d of %d updates came before the delete, among them those that came while they were written", before, count)
	require.GreaterOrEqual(t, before, 0)
	// What the connection's window of 1 MiB has taken cannot be overtaken.
	require.Less(t, before, scaled(count*3/4, count/10), "the delete waited for updates")
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
	count, size, rate, every := scaled(4, 20), scaled(120*kib, 480*kib), scaled(64*kib, 16*kib), scaled(200*kib, 960*kib)
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
// way; goroutines and file descriptors of the hub come back to what they were.
func TestT16_connections_leave_nothing_behind(t *testing.T) {
	t.Parallel()
	rounds, streams := scaled(40, 30_000), scaled(4, 100)
	t.Logf("scale: %d connections of each kind, %d sessions", rounds, streams)
	w := newWorld(t)
	c := w.unique("t16")
	good, lossy := w.proxy(""), w.proxy("")
	hub := w.replica(hubOptions{}, good)
	lossy.Retarget(hub.AgentAddress)
	w.join(hub, c)
	w.put(c, nil, c+"-w")
	w.equal(c)
	goroutines, files := w.metric(hub, "go_goroutines"), w.metric(hub, "process_open_fds")
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
	w.verdict(c)
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
	every := scaled("4s", "10m")
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
