// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
)

func web(version uint64) synthetic {
	return synthetic{cluster: "c1", name: "web", uid: uidOf(1), version: version, generation: 1}
}

func TestT13_marks_follow_what_is_delivered(t *testing.T) {
	tests := map[string]struct {
		reason string
		change func(*synthetic)
		marks  bool
	}{
		"label":              {"a label is delivered though no generation moves", func(o *synthetic) { o.labels = map[string]string{"a": "b"} }, true},
		"annotation":         {"so is an annotation", func(o *synthetic) { o.annotations = map[string]string{"note": "changed"} }, true},
		"foreign finalizer":  {"another's finalizer is delivered", func(o *synthetic) { o.finalizers = []string{"example.com/keep"} }, true},
		"spec":               {"content", func(o *synthetic) { o.app, o.generation = 2, 2 }, true},
		"deletion":           {"a delete is delivered", func(o *synthetic) { o.deleted = "2026-01-02T03:04:09Z" }, true},
		"recreated":          {"the same content under another UID is another object", func(o *synthetic) { o.uid = uidOf(2) }, true},
		"our own finalizer":  {"it is on the noise list: no second delivery", func(o *synthetic) { o.finalizers = []string{identity.ManifestWorkFinalizer} }, false},
		"status":             {"a status goes the other way", func(o *synthetic) { o.status = appliedStatus }, false},
		"nothing but number": {"resourceVersion is noise", func(*synthetic) {}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t)
			f.line("ADDED", web(1))
			var m marks
			var changes []Change
			defer f.Register("c1", m.mark)()
			defer f.Subscribe(func(c Change) { changes = append(changes, c) })()
			changed := web(2)
			test.change(&changed)
			f.line("MODIFIED", changed)
			require.Len(t, changes, 1, test.reason)
			require.Equal(t, !test.marks, changes[0].StatusOnly, test.reason)
			if !test.marks {
				require.Empty(t, m.take(), test.reason)
				return
			}
			require.Equal(t, []Mark{{Key: key("web"), LastUID: changed.uid}}, m.take(), test.reason)
		})
	}
}

func TestIndex_deletes_and_recreations(t *testing.T) {
	f := newFeed(t)
	var m marks
	defer f.Register("c1", m.mark)()
	f.line("ADDED", web(1))
	m.take()

	deleting := web(2)
	deleting.deleted = "2026-01-02T03:04:09Z"
	f.line("MODIFIED", deleting)
	w, ok := f.View("c1").Get(key("web"))
	require.True(t, ok)
	require.True(t, w.Deleting)
	require.Equal(t, wire.DeletingDigest(uidOf(1)), w.Digest)
	require.Len(t, m.take(), 1)

	deleting.version = 3
	f.line("DELETED", deleting)
	_, ok = f.View("c1").Get(key("web"))
	require.False(t, ok)
	require.Equal(t, []Mark{{Key: key("web"), Gone: true, LastUID: uidOf(1)}}, m.take())

	second := web(5)
	second.uid = uidOf(2)
	f.line("ADDED", second)
	deleting.version = 4
	f.line("DELETED", deleting)
	w, ok = f.View("c1").Get(key("web"))
	require.True(t, ok, "a delete from before the second object is not about it (B6)")
	require.Equal(t, uidOf(2), w.UID)
}

func TestIndex_own_writes(t *testing.T) {
	t.Run("are there before the watch tells", func(t *testing.T) {
		f := newFeed(t)
		f.line("ADDED", web(1))
		mine := web(5)
		mine.status = appliedStatus
		f.wrote(mine, 7)
		w, _ := f.View("c1").Get(key("web"))
		require.Equal(t, "5", w.ResourceVersion)
		require.False(t, w.Status.IsZero())
		f.line("MODIFIED", web(4))
		w, _ = f.View("c1").Get(key("web"))
		require.Equal(t, "5", w.ResourceVersion, "an older event changes nothing")
	})
	t.Run("never bring back what is deleted", func(t *testing.T) {
		f := newFeed(t)
		f.line("ADDED", web(1))
		f.line("DELETED", web(6))
		f.wrote(web(5), 7)
		_, ok := f.View("c1").Get(key("web"))
		require.False(t, ok)
		require.Zero(t, f.Stats().Specs, "nothing holds its spec")
	})
	t.Run("never touch a recreated one", func(t *testing.T) {
		f := newFeed(t)
		second := web(4)
		second.uid = uidOf(2)
		f.line("ADDED", second)
		f.wrote(web(5), 7)
		w, _ := f.View("c1").Get(key("web"))
		require.Equal(t, uidOf(2), w.UID)
	})
}

