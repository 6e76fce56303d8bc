// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/person"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cached and live are where tell is told to read from.
type cached struct{ client.Reader }

type live struct{ client.Client }

// audience is a reporter that notes what it is told. A read takes as long as slow
// says; lags is how often a key's cache is behind.
type audience struct {
	read  chan string
	lags  map[string]int
	froms map[string]string
	right error
}

func (*audience) begin(bool)                        {}
func (a *audience) authorize(context.Context) error { return a.right }
func (a *audience) bookmark(b *schedulerv1.Bookmark) error {
	at, _ := parseToken(b.GetResumeToken())
	a.read <- "mark " + at.Marks[0]
	return nil
}
func (a *audience) reset(why string) error { a.read <- "reset: " + why; return nil }
func (a *audience) tell(_ context.Context, from client.Reader, key types.NamespacedName, w *want) (bool, error) {
	if a.lags[key.Name] > 0 {
		a.lags[key.Name]--
		return false, nil
	}
	a.froms[key.Name] = fmt.Sprintf("%T", from)
	a.read <- fmt.Sprintf("%s@%d", key.Name, w.primary.rv)
	return true, nil
}

// hubOf is a hub whose apiserver's watch is w.
func hubOf(a *audience, w watch.Interface, watchErr func() error) (*follower, *dirty) {
	scheme := runtime.NewScheme()
	_ = metav1.AddMetaToScheme(scheme)
	changes := fake.NewSimpleMetadataClient(scheme)
	changes.PrependWatchReactor("*", func(clienttesting.Action) (bool, watch.Interface, error) {
		if err := watchErr(); err != nil {
			return true, nil, err
		}
		return true, w, nil
	})
	service := &Service{
		Config: Config{
			Cache: cached{}, Direct: live{}, Now: time.Now, Epoch: func() string { return "e1" }, Logger: slog.New(slog.DiscardHandler),
		},
		metadata: changes, watches: person.NewWatches(1), restored: make(chan struct{}),
	}
	byName := func(o *metav1.PartialObjectMetadata) (types.NamespacedName, bool) {
		return types.NamespacedName{Name: o.Name}, true
	}
	f := &follower{Service: service, waits: new(atomic.Int64), reporter: a, watch: "w", kinds: []kind{{resource: managedClusters, key: byName}}}
	return f, newDirty(marks{"100"})
}

func object(name string, rv int) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: strconv.Itoa(rv)}}
}

func fine() error { return nil }

// A reader that does not read costs its dirty keys: ten thousand changes of two
// clusters are two names, and two messages when it reads again.
func TestSlowReaderCostsItsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &audience{read: make(chan string), lags: map[string]int{}, froms: map[string]string{}}
		w := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 0})
		f, pending := hubOf(a, w, fine)
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- f.feed(ctx, pending, 0) }()
		go func() { done <- f.send(ctx, pending, marks{}, "e1", nil) }()
		require.Equal(t, "mark 100", <-a.read, "it goes on from there")
		w.Modify(object("a", 101))
		synctest.Wait() // the sender is in the first message, and nobody reads
		for i := range 10000 {
			w.Modify(object([]string{"a", "b"}[i%2], 102+i))
		}
		synctest.Wait()
		require.Equal(t, 2, pending.len())
		require.Equal(t, []string{"a@101", "a@10100", "b@10101", "mark 10101"}, []string{<-a.read, <-a.read, <-a.read, <-a.read})
		began := time.Now()
		require.Equal(t, "mark 10101", <-a.read)
		require.Equal(t, heartbeat, time.Since(began), "a reader hears that the hub is there")
		end()
		require.ErrorIs(t, <-done, context.Canceled)
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

// deaf is a stream whose client reads nothing.
type deaf struct {
	grpc.ServerStreamingServer[schedulerv1.WatchClustersResponse]
	closed chan struct{}
}

func (d deaf) Send(*schedulerv1.WatchClustersResponse) error {
	<-d.closed
	return io.EOF
}

// A reader who takes nothing gives his place up, though his connection lives.
func TestReaderWhoTakesNothingIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := hubOf(nil, watch.NewFake(), fine)
		stream := deaf{closed: make(chan struct{})}
		f.reporter = &clusterWatch{Service: f.Service, stream: reader[schedulerv1.WatchClustersResponse]{stream, f.waits}}
		began := time.Now()
		first := func(context.Context) error { return f.reset("a message") }
		err := f.watches.Run(t.Context(), func(ctx context.Context) error { return f.serve(ctx, first) })
		require.Equal(t, reason.SlowConsumer, rpcerr.From(err).Reason)
		require.InDelta(t, readPatience, time.Since(began), float64(readLook))
		close(stream.closed) // as gRPC does when the handler has returned
		synctest.Wait()
		require.NoError(t, f.watches.Run(t.Context(), func(context.Context) error { return nil }), "its place is free")
	})
}

