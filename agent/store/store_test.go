// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"fairlead.dev/fairlead/agent/store/hold"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		runChild(dir, os.Getenv(childStep))
		return
	}
	env.Main(m, env.Options{Name: "store", NoAudit: true})
}

func work(name string) wire.Key { return wire.Key{Kind: wire.KindWork, Name: name} }

func revOf(uid string, generation int64, content []byte) wire.Revision {
	return wire.Revision{UID: uid, Generation: generation, Digest: sha256.Sum256(content), Size: uint64(len(content)), ResourceVersion: "77"}
}

// noise does not compress, so that bodies are as large as they look.
func noise(n int) []byte {
	source := rand.NewChaCha8([32]byte{1})
	out := make([]byte, n)
	_, _ = source.Read(out)
	return out
}

type changes struct {
	mu   sync.Mutex
	keys []wire.Key
	held int
}

func (c *changes) noteHeld() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held++
}

func (c *changes) note(key wire.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = append(c.keys, key)
}

func (c *changes) take() []wire.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := c.keys
	c.keys = nil
	return keys
}

func open(t *testing.T, backend Backend, changed *changes) *Store {
	t.Helper()
	cfg := Config{Backend: backend, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}}
	if changed != nil {
		cfg.Changed, cfg.HeldChanged = changed.note, changed.noteHeld
	}
	s, err := Open(t.Context(), cfg)
	require.NoError(t, err)
	return s
}

func files(t *testing.T, dir string) *Files {
	t.Helper()
	f, err := NewFiles(dir)
	require.NoError(t, err)
	return f
}

func welcome(t *testing.T, s *Store, epoch string, rv uint64) {
	t.Helper()
	require.NoError(t, s.Welcomed(t.Context(), Hub{ID: "hub-1", Epoch: epoch, HighWater: wire.HighWater{ResourceVersion: rv, Proof: []byte("proof")}}))
}

func put(t *testing.T, s *Store, name string, generation int64, content string) {
	t.Helper()
	require.NoError(t, s.Put(t.Context(), work(name), revOf("uid-"+name, generation, []byte(content)), []byte(content)))
}

func content(t *testing.T, s *Store, name string) string {
	t.Helper()
	object, ok, err := s.Get(work(name))
	require.NoError(t, err)
	require.True(t, ok, name)
	return string(object.Content)
}

// contract is what every backend has to keep across a restart.
func contract(t *testing.T, reopen func() *Store) {
	t.Helper()
	ctx := t.Context()
	s := reopen()
	require.Empty(t, s.Snapshot().Entries)
	welcome(t, s, "e1", 100)
	first := s.Snapshot().StoreEpoch
	require.NotEmpty(t, first)

	big := noise(wire.MaxObject)
	long := "n" + string(make([]byte, 0, 1)) + fmt.Sprintf("%0250d", 7)
	put(t, s, "a", 1, "content of a")
	put(t, s, "b", 1, "content of b")
	put(t, s, "c", 1, "")
	put(t, s, long, 1, "a long name")
	require.NoError(t, s.Put(ctx, work("big"), revOf("uid-big", 3, big), big))
	verdict, err := s.Request(ctx, work("b"), "uid-b", 2)
	require.NoError(t, err)
	require.Equal(t, Stored, verdict)
	verdict, err = s.Request(ctx, work("gone"), "uid-gone", 9)
	require.NoError(t, err)
	require.Equal(t, Stored, verdict)
	verdict, err = s.Orphan(ctx, work("a"), "uid-a", "batch")
	require.NoError(t, err)
	require.Equal(t, Stored, verdict)
	verdict, err = s.Orphan(ctx, work("c"), "uid-c", "batch")
	require.NoError(t, err)
	require.Equal(t, HeldBack, verdict, "two of six are more than 20 %")
	before := s.Snapshot()
	held := s.Held()
	require.Len(t, held, 1)
	require.Len(t, held[0].Entries, 2)

	s = reopen()
	require.Empty(t, s.Dropped())
	after := s.Snapshot()
	require.ElementsMatch(t, before.Entries, after.Entries)
	before.Entries, after.Entries = nil, nil
	require.Equal(t, before, after)
	require.Equal(t, held[0].ID, s.Held()[0].ID)
	require.Equal(t, "content of a", content(t, s, "a"))
	require.Equal(t, string(big), content(t, s, "big"))
	object, ok, err := s.Get(work("gone"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, Object{UID: "uid-gone", Delete: DeleteRequested}, object)

	smaller := noise(wire.MaxObject / 2)
	require.NoError(t, s.Put(ctx, work("big"), revOf("uid-big", 4, smaller), smaller))
	require.NoError(t, s.Forget(ctx, work("b"), "uid-b"))
	require.NoError(t, s.Forget(ctx, work("gone"), "another"))
	require.NoError(t, s.Forget(ctx, work("big"), "uid-big"), "not being deleted: it stays")
	require.NoError(t, s.Release(ctx, held[0].ID))

	s = reopen()
	require.Equal(t, string(smaller), content(t, s, "big"))
	require.Len(t, s.Keys(wire.KindWork), 5)
	object, _, err = s.Get(work("a"))
	require.NoError(t, err)
	require.Equal(t, DeleteOrphaned, object.Delete)
	require.NoError(t, s.Removed(ctx, work("a"), "uid-a"))
	require.NoError(t, s.Removed(ctx, work("c"), "uid-c"))

	s = reopen()
	require.Len(t, s.Keys(wire.KindWork), 3)
	require.Len(t, s.book.Done, 2, "finished orphans count for a day, also after a restart")
	require.Equal(t, first, s.Snapshot().StoreEpoch)
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	contract(t, func() *Store { return open(t, files(t, dir), nil) })
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, left, 4, "three records and the store's own: %v", left)
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, files(t, dir), nil)
	welcome(t, s, "e1", 1)
	put(t, s, "a", 1, "secret")
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	for _, name := range found {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
}

