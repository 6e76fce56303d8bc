// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hold_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fairlead.dev/fairlead/agent/store/hold"
	"fairlead.dev/fairlead/internal/wire"
)

const grace = time.Hour

func start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func key(i int) wire.Key { return wire.Key{Kind: wire.KindWork, Name: fmt.Sprintf("w%d", i)} }

func uid(i int) string { return fmt.Sprintf("uid-%d", i) }

func rev(uid string, generation int64, content string) wire.Revision {
	return wire.Revision{UID: uid, Generation: generation, Digest: sha256.Sum256([]byte(content)), Size: uint64(len(content))}
}

// bookOf is a book in which n works were stored under epoch "e1".
func bookOf(n int) *hold.Book {
	b := hold.NewBook()
	b.Welcome("e1", wire.HighWater{ResourceVersion: 100})
	for i := range n {
		b.Items[key(i)] = b.Put(key(i), rev(uid(i), 5, "content"), start())
	}
	return b
}

func apply(b *hold.Book, changed map[wire.Key]hold.Item) { maps.Copy(b.Items, changed) }

func orphan(b *hold.Book, from, to int, now time.Time) {
	for i := from; i < to; i++ {
		apply(b, b.Orphan(key(i), uid(i), "batch", now, grace))
	}
}

func states(b *hold.Book) map[hold.State]int {
	out := map[hold.State]int{}
	for _, item := range b.Items {
		if item.Deletion != nil {
			out[item.Deletion.State]++
		}
	}
	return out
}

func TestOrphansAreHeld(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reason  string
		objects int
		orphans int
		prepare func(*hold.Book)
		want    map[hold.State]int
		why     hold.Reason
	}{
		"one of a hundred": {
			reason: "a single lost work waits its grace", objects: 100, orphans: 1,
			want: map[hold.State]int{hold.Pending: 1},
		},
		"the only one": {
			reason: "one is below the two from which the share counts", objects: 1, orphans: 1,
			want: map[hold.State]int{hold.Pending: 1},
		},
		"two of ten": {
			reason: "20 % is not more than 20 %", objects: 10, orphans: 2,
			want: map[hold.State]int{hold.Pending: 2},
		},
		"three of ten": {
			reason: "30 % holds all three, also those that were pending", objects: 10, orphans: 3,
			want: map[hold.State]int{hold.Held: 3}, why: hold.Count,
		},
		"five of five": {
			reason: "a fleet's last works never go by absence", objects: 5, orphans: 5,
			want: map[hold.State]int{hold.Held: 5}, why: hold.Count,
		},
		"ten of a thousand": {
			reason: "ten are not more than ten", objects: 1000, orphans: 10,
			want: map[hold.State]int{hold.Pending: 10},
		},
		"eleven of a thousand": {
			reason: "eleven hold all", objects: 1000, orphans: 11,
			want: map[hold.State]int{hold.Held: 11}, why: hold.Count,
		},
		"after a restore": {
			reason: "a new hub_epoch holds even a single one", objects: 100, orphans: 1,
			prepare: func(b *hold.Book) { b.Welcome("e2", wire.HighWater{ResourceVersion: 50}) },
			want:    map[hold.State]int{hold.Held: 1}, why: hold.HubEpoch,
		},
		"after a restore, confirmed": {
			reason: "what was in sync belongs to the new epoch", objects: 100, orphans: 1,
			prepare: func(b *hold.Book) {
				b.Welcome("e2", wire.HighWater{ResourceVersion: 50})
				b.TakeEpoch(nil)
			},
			want: map[hold.State]int{hold.Pending: 1},
		},
		"mark below": {
			reason: "a hub that knows less than it told is not believed", objects: 100, orphans: 1,
			prepare: func(b *hold.Book) { b.Welcome("e1", wire.HighWater{ResourceVersion: 99}) },
			want:    map[hold.State]int{hold.Held: 1}, why: hold.HighWater,
		},
		"no mark": {
			reason: "no mark at all is below every mark", objects: 100, orphans: 1,
			prepare: func(b *hold.Book) { b.Welcome("e1", wire.HighWater{}) },
			want:    map[hold.State]int{hold.Held: 1}, why: hold.HighWater,
		},
		"mark caught up": {
			reason: "a replica that lagged has caught up", objects: 100, orphans: 1,
			prepare: func(b *hold.Book) {
				b.Welcome("e1", wire.HighWater{ResourceVersion: 99})
				b.Mark(wire.HighWater{ResourceVersion: 100})
			},
			want: map[hold.State]int{hold.Pending: 1},
		},
		"announced before the restore was noticed": {
			reason: "the epoch of now decides, not that of the first announcement", objects: 100, orphans: 1,
			prepare: func(b *hold.Book) {
				orphan(b, 0, 1, start().Add(-time.Minute))
				b.Welcome("e2", wire.HighWater{ResourceVersion: 50})
			},
			want: map[hold.State]int{hold.Held: 1}, why: hold.HubEpoch,
		},
		"a day of them": {
			reason: "ten done within 24 h make the next one held", objects: 1000, orphans: 1,
			prepare: func(b *hold.Book) {
				for i := range 10 {
					b.Finish(start().Add(-time.Duration(i) * time.Hour))
				}
			},
			want: map[hold.State]int{hold.Held: 1}, why: hold.Count,
		},
		"done long ago": {
			reason: "what is older than a day does not count", objects: 1000, orphans: 1,
			prepare: func(b *hold.Book) {
				for range 10 {
					b.Finish(start().Add(-24 * time.Hour))
				}
			},
			want: map[hold.State]int{hold.Pending: 1},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bookOf(tc.objects)
			if tc.prepare != nil {
				tc.prepare(b)
			}
			orphan(b, 0, tc.orphans, start())
			require.Equal(t, tc.want, states(b), tc.reason)
			for _, batch := range b.Batches() {
				require.Equal(t, tc.why, batch.Reason, tc.reason)
			}
		})
	}
}