// flood sends to a client that reads nothing, until its handler returns.
type flood struct {
	schedulerv1.UnimplementedSchedulerServiceServer

	ended chan error
}

func (f flood) WatchClusters(_ *schedulerv1.WatchClustersRequest, stream grpc.ServerStreamingServer[schedulerv1.WatchClustersResponse]) error {
	go func() {
		for {
			if err := stream.Send(&schedulerv1.WatchClustersResponse{Event: &schedulerv1.WatchClustersResponse_Removed{Removed: strings.Repeat("x", 1<<16)}}); err != nil {
				f.ended <- err
				return
			}
		}
	}()
	synctest.Wait() // until it waits for the client
	return rpcerr.New(codes.ResourceExhausted, reason.SlowConsumer, "left")
}

// What serve relies on: a Send that waits for its client ends with the handler.
func TestSendEndsWithItsHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, service, server := bufconn.Listen(1<<10), flood{ended: make(chan error, 1)}, grpc.NewServer()
		schedulerv1.RegisterSchedulerServiceServer(server, service)
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		conn, err := grpc.NewClient("passthrough:hub", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		require.NoError(t, err)
		_, err = schedulerv1.NewSchedulerServiceClient(conn).WatchClusters(t.Context(), &schedulerv1.WatchClustersRequest{})
		require.NoError(t, err)
		require.Error(t, <-service.ended)
		require.NoError(t, conn.Close())
		server.Stop()
		require.NoError(t, <-served)
	})
}

// A panic is an error of that watch.
func TestPanicEndsItsWatchOnly(t *testing.T) {
	f, _ := hubOf(nil, nil, fine)
	err := f.serve(t.Context(), func(context.Context) error { panic("canary") }) //nolint:forbidigo // it is what is tested
	require.Equal(t, reason.Internal, rpcerr.From(err).Reason)
	require.NotContains(t, err.Error(), "canary")
}

// A reader of whom too much would have to be remembered begins anew.
func TestTooMuchForOneReader(t *testing.T) {
	d := newDirty(marks{})
	for i := range maxUnread / 2 {
		d.put(change{kind: 1, name: strconv.Itoa(i), key: types.NamespacedName{Name: "web"}})
		d.put(change{kind: 1, name: strconv.Itoa(i), key: types.NamespacedName{Name: "web"}})
	}
	require.Equal(t, maxUnread/2+1, d.len(), "each name once, also of what belongs to a key")
	d.take()
	require.Zero(t, d.len())
}

// What changed is told as soon as the cache has it, what the cache does not get is
// read from the apiserver, and no bookmark says more than was told.
func TestCacheThatLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &audience{read: make(chan string, 100), lags: map[string]int{"late": 3, "never": cacheTries}, froms: map[string]string{}}
		f, pending := hubOf(a, nil, fine)
		for i, name := range []string{"now", "late", "never"} {
			pending.put(change{name: name, key: types.NamespacedName{Name: name}, version: version{rv: uint64(i)}})
		}
		pending.reached(0, "105")
		began := time.Now()
		told, err := f.flush(t.Context(), pending)
		require.NoError(t, err)
		require.Equal(t, "105", told[0])
		require.Equal(t, cacheTries*cacheStep, time.Since(began))
		require.Equal(t, map[string]string{"now": "scheduler.cached", "late": "scheduler.cached", "never": "scheduler.live"}, a.froms)
	})
}

// A key that changes again while the cache lags is told once, with its newest change.
func TestCatchUp(t *testing.T) {
	d := newDirty(marks{})
	key := types.NamespacedName{Name: "a"}
	d.put(change{kind: 0, key: key, version: version{rv: 1}})
	d.put(change{kind: 1, name: "p", key: key, version: version{rv: 2}})
	d.put(change{kind: 1, name: "q", key: key, version: version{rv: 3}})
	batch, _ := d.take()
	d.catchUp(batch)
	require.Equal(t, &want{primary: &version{rv: 1}, parts: map[string]version{"p": {rv: 2}, "q": {rv: 3}}}, batch[key], "nothing newer")
	d.put(change{kind: 1, name: "p", key: key, version: version{rv: 4, deleted: true}})
	d.catchUp(batch)
	require.Equal(t, &want{primary: &version{rv: 1}, parts: map[string]version{"p": {rv: 4, deleted: true}, "q": {rv: 3}}}, batch[key])
	d.put(change{kind: 0, key: key, version: version{rv: 5}})
	d.catchUp(batch)
	require.Equal(t, &version{rv: 5}, batch[key].primary)
	require.Zero(t, d.len())
}