func TestView_content_is_what_was_scanned(t *testing.T) {
	for name, o := range map[string]synthetic{
		"plain":        web(1),
		"with extras":  {cluster: "c1", name: "web", uid: uidOf(1), version: 1, generation: 3, labels: map[string]string{"x": "y"}, finalizers: []string{"a/b", identity.ManifestWorkFinalizer}, status: appliedStatus},
		"another spec": {cluster: "c1", name: "web", uid: uidOf(1), version: 1, generation: 3, app: 1234},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t)
			f.line("ADDED", o)
			scanned, err := wire.Scan(o.json())
			require.NoError(t, err)
			content, ok, err := f.View("c1").Content(key("web"))
			require.NoError(t, err)
			require.True(t, ok)
			got := content.Bytes
			if content.Zstd {
				require.Less(t, len(got), len(scanned.Delivered()))
				got, err = f.codec.Decompress(content.Bytes, content.Revision.Size)
				require.NoError(t, err)
			}
			require.JSONEq(t, string(scanned.Delivered()), string(got))
			require.Equal(t, string(scanned.Delivered()), string(got))
			require.NoError(t, wire.Verify(content.Revision, got))
			require.NotContains(t, string(got), "managedFields")
		})
	}
}

func TestView_content_of_a_work_without_spec(t *testing.T) {
	f := newFeed(t)
	_, _, err := f.event([]byte(`{"type":"ADDED","object":{"kind":"ManifestWork","metadata":{"name":"empty","namespace":"c1","uid":"u","resourceVersion":"3"}}}`))
	require.NoError(t, err)
	content, ok, err := f.View("c1").Content(key("empty"))
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, wire.Verify(content.Revision, content.Bytes))
}

func TestView_summary_equals_what_an_agent_computes(t *testing.T) {
	f := newFeed(t)
	v := f.View("c1")
	require.Equal(t, Summary{}, v.Summary(), "nothing at all")
	var entries, statuses []wire.Entry
	for i := range 300 {
		o := synthetic{cluster: "c1", name: fmt.Sprintf("work-%d", i), uid: uidOf(i), version: uint64(i + 1), generation: 1, app: i % 3}
		if i%2 == 0 {
			o.status = appliedStatus
		}
		f.line("ADDED", o)
		scanned, err := wire.Scan(o.json())
		require.NoError(t, err)
		entries = append(entries, wire.Entry{Key: key(o.name), Revision: wire.Revision{UID: o.uid, Generation: 1, Digest: scanned.Digest}})
		if i%2 == 0 {
			statuses = append(statuses, wire.Entry{Key: key(o.name), Revision: wire.Revision{UID: o.uid, Digest: scanned.Status}})
		}
	}
	want := Summary{Root: wire.Summarize(entries).Root(), Count: 300, StatusRoot: wire.Summarize(statuses).Root()}
	require.Equal(t, want, v.Summary())
	require.Equal(t, want, v.Summary(), "cached")
	require.Equal(t, 3, f.Stats().Specs, "equal specs are kept once")

	changed := synthetic{cluster: "c1", name: "work-1", uid: uidOf(1), version: 1000, generation: 1, app: 1, status: appliedStatus}
	f.line("MODIFIED", changed)
	got := v.Summary()
	require.Equal(t, want.Root, got.Root, "a status is nothing to deliver")
	require.NotEqual(t, want.StatusRoot, got.StatusRoot)
	changed.version, changed.generation, changed.app = 1001, 2, 2
	f.line("MODIFIED", changed)
	require.NotEqual(t, want.Root, v.Summary().Root)
}

