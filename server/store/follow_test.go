// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/client-go/rest"
)

func TestLineReader(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	lines := lineReader{r: bufio.NewReaderSize(strings.NewReader("one\n"+long+"\nthree\n"), 4<<10)}
	for _, want := range []string{"one\n", long + "\n", "three\n"} {
		got, err := lines.next()
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	_, err := lines.next()
	require.ErrorIs(t, err, io.EOF)

	lines = lineReader{r: bufio.NewReaderSize(strings.NewReader("half"), 4<<10)}
	_, err = lines.next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "a cut stream is no clean end")

	lines = lineReader{r: bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", maxLine+8<<10)), 4<<10)}
	_, err = lines.next()
	require.ErrorIs(t, err, errLineSize)
}

func TestNextLimit_shrinks_pages_of_big_objects(t *testing.T) {
	require.EqualValues(t, 500, nextLimit(500, 2<<20))
	require.EqualValues(t, 125, nextLimit(500, 4*pageBytes))
	require.EqualValues(t, 10, nextLimit(500, 1000*pageBytes))
	require.EqualValues(t, 0, nextLimit(0, 1000*pageBytes))
}

// script is an apiserver of which every list and watch is told what to say.
type script struct {
	mu    sync.Mutex
	lists []func(http.ResponseWriter, *http.Request)
	watch func(http.ResponseWriter, *http.Request)
	asked []string
	// object is what every GET of one work is answered with, if set.
	object *synthetic
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	q := r.URL.Query()
	if s.object != nil && !strings.HasSuffix(r.URL.Path, "/manifestworks") {
		_, _ = w.Write(s.object.json())
		return
	}
	s.mu.Lock()
	watch := s.watch
	var list func(http.ResponseWriter, *http.Request)
	if q.Get("watch") == "" {
		s.asked = append(s.asked, "limit="+q.Get("limit")+" continue="+q.Get("continue")+" rv="+q.Get("resourceVersion"))
		list = s.lists[0]
		if len(s.lists) > 1 {
			s.lists = s.lists[1:]
		}
	}
	s.mu.Unlock()
	if list != nil {
		list(w, r)
		return
	}
	watch(w, r)
}

func page(version uint64, token string, works ...synthetic) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		items := make([]string, len(works))
		for i, o := range works {
			items[i] = string(o.json())
		}
		fmt.Fprintf(w, `{"apiVersion":"work.open-cluster-management.io/v1","items":[%s],"kind":"ManifestWorkList","metadata":{"continue":%q,"resourceVersion":"%d"}}`,
			strings.Join(items, ","), token, version)
	}
}