// A reader is told of all that there is before the bookmark that says so, whatever
// changes meanwhile: a scheduler would take away what it is not told of.
func TestAllIsToldBeforeTheFirstBookmark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &audience{read: make(chan string, 100), lags: map[string]int{"busy": 3}, froms: map[string]string{}}
		f, pending := hubOf(a, nil, fine)
		change := change{name: "busy", key: types.NamespacedName{Name: "busy"}, version: version{rv: 101}}
		pending.put(change)
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.send(ctx, pending, marks{}, "e1", nil) }()
		synctest.Wait() // the cache has not got it yet
		change.rv = 102
		pending.put(change)
		require.Equal(t, []string{"busy@102", "mark 100"}, []string{<-a.read, <-a.read})
		end()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func TestSeen(t *testing.T) {
	at := func(rv int) map[string]*metav1.PartialObjectMetadata {
		return map[string]*metav1.PartialObjectMetadata{"p": object("p", rv)}
	}
	for name, tc := range map[string]struct {
		reason string
		wanted version
		have   map[string]*metav1.PartialObjectMetadata
		want   bool
	}{
		"older":          {"the change is not there yet", version{rv: 5}, at(4), false},
		"equal":          {"it is there", version{rv: 5}, at(5), true},
		"newer":          {"so is a later one", version{rv: 5}, at(6), true},
		"absent":         {"not created yet", version{rv: 5}, nil, false},
		"deleted":        {"gone, as it should", version{rv: 5, deleted: true}, nil, true},
		"not gone yet":   {"the deletion is not there yet", version{rv: 5, deleted: true}, at(4), false},
		"made once more": {"deleted, and made again", version{rv: 5, deleted: true}, at(6), true},
	} {
		require.Equal(t, tc.want, seen(map[string]version{"p": tc.wanted}, tc.have), "%s: %s", name, tc.reason)
	}
}

// An apiserver that says nothing for long ends the watch, for there may be a replica
// that has one; one that forgot what changed has it begin anew.
func TestFeedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, pending := hubOf(&audience{}, nil, func() error { return errors.New("connection refused") })
		began := time.Now()
		err := f.feed(t.Context(), pending, 0)
		require.Equal(t, codes.Unavailable, rpcerr.From(err).Code)
		require.Equal(t, reason.ApiserverLost, rpcerr.From(err).Reason)
		require.InDelta(t, apiserverPatience, time.Since(began), float64(2*time.Second))
	})
	w := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 1})
	f, pending := hubOf(&audience{}, w, fine)
	w.Error(&metav1.Status{Status: metav1.StatusFailure, Code: 410, Reason: metav1.StatusReasonExpired})
	var again *anew
	require.ErrorAs(t, f.feed(t.Context(), pending, 0), &again)
	tooLarge := apierrors.NewTimeoutError("Too large resource version: 100, current: 7", 1)
	tooLarge.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge}}
	synctest.Test(t, func(t *testing.T) {
		f, pending := hubOf(&audience{}, nil, func() error { return tooLarge })
		ctx, cancel := context.WithTimeout(t.Context(), apiserverPatience)
		defer cancel()
		require.ErrorAs(t, f.feed(ctx, pending, 0), &again)
		require.Equal(t, "the hub's apiserver went back in time", again.why)
	})
}

// A right that is taken away ends the watch within a minute, and a restore has it
// begin anew at once.
func TestSendEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &audience{read: make(chan string, 100)}
		f, pending := hubOf(a, nil, fine)
		a.right = rpcerr.New(codes.PermissionDenied, reason.PermissionDenied, "no")
		began := time.Now()
		require.ErrorIs(t, f.send(t.Context(), pending, marks{}, "e1", nil), a.right)
		require.Equal(t, reauthorize, time.Since(began))
		restored := f.restores()
		f.Restored()
		var again *anew
		require.ErrorAs(t, f.send(t.Context(), pending, marks{}, "e1", restored), &again)
	})
}

func TestResume(t *testing.T) {
	f, _ := hubOf(&audience{}, nil, fine)
	good := token{Epoch: "e1", Watch: "w", Marks: marks{"0"}}
	for name, text := range map[string]string{
		"nonsense": "?", "another epoch": token{Epoch: "e0", Watch: "w", Marks: good.Marks}.String(),
		"another watch": token{Epoch: "e1", Watch: "v", Marks: good.Marks}.String(), "the future": token{Epoch: "e1", Watch: "w", Marks: marks{"99999999"}}.String(),
	} {
		_, err := f.resume(t.Context(), text)
		var again *anew
		require.ErrorAs(t, err, &again, name)
	}
	from, err := f.resume(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, marks{}, from, "a snapshot, without a reset")
	from, err = f.resume(t.Context(), good.String())
	require.NoError(t, err)
	require.Equal(t, good.Marks, from)
}

// FuzzToken: whatever a reader brings is a token of ours, which stays itself, or
// none.
func FuzzToken(f *testing.F) {
	f.Add(token{Epoch: "e", Watch: "w", Marks: marks{"1", "2"}}.String())
	f.Add("")
	f.Add("e30")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, ok := parseToken(text)
		if !ok {
			return
		}
		again, ok := parseToken(parsed.String())
		raw, _ := json.Marshal(parsed)
		require.True(t, ok || len(raw) > maxToken/2, text)
		require.True(t, !ok || again == parsed)
	})
}