func TestGrace(t *testing.T) {
	t.Parallel()
	b := bookOf(100)
	orphan(b, 0, 2, start())
	due, ok := b.NextDue(start())
	require.True(t, ok)
	require.Equal(t, start().Add(grace), due)
	require.False(t, b.Items[key(0)].Deletion.DueAt(start().Add(grace-time.Nanosecond)))
	require.True(t, b.Items[key(0)].Deletion.DueAt(start().Add(grace)))
	require.Len(t, b.DueKeys(start(), start().Add(grace)), 2)
	require.Empty(t, b.DueKeys(start().Add(grace), start().Add(2*grace)), "told once")

	orphan(b, 0, 1, start().Add(30*time.Minute))
	require.Equal(t, start().Add(grace), b.Items[key(0)].Deletion.Due, "announced again: the time does not start anew")

	item := b.Put(key(0), rev(uid(0), 5, "content"), start().Add(40*time.Minute))
	require.Nil(t, item.Deletion, "the work came back")
}

func TestT83_deletes_of_another_UID_change_nothing(t *testing.T) {
	t.Parallel()
	b := bookOf(3)
	require.Empty(t, b.Orphan(key(0), "other", "batch", start(), grace))
	_, ok := b.Request(key(0), "other", 7, start())
	require.False(t, ok)
	require.Empty(t, b.Orphan(key(9), uid(9), "batch", start(), grace), "not held at all")
	require.Empty(t, states(b))
}

func TestRequestedDeletes(t *testing.T) {
	t.Parallel()
	b := bookOf(2)
	item, ok := b.Request(key(0), uid(0), 6, start())
	require.True(t, ok)
	b.Items[key(0)] = item
	require.True(t, item.HasContent(), "content says how to delete")
	require.Equal(t, wire.DeletingDigest(uid(0)), item.Entry(key(0)).Digest)
	require.EqualValues(t, 6, item.Entry(key(0)).Generation)
	require.Empty(t, b.Orphan(key(0), uid(0), "batch", start(), grace), "already going")

	item, ok = b.Request(key(7), "never-held", 3, start())
	require.True(t, ok, "a delete of what is not held is recorded too")
	require.False(t, item.HasContent())
	require.Equal(t, "never-held", item.UID())

	b.Welcome("e2", wire.HighWater{})
	_, ok = b.Request(key(1), uid(1), 6, start())
	require.True(t, ok, "requested deletes are never held")
}

func TestPrunesAreHeld(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reason  string
		prepare func(*hold.Book)
		rev     wire.Revision
		want    hold.Reason
	}{
		"next generation": {reason: "an edit prunes at once", rev: rev(uid(0), 6, "new")},
		"same content":    {reason: "nothing changes", rev: rev(uid(0), 5, "content")},
		"generation back": {reason: "an older generation is applied, its prune waits", rev: rev(uid(0), 4, "old"), want: hold.Generation},
		"recreated":       {reason: "another UID is another object", rev: rev("other", 1, "new")},
		"recreated before a restore": {
			reason: "the other object of that name is an older one, of before the restore", rev: rev("other", 1, "new"), want: hold.HubEpoch,
			prepare: func(b *hold.Book) { b.Welcome("e2", wire.HighWater{ResourceVersion: 1}) },
		},
		"mark below": {
			reason: "the hub knows less than it told", rev: rev(uid(0), 6, "new"), want: hold.HighWater,
			prepare: func(b *hold.Book) { b.Welcome("e1", wire.HighWater{ResourceVersion: 1}) },
		},
		"after a restore": {
			reason: "what was stored before the restore", rev: rev(uid(0), 6, "new"), want: hold.HubEpoch,
			prepare: func(b *hold.Book) { b.Welcome("e2", wire.HighWater{ResourceVersion: 1}) },
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bookOf(3)
			if tc.prepare != nil {
				tc.prepare(b)
			}
			item := b.Put(key(0), tc.rev, start())
			if tc.want == "" {
				require.Nil(t, item.Prune, tc.reason)
				return
			}
			require.NotNil(t, item.Prune, tc.reason)
			require.Equal(t, tc.want, item.Prune.Reason)
		})
	}
}