func TestDamageIsDroppedAndReported(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reason string
		damage func(raw []byte) []byte
	}{
		"a byte":    {"a flipped byte in the content", func(raw []byte) []byte { raw[len(raw)-40] ^= 1; return raw }},
		"truncated": {"half a file", func(raw []byte) []byte { return raw[:len(raw)/2] }},
		"empty":     {"an empty file, as a crash without fsync leaves it", func([]byte) []byte { return nil }},
		"foreign":   {"another program's file", func([]byte) []byte { return []byte("#!/bin/sh\necho hello, this is long enough to be looked at\n") }},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, files(t, dir), nil)
			welcome(t, s, "e1", 1)
			put(t, s, "a", 1, "content of a")
			put(t, s, "b", 1, "content of b")
			path := filepath.Join(dir, recordID(work("a"))+recordSuffix)
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, tc.damage(raw), 0o600))

			s = open(t, files(t, dir), nil)
			require.Len(t, s.Dropped(), 1, tc.reason)
			require.Len(t, s.Keys(wire.KindWork), 1)
			require.Equal(t, "content of b", content(t, s, "b"))
			require.Empty(t, open(t, files(t, dir), nil).Dropped(), "reported once")
		})
	}
}

func TestLostMetaMakesANewEpochAndHolds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, files(t, dir), nil)
	welcome(t, s, "e1", 100)
	for i := range 20 {
		put(t, s, fmt.Sprintf("w%d", i), 1, "content")
	}
	first := s.Snapshot().StoreEpoch
	require.NoError(t, os.WriteFile(filepath.Join(dir, metaFile), []byte("damaged"), 0o600))

	s = open(t, files(t, dir), nil)
	require.NotEqual(t, first, s.Snapshot().StoreEpoch)
	require.Len(t, s.Keys(wire.KindWork), 20, "what can be read is kept")
	welcome(t, s, "e1", 100)
	verdict, err := s.Orphan(t.Context(), work("w1"), "uid-w1", "batch")
	require.NoError(t, err)
	require.Equal(t, HeldBack, verdict, "nobody knows under which epoch it was stored")
}