// What has just changed is ready to be sent; what has changed before is unpacked.
// Nobody can tell which it was.
func TestIndex_content_new_and_old(t *testing.T) {
	f := newFeed(t)
	defer f.Register("c1", func(Mark) {})()
	objects := make([]synthetic, 2*recents)
	for i := range objects {
		objects[i] = synthetic{cluster: "c1", name: strconv.Itoa(i), uid: uidOf(i), version: uint64(i + 1), generation: 1, app: i}
		f.line("ADDED", objects[i])
	}
	ready := 0
	for _, o := range objects {
		scanned, err := wire.Scan(o.json())
		require.NoError(t, err)
		if f.recent.get(scanned.Digest) != nil {
			ready++
		}
		content, ok, err := f.View("c1").Content(key(o.name))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, string(scanned.Delivered()), string(content.Bytes))
	}
	require.Equal(t, recents, ready)
	objects[0].version, objects[0].status = 1000, appliedStatus
	f.line("MODIFIED", objects[0])
	work, ok := f.View("c1").Get(key(objects[0].name))
	require.True(t, ok)
	require.Nil(t, f.recent.get(work.Digest), "a status is nothing to send")
}

func TestIndex_holds_nothing_of_what_is_gone(t *testing.T) {
	f := newFeed(t)
	cancel := f.Register("c1", func(Mark) {})
	for i := range 10 {
		f.line("ADDED", synthetic{cluster: "c1", name: strconv.Itoa(i), uid: uidOf(i), version: uint64(i + 1), generation: 1, app: i % 2})
	}
	require.Equal(t, []string{"c1"}, f.Clusters())
	f.listing++
	require.Equal(t, 10, f.sweep(), "a list without any of them")
	require.Equal(t, IndexStats{}, f.Stats())
	cancel()
	cancel()
	for i := range f.shards {
		require.Empty(t, f.shards[i].clusters)
	}
	require.Empty(t, f.Clusters())
}

func TestB1_who_registers_and_then_reads_misses_nothing(t *testing.T) {
	const works = 2000
	f := newFeed(t)
	var fed sync.WaitGroup
	fed.Go(func() {
		for i := range works {
			f.line("ADDED", synthetic{cluster: "c1", name: strconv.Itoa(i), uid: uidOf(i), version: uint64(i + 1), generation: 1})
		}
	})
	var mu sync.Mutex
	seen := map[wire.Key]bool{}
	cancel := f.Register("c1", func(m Mark) {
		mu.Lock()
		defer mu.Unlock()
		seen[m.Key] = true
	})
	defer cancel()
	read := f.View("c1").Entries()
	fed.Wait()
	mu.Lock()
	defer mu.Unlock()
	for _, e := range read {
		seen[e.Key] = true
	}
	require.Len(t, seen, works)
}

func TestB18_an_object_that_cannot_be_read_keeps_no_other_out(t *testing.T) {
	f := newFeed(t)
	_, _, err := f.event([]byte(`{"type":"ADDED","object":{"metadata":{"name":"x"}}}`))
	require.NoError(t, err)
	f.line("ADDED", web(2))
	require.Equal(t, IndexStats{Clusters: 1, Works: 1, Specs: 1, SpecBytes: f.Stats().SpecBytes, Malformed: 1}, f.Stats())
}

// TestIndex_tells_which_works_may_end_by_themselves: those that say after what
// time, and only once they may be complete.
func TestIndex_tells_which_works_may_end_by_themselves(t *testing.T) {
	const complete = `{"conditions":[{"lastTransitionTime":"2026-01-02T03:04:06Z","message":"","reason":"R","status":"True","type":"Complete"}]}`
	f := newFeed(t)
	var told []string
	defer f.Subscribe(func(c Change) {
		if c.Expires {
			told = append(told, c.Name)
		}
	})()
	web := func(name string, version uint64, ttl bool, status string) synthetic {
		return synthetic{cluster: "c1", name: name, uid: uidOf(len(name)), version: version, generation: 1, ttl: ttl, status: status}
	}
	f.line("ADDED", web("no-ttl", 1, false, complete))
	f.line("ADDED", web("running", 2, true, appliedStatus))
	f.line("ADDED", web("done", 3, true, complete))
	require.Equal(t, []string{"done"}, told, "MH-01")
	f.line("MODIFIED", web("running", 4, true, complete))
	require.Equal(t, []string{"done", "running"}, told, "by its status alone")
	require.ElementsMatch(t, []types.NamespacedName{{Namespace: "c1", Name: "done"}, {Namespace: "c1", Name: "running"}}, f.Expiring(), "for who comes later")
	f.line("DELETED", web("done", 5, true, complete))
	require.Len(t, f.Expiring(), 1)
}