func TestHeldPruneEnds(t *testing.T) {
	t.Parallel()
	back := func() *hold.Book {
		b := bookOf(3)
		b.Items[key(0)] = b.Put(key(0), rev(uid(0), 4, "old"), start())
		return b
	}
	b := back()
	require.Nil(t, b.Put(key(0), rev(uid(0), 5, "content"), start()).Prune, "what was there before is back")
	b.Items[key(0)] = b.Put(key(0), rev(uid(0), 6, "edited"), start())
	require.NotNil(t, b.Items[key(0)].Prune, "an edit of the older content does not say what to do with the rest")
	for range 2 {
		b.Items[key(0)] = b.Put(key(0), rev(uid(0), 5, "content"), start())
		require.NotNil(t, b.Items[key(0)].Prune, "what was there before is back by another restore: what the edit added stays")
	}

	batches := b.Batches()
	require.Len(t, batches, 1)
	require.True(t, batches[0].Prunes)
	apply(b, b.Release(batches[0].ID, start()))
	require.Nil(t, b.Items[key(0)].Prune)
}

func TestRelease(t *testing.T) {
	t.Parallel()
	b := bookOf(40)
	orphan(b, 0, 20, start())
	batches := b.Batches()
	require.Len(t, batches, 1)
	require.Len(t, batches[0].Entries, 20)
	require.Equal(t, wire.BatchID(batches[0].Entries), batches[0].ID, "anybody can compute it from the list")

	require.Empty(t, b.Release("0123", start()), "an unknown id releases nothing")
	orphan(b, 20, 21, start())
	require.Empty(t, b.Release(batches[0].ID, start()), "a batch that grew is not what a person saw")

	released := b.Release(b.Batches()[0].ID, start())
	require.Len(t, released, 21)
	apply(b, released)
	for i := range 21 {
		require.True(t, b.Items[key(i)].Deletion.DueAt(start()))
	}
	orphan(b, 21, 22, start())
	require.True(t, b.Items[key(0)].Deletion.DueAt(start()), "one more that is held does not hold what was released")
}

func TestConfirmCancels(t *testing.T) {
	t.Parallel()
	b := bookOf(100)
	orphan(b, 0, 2, start())
	require.Empty(t, b.Confirm(), "announced in this very session")

	b.Welcome("e1", wire.HighWater{ResourceVersion: 200})
	orphan(b, 0, 1, start())
	changed := b.Confirm()
	require.Len(t, changed, 1, "the hub has the other one again")
	require.Nil(t, changed[key(1)].Deletion)
}

func TestTakeEpoch(t *testing.T) {
	t.Parallel()
	b := bookOf(30)
	require.True(t, b.Welcome("e2", wire.HighWater{ResourceVersion: 10}))
	require.EqualValues(t, 10, b.High.ResourceVersion, "revisions of different pasts are not compared")
	require.Len(t, b.Older, 30)
	orphan(b, 0, 1, start())
	require.True(t, b.TakeEpoch([]wire.Key{key(1)}))
	require.Equal(t, map[wire.Key]string{key(0): "e1", key(1): "e1"}, b.Older, "an orphan and what could not be stored keep theirs")
	require.False(t, b.Welcome("e2", wire.HighWater{ResourceVersion: 10}))
}

// Whatever a hub announces, no more than the limit is ever due without a release.
func TestT7_never_more_than_the_limit_without_release(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "objects")
		b := bookOf(n)
		now := start()
		gone := 0
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				i := rapid.IntRange(0, n-1).Draw(t, "object")
				apply(b, b.Orphan(key(i), uid(i), "batch", now, grace))
			case 2:
				now = now.Add(20 * time.Minute)
			case 3:
				b.Welcome("e1", wire.HighWater{ResourceVersion: 100})
			}
			for k, item := range b.Items {
				if item.Deletion.DueAt(now) {
					b.Finish(now)
					delete(b.Items, k)
					gone++
				}
			}
			if now.Sub(start()) >= hold.Window {
				break
			}
		}
		require.LessOrEqual(t, gone, hold.MaxOrphans)
		require.LessOrEqual(t, gone, max(1, n*hold.MaxShare/100))
	})
}