func TestHighWaterIsDurableWithWhatIsHeld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, files(t, dir), nil)
	welcome(t, s, "e1", 100)
	s.Marked(wire.HighWater{ResourceVersion: 150, Proof: []byte("p150")})
	put(t, s, "a", 1, "content")
	s.Marked(wire.HighWater{ResourceVersion: 140})

	s = open(t, files(t, dir), nil)
	require.Equal(t, wire.HighWater{ResourceVersion: 150, Proof: []byte("p150")}, s.Snapshot().HighWater)
	welcome(t, s, "e2", 40)
	require.EqualValues(t, 40, open(t, files(t, dir), nil).Snapshot().HighWater.ResourceVersion, "a mark of the old epoch does not come back")
}

// Once a delete is finished nothing is left of its record, which had the newest
// mark; a replica that lags must not be believed about that object all the same.
func TestHighWaterOutlivesWhatWasDeleted(t *testing.T) {
	t.Parallel()
	for name, told := range map[string]func(*Store){
		"by a message":        func(s *Store) { s.Marked(wire.HighWater{ResourceVersion: 150, Proof: []byte("p150")}) },
		"as a session begins": func(s *Store) { welcome(t, s, "e1", 150) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			highWaterOutlives(t, told)
		})
	}
}

func highWaterOutlives(t *testing.T, told func(*Store)) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, files(t, dir), nil)
	welcome(t, s, "e1", 100)
	put(t, s, "a", 1, "content")
	told(s)
	_, err := s.Request(t.Context(), work("a"), "uid-a", 2)
	require.NoError(t, err)
	require.NoError(t, s.Forget(t.Context(), work("a"), "uid-a"))

	snapshot := open(t, files(t, dir), nil).Snapshot()
	require.Empty(t, snapshot.Entries)
	require.EqualValues(t, 150, snapshot.HighWater.ResourceVersion)
}

func TestOtherHubIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	welcome(t, open(t, files(t, dir), nil), "e1", 100)
	s := open(t, files(t, dir), nil)
	before := s.Snapshot()
	require.ErrorIs(t, s.Welcomed(t.Context(), Hub{ID: "hub-2", Epoch: "e9"}), ErrOtherHub)
	require.Equal(t, before, s.Snapshot())
}

func TestSyncedTakesTheNewEpoch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, files(t, dir), nil)
	welcome(t, s, "e1", 100)
	for i := range 20 {
		put(t, s, fmt.Sprintf("w%d", i), 1, "content")
	}
	welcome(t, s, "e2", 50)
	put(t, s, "w0", 1, "content")
	require.NoError(t, s.Synced(t.Context(), []wire.Key{work("w1")}))
	s = open(t, files(t, dir), nil)
	require.Equal(t, map[wire.Key]string{work("w1"): "e1"}, s.book.Older)
	require.Equal(t, "e2", s.Snapshot().HubEpoch)
}

var errDisk = errors.New("no space left")

// failing refuses to write while it is told to.
type failing struct {
	Backend
	mu  sync.Mutex
	err error
}

func (f *failing) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failing) PutRecord(ctx context.Context, record Record) error {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.Backend.PutRecord(ctx, record)
}

func TestNothingIsVisibleBeforeItIsDurable(t *testing.T) {
	t.Parallel()
	backend := &failing{Backend: files(t, t.TempDir())}
	changed := &changes{}
	s := open(t, backend, changed)
	welcome(t, s, "e1", 1)
	put(t, s, "a", 1, "one")
	changed.take()

	backend.set(errDisk)
	require.ErrorIs(t, s.Put(t.Context(), work("a"), revOf("uid-a", 2, []byte("two")), []byte("two")), errDisk)
	_, err := s.Request(t.Context(), work("a"), "uid-a", 2)
	require.ErrorIs(t, err, errDisk)
	_, err = s.Orphan(t.Context(), work("a"), "uid-a", "batch")
	require.ErrorIs(t, err, errDisk)
	require.Empty(t, changed.take())
	require.Equal(t, "one", content(t, s, "a"))
	object, _, err := s.Get(work("a"))
	require.NoError(t, err)
	require.Equal(t, DeleteNone, object.Delete)

	backend.set(nil)
	put(t, s, "a", 2, "two")
	require.Equal(t, []wire.Key{work("a")}, changed.take())
}