func fails(code int, reason string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"as scripted","reason":%q,"code":%d}`, reason, code)
	}
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// follows starts an index against a script, and ends it with the test.
func TestIndex_leaves_nothing_running(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := &script{watch: hang, lists: []func(http.ResponseWriter, *http.Request){page(10, "", web(5))}}
	server := httptest.NewServer(s)
	x, err := NewIndex(IndexConfig{Config: &rest.Config{Host: server.URL}})
	require.NoError(t, err)
	w, err := NewStatusWriter(StatusConfig{Config: &rest.Config{Host: server.URL}, Index: x, Fence: &fence{}})
	require.NoError(t, err)
	sessions, err := NewSessions(SessionsConfig{Config: &rest.Config{Host: server.URL}, Replica: "a"})
	require.NoError(t, err)
	stopIndex, stopWriter, stopSessions := runs(t, x.Run), runs(t, w.Run), runs(t, sessions.Run)
	synced(t, x)
	stopIndex()
	stopWriter()
	stopSessions()
	server.CloseClientConnections()
	server.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func follows(t *testing.T, s *script, restored func(context.Context, uint64, uint64) error) *Index {
	t.Helper()
	return followsWith(t, s, restored, defaultPatience())
}

func followsWith(t *testing.T, s *script, restored func(context.Context, uint64, uint64) error, p patience) *Index {
	t.Helper()
	server := httptest.NewServer(s)
	x, err := NewIndex(IndexConfig{Config: &rest.Config{Host: server.URL}, OnRestored: restored})
	require.NoError(t, err)
	x.patience = p
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = x.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		server.CloseClientConnections()
		server.Close()
	})
	return x
}

func synced(t testing.TB, x *Index) {
	t.Helper()
	select {
	case <-x.HasSynced():
	case <-time.After(time.Minute):
		t.Fatal("the index has not synced")
	}
}

func eventually(t testing.TB, why string, what func() bool) {
	t.Helper()
	require.Eventually(t, what, time.Minute, 5*time.Millisecond, why)
}

func TestIndex_lists_in_pages(t *testing.T) {
	second := synthetic{cluster: "c2", name: "db", uid: uidOf(2), version: 8, generation: 1}
	s := &script{watch: hang, lists: []func(http.ResponseWriter, *http.Request){page(10, "next", web(5)), page(10, "", second)}}
	x := follows(t, s, nil)
	synced(t, x)
	require.EqualValues(t, 10, x.HighWater())
	require.Equal(t, 2, x.Stats().Works)
	require.Equal(t, []string{"limit=500 continue= rv=", "limit=500 continue=next rv="}, s.asked, "the first page is a quorum read")
}

func TestIndex_list_whose_token_expires_is_begun_anew(t *testing.T) {
	s := &script{watch: hang, lists: []func(http.ResponseWriter, *http.Request){
		page(10, "next", web(5)), fails(http.StatusGone, "Expired"), page(20, "", web(5)),
	}}
	x := follows(t, s, nil)
	synced(t, x)
	require.EqualValues(t, 20, x.HighWater())
	require.Equal(t, "limit=2000 continue= rv=", s.asked[2], "with bigger pages, so that it ends in time")
}

func TestIndex_waits_for_the_CRD(t *testing.T) {
	s := &script{watch: hang, lists: []func(http.ResponseWriter, *http.Request){
		func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "404 page not found", http.StatusNotFound) },
		page(10, "", web(5)),
	}}
	x := follows(t, s, nil)
	synced(t, x)
	require.Equal(t, 1, x.Stats().Works)
}

func TestB28_a_watch_that_goes_silent_is_ended(t *testing.T) {
	for name, said := range map[string]string{
		"after its time":        "",
		"between two bookmarks": `{"type":"BOOKMARK","object":{"kind":"ManifestWork","metadata":{"resourceVersion":"12"}}}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			known := web(5)
			s := &script{object: &known, lists: []func(http.ResponseWriter, *http.Request){page(10, "", web(5)), page(12, "", web(5))}}
			s.watch = func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, said)
				w.(http.Flusher).Flush()
				hang(w, r)
			}
			p := patience{life: time.Hour, grace: time.Hour, silence: 20 * time.Millisecond}
			if said == "" {
				p = patience{life: 10 * time.Millisecond, grace: 10 * time.Millisecond, silence: time.Hour}
			}
			x := followsWith(t, s, nil, p)
			eventually(t, "another watch is begun", func() bool { return x.Stats().Watches >= 3 })
			require.EqualValues(t, 1, x.Stats().Lists, "it goes on from where it was")
		})
	}
}

func TestIndex_watch_says_410(t *testing.T) {
	second := synthetic{cluster: "c2", name: "db", uid: uidOf(2), version: 20, generation: 1}
	once := make(chan struct{}, 1)
	once <- struct{}{}
	s := &script{lists: []func(http.ResponseWriter, *http.Request){page(10, "", web(5)), page(30, "", second)}}
	s.watch = func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-once:
			fmt.Fprintln(w, `{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","code":410}}`)
		default:
			hang(w, r)
		}
	}
	x := follows(t, s, nil)
	eventually(t, "the second list counts", func() bool { return x.HighWater() == 30 })
	_, ok := x.View("c1").Get(key("web"))
	require.False(t, ok, "what the new list has not is gone")
	_, ok = x.View("c2").Get(key("db"))
	require.True(t, ok)
}

