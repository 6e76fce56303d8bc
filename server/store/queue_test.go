// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func jobOf(cluster, name string) *job {
	return &job{grant: Grant{scope: scopeOf(cluster, "uid"), number: 1}, key: key(name), uid: "u"}
}

// served gives out n jobs, finishes each at once, and says whose they were.
func served(q *queue, now time.Time, n int) (clusters []string) {
	for range n {
		j := q.next(1, now)
		if j == nil {
			break
		}
		clusters = append(clusters, j.grant.Cluster())
		q.finish(j, now)
	}
	return clusters
}

func TestQueue_clusters_take_turns(t *testing.T) {
	q, now := newQueue(), time.Unix(1000, 0)
	for i := range 4 {
		q.put(jobOf("busy", strconv.Itoa(i)), now)
	}
	q.put(jobOf("a", "x"), now)
	q.put(jobOf("b", "x"), now)
	require.Equal(t, []string{"busy", "a", "b", "busy", "busy", "busy"}, served(q, now, 10))
}

func TestQueue_rate_counts_only_while_others_wait(t *testing.T) {
	q, now := newQueue(), time.Unix(1000, 0)
	for i := range 30 {
		q.put(jobOf("busy", strconv.Itoa(i)), now)
	}
	require.Len(t, served(q, now, 20), 20, "nobody else waits: no limit")
	for i := range 4 {
		q.put(jobOf("other", strconv.Itoa(i)), now)
	}
	require.Equal(t, []string{"other", "other", "other", "other", "busy"}, served(q, now, 5), "it has had more than its rate")
	q.put(jobOf("other", "x"), now)
	later := now.Add(2 * time.Second)
	require.ElementsMatch(t, []string{"other", "busy"}, served(q, later, 2), "and has its turn again once others had theirs")
}

func TestQueue_one_write_of_an_object_at_a_time(t *testing.T) {
	q, now := newQueue(), time.Unix(1000, 0)
	q.put(jobOf("c", "web"), now)
	first := q.next(8, now)
	require.NotNil(t, first)
	q.put(jobOf("c", "web"), now)
	q.put(jobOf("c", "db"), now)
	second := q.next(8, now)
	require.Equal(t, "db", second.key.Name)
	require.Nil(t, q.next(8, now))
	q.finish(first, now)
	require.Equal(t, "web", q.next(8, now).key.Name)
	waiting, writing := q.size()
	require.Equal(t, []int{0, 2}, []int{waiting, writing})
}

// T19: while the apiserver takes no status, what an agent waits for does not wait
// behind them.
func TestQueue_T19_what_agents_wait_for_overtakes_statuses(t *testing.T) {
	q, now := newQueue(), time.Unix(1000, 0)
	for i := range 3 {
		q.put(jobOf("c", "status-"+strconv.Itoa(i)), now)
	}
	content := jobOf("c", "new")
	content.class = classFinalizer
	q.put(content, now)
	gone := jobOf("c", "status-2")
	gone.final = true
	dropped, _ := q.put(gone, now)
	require.NotNil(t, dropped, "the status of what is gone")
	var names []string
	for j := q.next(1, now); j != nil; j = q.next(1, now) {
		names = append(names, j.key.Name)
		q.finish(j, now)
	}
	require.Equal(t, []string{"new", "status-2", "status-0", "status-1"}, names)
}

func TestQueue_finalized_is_never_dropped(t *testing.T) {
	q, now := newQueue(), time.Unix(1000, 0)
	final, status := jobOf("c", "web"), jobOf("c", "web")
	final.final = true
	q.put(jobOf("c", "web"), now)
	dropped, verdict := q.put(final, now)
	require.False(t, dropped.final)
	require.Equal(t, Superseded, verdict.Outcome)
	dropped, _ = q.put(status, now)
	require.Same(t, status, dropped)
	recreated := jobOf("c", "web")
	recreated.uid = "another"
	dropped, _ = q.put(recreated, now)
	require.Nil(t, dropped, "another object")
	require.Same(t, final, q.next(1, now))
}

func TestQueue_limit_and_close(t *testing.T) {
	q, now := newQueue(), time.Unix(1000, 0)
	for i := range 10 {
		q.put(jobOf("c", strconv.Itoa(i)), now)
	}
	for range 3 {
		require.NotNil(t, q.next(3, now))
	}
	require.Nil(t, q.next(3, now))
	require.Equal(t, "c", q.busiest())
	require.Len(t, q.close(), 7)
	late := jobOf("c", "late")
	dropped, verdict := q.put(late, now)
	require.Same(t, late, dropped)
	require.Equal(t, Retry, verdict.Outcome)
}