func TestDueDeletesAreTold(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		changed := &changes{}
		s := open(t, files(t, dir), changed)
		welcome(t, s, "e1", 1)
		for i := range 20 {
			put(t, s, fmt.Sprintf("w%d", i), 1, "content")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		_, err := s.Orphan(t.Context(), work("w3"), "uid-w3", "batch")
		require.NoError(t, err)
		changed.take()

		time.Sleep(DefaultGrace - time.Second)
		synctest.Wait()
		require.Empty(t, changed.take())
		object, _, err := s.Get(work("w3"))
		require.NoError(t, err)
		require.Equal(t, DeleteNone, object.Delete)

		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []wire.Key{work("w3")}, changed.take())
		object, _, err = s.Get(work("w3"))
		require.NoError(t, err)
		require.Equal(t, DeleteOrphaned, object.Delete)

		s.Marked(wire.HighWater{ResourceVersion: 99})
		cancel()
		require.NoError(t, <-done)
		require.EqualValues(t, 99, open(t, files(t, dir), nil).Snapshot().HighWater.ResourceVersion, "written at the end")
	})
}

func TestConcurrentWrites(t *testing.T) {
	t.Parallel()
	s := open(t, files(t, t.TempDir()), nil)
	welcome(t, s, "e1", 1)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			name := fmt.Sprintf("w%d", i%4)
			for n := range int64(10) {
				body := []byte(fmt.Sprintf("%s %d", name, n))
				_ = s.Put(t.Context(), work(name), revOf("uid-"+name, n, body), body)
				_, _ = s.Orphan(t.Context(), work(name), "uid-"+name, "batch")
				s.Snapshot()
				s.Held()
			}
		})
	}
	group.Wait()
	require.Len(t, s.Keys(wire.KindWork), 4)
}

func TestReleasedDeleteIsToldAtOnce(t *testing.T) {
	t.Parallel()
	changed := &changes{}
	s := open(t, files(t, t.TempDir()), changed)
	welcome(t, s, "e1", 1)
	put(t, s, "a", 1, "one")
	put(t, s, "b", 1, "one")
	for _, name := range []string{"a", "b"} {
		_, err := s.Orphan(t.Context(), work(name), "uid-"+name, "batch")
		require.NoError(t, err)
	}
	held := s.Held()
	require.Len(t, held, 1)
	require.Equal(t, hold.Count, held[0].Reason)
	object, _, err := s.Get(work("a"))
	require.NoError(t, err)
	require.Equal(t, DeleteHeld, object.Delete)
	changed.take()
	require.Positive(t, changed.held)
	changed.held = 0
	require.NoError(t, s.Release(t.Context(), held[0].ID))
	require.Positive(t, changed.held)
	require.ElementsMatch(t, []wire.Key{work("a"), work("b")}, changed.take())
	object, _, err = s.Get(work("a"))
	require.NoError(t, err)
	require.Equal(t, DeleteOrphaned, object.Delete)
}

// deceiving stores what it is given and says that it did not.
type deceiving struct {
	Backend
	on bool
}

func (d *deceiving) PutRecord(ctx context.Context, record Record) error {
	err := d.Backend.PutRecord(ctx, record)
	if d.on {
		return errDisk
	}
	return err
}

// A write that failed may be durable all the same. When the hub has been restored
// meanwhile, what a restart then finds is of the epoch before, and is held.
func TestFailedWritesAreOfTheirEpoch(t *testing.T) {
	dir := t.TempDir()
	backend := &deceiving{Backend: files(t, dir)}
	s := open(t, backend, nil)
	welcome(t, s, "e1", 1)
	for i := range 9 { // so that one orphan is not too many
		put(t, s, fmt.Sprint("other-", i), 1, "content")
	}
	backend.on = true
	body := []byte("content of a")
	require.ErrorIs(t, s.Put(t.Context(), work("a"), revOf("uid-a", 1, body), body), errDisk)
	backend.on = false
	welcome(t, s, "e2", 2)
	require.NoError(t, s.Synced(t.Context(), nil))

	s = open(t, files(t, dir), nil)
	welcome(t, s, "e2", 2)
	verdict, err := s.Orphan(t.Context(), work("a"), "uid-a", "batch")
	require.NoError(t, err)
	require.Equal(t, HeldBack, verdict)
}