func TestT7_restored_hub_is_noticed_before_anything_is_believed(t *testing.T) {
	old := web(5)
	lists := []func(http.ResponseWriter, *http.Request){
		page(100, "", web(90), synthetic{cluster: "c1", name: "new", uid: uidOf(2), version: 95, generation: 1}),
		page(50, ""), // the look before the next watch
		page(50, "", old),
	}
	ended := make(chan struct{})
	first := make(chan struct{}, 1)
	first <- struct{}{}
	s := &script{lists: lists, watch: func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-first:
			<-ended // a clean end
		default:
			hang(w, r)
		}
	}}
	var x *Index
	type call struct{ seen, listed uint64 }
	calls := make(chan call, 10)
	refuse := errors.New("the ConfigMap cannot be written")
	var known []string
	restored := func(_ context.Context, seen, listed uint64) error {
		calls <- call{seen, listed}
		for _, e := range x.View("c1").Entries() {
			known = append(known, e.Key.Name)
		}
		if len(calls) == 1 {
			return refuse
		}
		return nil
	}
	ready := make(chan struct{})
	x = follows(t, s, func(ctx context.Context, seen, listed uint64) error { <-ready; return restored(ctx, seen, listed) })
	close(ready)
	synced(t, x)
	var m marks
	defer x.Register("c1", m.mark)()
	close(ended)
	eventually(t, "the older state is taken in at last", func() bool { return x.HighWater() == 50 })
	require.Len(t, calls, 2, "asked again after it failed")
	require.Equal(t, call{100, 50}, <-calls)
	require.ElementsMatch(t, []string{"web", "new", "web", "new"}, known, "nothing had been taken in yet")
	w, _ := x.View("c1").Get(key("web"))
	require.Equal(t, "5", w.ResourceVersion, "an older object counts after a restore")
	require.Equal(t, []Mark{{Key: key("new"), Gone: true, LastUID: uidOf(2)}}, m.take())
}

func TestT7_restored_hub_that_has_come_past_where_the_index_was(t *testing.T) {
	for name, test := range map[string]struct {
		last  string // the last event before the watch ends
		found synthetic
	}{
		"a work is older than before": {`{"type":"MODIFIED","object":` + string(web(99).json()) + `}`, web(7)},
		"a deleted work is back":      {`{"type":"DELETED","object":` + string(web(99).json()) + `}`, web(7)},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{object: &test.found, lists: []func(http.ResponseWriter, *http.Request){page(90, "", web(50)), page(120, "", web(7))}}
			first := make(chan struct{}, 1)
			first <- struct{}{}
			s.watch = func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-first:
					fmt.Fprintln(w, test.last)
				default:
					hang(w, r)
				}
			}
			calls := make(chan uint64, 10)
			x := follows(t, s, func(_ context.Context, seen, _ uint64) error { calls <- seen; return nil })
			require.EqualValues(t, 99, <-calls)
			eventually(t, "the older state counts", func() bool {
				w, ok := x.View("c1").Get(key("web"))
				return ok && w.ResourceVersion == "7" && x.HighWater() == 120
			})
			require.Empty(t, calls)
		})
	}
}

// A restore that raises the revision leaves the objects' own as they were. The
// index must not keep an object whose place an older one has by then.
func TestT7_restored_hub_with_a_bumped_revision_has_another_object_of_that_name(t *testing.T) {
	was := synthetic{cluster: "c1", name: "web", uid: uidOf(2), version: 7, generation: 1}
	s := &script{lists: []func(http.ResponseWriter, *http.Request){page(100, "", web(90)), page(1100, "", was)}}
	first := make(chan struct{}, 1)
	first <- struct{}{}
	s.watch = func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-first:
			fails(http.StatusGone, "Expired")(w, r)
		default:
			hang(w, r)
		}
	}
	calls := make(chan uint64, 10)
	x := follows(t, s, func(_ context.Context, seen, _ uint64) error { calls <- seen; return nil })
	require.EqualValues(t, 100, <-calls)
	eventually(t, "the other object counts", func() bool {
		w, ok := x.View("c1").Get(key("web"))
		return ok && w.UID == uidOf(2) && x.HighWater() == 1100
	})
}

func TestIndex_relists_when_somebody_else_noticed_a_restore(t *testing.T) {
	was := synthetic{cluster: "c1", name: "web", uid: uidOf(2), version: 7, generation: 1}
	begun, gate := make(chan struct{}), make(chan struct{})
	again := func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-gate
		page(100, "", was)(w, r)
	}
	s := &script{watch: hang, lists: []func(http.ResponseWriter, *http.Request){page(100, "", web(90)), again}}
	x := follows(t, s, func(context.Context, uint64, uint64) error { t.Error("it is known already"); return nil })
	synced(t, x)
	require.True(t, x.Current())
	x.Relist()
	<-begun
	require.False(t, x.Current(), "not before the list is complete")
	close(gate)
	eventually(t, "the older state counts", func() bool {
		w, ok := x.View("c1").Get(key("web"))
		return ok && w.UID == uidOf(2) && x.Current()
	})
}