func TestQueue_forgets_clusters_without_work(t *testing.T) {
	q, now := newQueue(), time.Unix(1000, 0)
	for i := range 100 {
		q.put(jobOf(strconv.Itoa(i), "web"), now)
	}
	served(q, now, 100)
	require.Nil(t, q.next(1, now.Add(2*lineSweep)))
	require.Empty(t, q.lines)
}

func TestPace(t *testing.T) {
	p, now := newPace(), time.Unix(1000, 0)
	for range 100_000 {
		p.note(now, time.Millisecond, false)
	}
	require.Equal(t, paceMax, p.allowed())
	require.False(t, p.pressure(now))
	require.True(t, p.note(now, time.Millisecond, true), "429")
	require.Equal(t, paceMax/2, p.allowed())
	require.False(t, p.note(now, 2*time.Second, false), "at most one cut a second")
	require.True(t, p.note(now.Add(time.Second), 2*time.Second, false), "slow")
	require.Equal(t, paceMax/4, p.allowed())
	for i := range 100 {
		p.note(now.Add(time.Duration(i)*2*time.Second), 0, true)
	}
	require.Equal(t, paceMin, p.allowed())
	require.True(t, p.pressure(now.Add(200*time.Second)))
	require.False(t, p.pressure(now.Add(300*time.Second)))
}

func TestStatusWriter_answers_everything_when_it_stops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &StatusWriter{queue: newQueue(), pace: newPace(), clock: realClock(), index: newFeed(t).Index, fence: &fence{}}
		results := make(chan Result, 10)
		answered := func(r Result) { results <- r }
		g := Grant{scope: scopeOf("c", "uid"), number: 1}
		w.Put(g, Status{Key: key("web"), UID: "u"}, answered)
		w.pace.limit = 0
		stop := runs(t, w.Run)
		synctest.Wait()
		stop()
		require.Equal(t, Retry, (<-results).Outcome)
		w.Put(g, Status{Key: key("web"), UID: "u"}, answered)
		require.Equal(t, Retry, (<-results).Outcome)
	})
}

func TestQueue_rests_and_is_put_back(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		defer q.close()
		fails := func() *job { // a job is given out and has to be tried again
			j := q.next(1, time.Now())
			require.NotNil(t, j)
			q.rest(j, time.Second, time.Now)
			q.finish(j, time.Now())
			return j
		}
		q.put(jobOf("c", "web"), time.Now())
		first := fails()
		require.Nil(t, q.next(1, time.Now()))
		require.True(t, q.has("c", key("web"), "u"), "or nothing would be told to take its place")
		time.Sleep(999 * time.Millisecond)
		require.Nil(t, q.next(1, time.Now()))
		time.Sleep(2 * time.Millisecond)
		require.Same(t, first, fails(), "and once more")

		newer := jobOf("c", "web")
		q.put(newer, time.Now())
		time.Sleep(time.Minute)
		require.Same(t, newer, q.next(1, time.Now()), "a newer one takes the place of one that rests")
		newest := jobOf("c", "web")
		q.put(newest, time.Now())
		q.rest(newer, time.Second, time.Now)
		q.finish(newer, time.Now())
		require.Same(t, newest, fails(), "and of one that fails after it has come")
		require.Len(t, q.lines["c"].resting, 1)

		q.sweep(time.Now().Add(2 * lineSweep))
		require.Len(t, q.lines, 1, "a cluster whose jobs rest is not forgotten")
		q.close()
		time.Sleep(time.Minute)
		require.Nil(t, q.next(1, time.Now()), "nothing is put back after the end")
	})
}

func TestStatusWriter_what_rests_ends_with_its_session_and_its_work(t *testing.T) {
	f, held := newFeed(t), &fence{}
	w := &StatusWriter{index: f.Index, fence: held}
	j := jobOf("c", "web")
	require.True(t, w.pointless(j), "the index has no such work")
	f.line("ADDED", synthetic{cluster: "c", name: "web", uid: "u", version: 1, generation: 1})
	require.False(t, w.pointless(j))
	held.dropped.Store(true)
	require.True(t, w.pointless(j), "the session is over")
	held.dropped.Store(false)
	f.line("ADDED", synthetic{cluster: "c", name: "web", uid: "another", version: 2, generation: 1})
	require.True(t, w.pointless(j), "another work of that name")
}
