// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/test/env"
)

func TestIndex_follows_an_apiserver(t *testing.T) {
	t.Parallel()
	cfg := env.Shared(t).RESTConfig()
	u := newUser(t, cfg)
	before := u.create("before")
	x := startIndex(t, cfg)
	reaches(t, x, before)

	var m marks
	defer x.Register(u.cluster, m.mark)()

	created := u.create("web")
	w := reaches(t, x, created)
	require.Equal(t, string(created.GetUID()), w.UID)
	require.False(t, w.Finalizer)
	m.await(t)

	content, ok, err := x.View(u.cluster).Content(key("web"))
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, wire.Verify(content.Revision, content.Bytes))
	require.NotContains(t, string(content.Bytes), "resourceVersion")

	w = reaches(t, x, u.patch("web", `{"metadata":{"labels":{"only":"a-label"}}}`))
	require.EqualValues(t, 1, w.Generation)
	m.await(t) // T13
	w = reaches(t, x, u.patch("web", `{"status":`+appliedStatus+`}`, "status"))
	require.Empty(t, m.take())
	require.False(t, w.Status.IsZero())
	digest, err := wire.StatusDigest([]byte(appliedStatus))
	require.NoError(t, err)
	require.Equal(t, digest, w.Status)
	w = reaches(t, x, u.patch("web", `{"metadata":{"finalizers":["cluster.open-cluster-management.io/manifest-work-cleanup"]}}`))
	require.True(t, w.Finalizer)
	require.Empty(t, m.take())

	u.delete("web")
	reaches(t, x, u.get("web"))
	w, _ = x.View(u.cluster).Get(key("web"))
	require.True(t, w.Deleting)
	m.await(t)
	live, err := x.QuorumGet(t.Context(), u.cluster, "web")
	require.NoError(t, err)
	require.True(t, live.Found && live.Deleting)
	u.patch("web", `{"metadata":{"finalizers":null}}`)
	eventually(t, "the work is gone", func() bool { _, ok := x.View(u.cluster).Get(key("web")); return !ok })
	require.Equal(t, Mark{Key: key("web"), Gone: true, LastUID: string(created.GetUID())}, m.await(t))
	live, err = x.QuorumGet(t.Context(), u.cluster, "web")
	require.NoError(t, err)
	require.Equal(t, Live{}, live)
}

func TestT6_a_list_that_lies_heals_and_proves_nothing(t *testing.T) {
	t.Parallel()
	proxy := env.StartProxy(t, env.Shared(t).RESTConfig())
	u := newUser(t, env.Shared(t).RESTConfig())
	created := u.create("web")
	proxy.Inject(env.Fault{Match: env.Match{Verbs: []string{"list"}, Resources: []string{"manifestworks"}}, EmptyList: true, Times: 1})
	x := startIndex(t, proxy.RESTConfig())
	_, ok := x.View(u.cluster).Get(key("web"))
	require.False(t, ok, "the index believes the list")
	live, err := x.QuorumGet(t.Context(), u.cluster, "web")
	require.NoError(t, err)
	require.True(t, live.Found, "a quorum read does not")
	reaches(t, x, created)
}

func TestIndex_survives_what_happens_to_apiservers(t *testing.T) {
	t.Parallel()
	plane := env.StartPlane(t, env.Options{
		Name: "store-own", CRDs: deploy.HubCRDs(), NoAudit: true,
		// No watch cache and quick compaction: a watch from a little while ago is 410.
		APIServerFlags: []string{"--watch-cache=false", "--etcd-compaction-interval=1s"},
	})
	u := newUser(t, plane.RESTConfig())
	proxy := env.StartProxy(t, plane.RESTConfig())
	type restore struct{ seen, listed uint64 }
	restores := make(chan restore, 10)
	x, err := NewIndex(IndexConfig{Config: proxy.RESTConfig(), OnRestored: func(_ context.Context, seen, listed uint64) error {
		restores <- restore{seen, listed}
		return nil
	}})
	require.NoError(t, err)
	runs(t, x.Run)
	synced(t, x)
	first := u.create("first")
	reaches(t, x, first)

	t.Run("restart", func(t *testing.T) {
		require.NoError(t, plane.RestartAPIServer(t.Context()))
		reaches(t, x, u.create("after-restart"))
	})
	t.Run("compaction", func(t *testing.T) {
		reaches(t, x, u.patch("first", `{"metadata":{"annotations":{"last":"seen"}}}`))
		lists, seen := x.Stats().Lists, x.HighWater()
		away := proxy.Inject(env.Fault{Match: env.Match{Resources: []string{"manifestworks"}}, Status: 503})
		require.NoError(t, plane.RestartAPIServer(t.Context())) // ends the watch
		u.delete("after-restart")
		direct := mustWorks(t, plane.RESTConfig())
		eventually(t, "what the index needs is compacted away", func() bool { return compacted(t, direct, seen) })
		away()
		eventually(t, "the delete is noticed", func() bool { _, ok := x.View(u.cluster).Get(key("after-restart")); return !ok })
		require.Greater(t, x.Stats().Lists, lists, "by a new list")
	})
	t.Run("restore", func(t *testing.T) {
		backup, err := plane.Snapshot(t.Context())
		require.NoError(t, err)
		newer := u.create("newer")
		reaches(t, x, newer)
		reaches(t, x, u.patch("first", `{"spec":{"workload":{"manifests":[]}}}`))
		require.NoError(t, plane.Restore(t.Context(), backup))
		r := <-restores
		require.GreaterOrEqual(t, r.seen, parseRV(newer.GetResourceVersion()))
		t.Logf("noticed: %d was seen, the restored hub is at %d", r.seen, r.listed)
		eventually(t, "the older state is taken in", func() bool {
			_, ok := x.View(u.cluster).Get(key("newer"))
			w, _ := x.View(u.cluster).Get(key("first"))
			return !ok && w.ResourceVersion == u.get("first").GetResourceVersion()
		})
		reaches(t, x, u.create("after-restore"))
	})
}

// compacted tells whether a watch from there is answered with 410.
func compacted(t *testing.T, w works, after uint64) bool {
	t.Helper()
	stream, err := w.watch(t.Context(), after, time.Second)
	if err != nil {
		return expired(err)
	}
	defer stream.Close()
	lines := lineReader{r: bufio.NewReader(stream)}
	line, err := lines.next()
	if err != nil {
		return false
	}
	kind, _, err := wire.ScanEvent(line)
	return err == nil && kind == "ERROR"
}