// A restored apiserver may be ahead of the index, with another past of that length:
// its resourceVersions show nothing, the hub's epoch does. It is asked for before a
// list or a watch is believed.
func TestT7_restored_hub_of_another_epoch_that_is_ahead_of_the_index(t *testing.T) {
	was := synthetic{cluster: "c1", name: "web", uid: uidOf(2), version: 120, generation: 1}
	for name, goes := range map[string]func(http.ResponseWriter, *http.Request){
		"the watch is too old": fails(http.StatusGone, "Expired"),
		"the watch just ends":  func(http.ResponseWriter, *http.Request) {},
	} {
		t.Run(name, func(t *testing.T) {
			now := web(90)
			s := &script{object: &now, lists: []func(http.ResponseWriter, *http.Request){page(100, "", web(90)), page(130, "", was)}}
			first := make(chan struct{}, 1)
			first <- struct{}{}
			restored := new(atomic.Bool)
			s.watch = func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-first:
					restored.Store(true)
					goes(w, r)
				default:
					hang(w, r)
				}
			}
			server := httptest.NewServer(s)
			var x *Index
			asked, told := 0, make(chan struct{}, 10)
			check := func(context.Context) error {
				if asked++; restored.CompareAndSwap(true, false) {
					w, _ := x.View("c1").Get(key("web"))
					if w.UID != uidOf(1) {
						t.Error("something was believed before")
					}
					x.Relist()
					told <- struct{}{}
				}
				return nil
			}
			var err error
			x, err = NewIndex(IndexConfig{Config: &rest.Config{Host: server.URL}, CheckEpoch: check, OnRestored: func(context.Context, uint64, uint64) error {
				t.Error("no revision shows it")
				return nil
			}})
			require.NoError(t, err)
			stop := runs(t, x.Run)
			eventually(t, "the epoch is asked for once the watch is over", func() bool { return len(told) > 0 })
			eventually(t, "the other past counts", func() bool {
				w, ok := x.View("c1").Get(key("web"))
				return ok && w.UID == uidOf(2) && x.Current()
			})
			server.CloseClientConnections()
			stop()
			require.GreaterOrEqual(t, asked, 2)
			server.Close()
		})
	}
}

func TestQuorumGet_only_the_apiservers_own_word_is_absence(t *testing.T) {
	answer := http.NotFound
	s := &script{watch: hang, lists: []func(http.ResponseWriter, *http.Request){func(w http.ResponseWriter, r *http.Request) { answer(w, r) }}}
	server := httptest.NewServer(s)
	defer server.Close()
	x, err := NewIndex(IndexConfig{Config: &rest.Config{Host: server.URL}})
	require.NoError(t, err)
	get := func() (Live, error) { return x.QuorumGet(t.Context(), "c1", "web") }

	_, err = get()
	require.Error(t, err, "a path that is not served")
	answer = fails(http.StatusNotFound, "NotFound")
	_, err = get()
	require.Error(t, err, "a status without details")
	answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"details":{"name":"web","group":"work.open-cluster-management.io","kind":"manifestworks"}}`)
	}
	live, err := get()
	require.NoError(t, err)
	require.False(t, live.Found)
	answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(web(7).json()) }
	live, err = get()
	require.NoError(t, err)
	require.Equal(t, Live{Found: true, UID: uidOf(1), Generation: 1, ResourceVersion: 7}, live)
	require.Equal(t, "limit= continue= rv=", s.asked[0], "without resourceVersion")
	_, err = x.QuorumGet(t.Context(), "", "web")
	require.Error(t, err)
}

func TestT6_a_doubt_that_comes_when_no_watch_runs_is_not_forgotten(t *testing.T) {
	s := &script{watch: hang}
	var x *Index
	ready := make(chan struct{})
	s.lists = []func(http.ResponseWriter, *http.Request){
		func(w http.ResponseWriter, r *http.Request) {
			<-ready
			x.doubt() // of the list that was before this one, or of the one that comes
			page(10, "")(w, r)
		},
		page(10, "", web(5)),
	}
	x = follows(t, s, nil)
	close(ready)
	eventually(t, "another list is asked for", func() bool { return x.Stats().Works == 1 })
}
