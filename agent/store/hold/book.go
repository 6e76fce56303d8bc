// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hold

import (
	"maps"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/wire"
)

// Limits of decision 8: more orphans than either within the window are held.
const (
	// Window is how long a finished orphan delete counts.
	Window = 24 * time.Hour
	// MaxOrphans is how many orphans may be deleted within the window.
	MaxOrphans = 10
	// MaxShare is the share of what is held, in percent, that may.
	MaxShare = 20
	// minOfShare is the number of orphans from which the share counts.
	minOfShare = 2
)

// Book is everything that bears on the question whether to delete. Its methods
// that return items change nothing but what their comment names; the caller
// puts returned items into Items once they are durable. Not safe for concurrent
// use.
type Book struct {
	// Items are the objects held.
	Items map[wire.Key]Item
	// Epoch is the hub_epoch under which everything not in Older was stored or
	// last confirmed.
	Epoch string
	// Older has, for other objects, the epoch that holds for them.
	Older map[wire.Key]string
	// High is the largest mark that the hub told under Epoch.
	High wire.HighWater
	// Done are the times at which orphan deletes were finished.
	Done []time.Time

	behind    bool                  // this session's hub is behind High
	announced map[wire.Key]struct{} // orphans of this session
	unsure    map[wire.Key]struct{} // writes that failed: they may be durable all the same
}

// NewBook returns a book about nothing.
func NewBook() *Book {
	return &Book{Items: map[wire.Key]Item{}, Older: map[wire.Key]string{}, announced: map[wire.Key]struct{}{}, unsure: map[wire.Key]struct{}{}}
}

// Welcome begins a session with a hub of that epoch and mark. It changes the
// book, and tells whether the epoch is another one than before: then every
// object counts as stored under an older epoch until it is confirmed, and the
// mark starts anew, since revisions of different pasts cannot be compared.
func (b *Book) Welcome(epoch string, mark wire.HighWater) (restored bool) {
	b.announced = map[wire.Key]struct{}{}
	if epoch == b.Epoch {
		b.behind = mark.ResourceVersion < b.High.ResourceVersion
		b.Mark(mark)
		return false
	}
	for key := range b.Items {
		b.age(key)
	}
	for key := range b.unsure {
		b.age(key)
	}
	b.Epoch, b.High, b.behind = epoch, mark, false
	return true
}

func (b *Book) age(key wire.Key) {
	if _, older := b.Older[key]; !older {
		b.Older[key] = b.Epoch
	}
}

// Unsure notes in the book that a write of the key failed, or, with failed false,
// that one has succeeded since. What failed may be there after a restart, as it
// was delivered under the epoch of then.
func (b *Book) Unsure(key wire.Key, failed bool) {
	if !failed {
		delete(b.unsure, key)
		return
	}
	b.unsure[key] = struct{}{}
}

// Mark notes a mark of the running session in the book. A hub that has caught
// up with what it once told is not behind any more; what was held meanwhile
// stays held.
func (b *Book) Mark(mark wire.HighWater) {
	if mark.ResourceVersion < b.High.ResourceVersion || mark.ResourceVersion == 0 {
		return
	}
	b.High, b.behind = mark, false
}

// Behind tells whether the hub of this session told less than it once had.
func (b *Book) Behind() bool { return b.behind }

// Put returns what an item becomes when new content arrives. The content takes
// the place of whatever was there, a delete included: the work is back. The
// prune that it would cause is held if the hub may have gone back in time, also
// when it has another object of that name then.
func (b *Book) Put(key wire.Key, rev wire.Revision, now time.Time) Item {
	item := Item{Revision: rev}
	old, had := b.Items[key]
	other := old.Revision.UID != rev.UID
	if !had || !old.HasContent() || other && b.doubtOf(key) == "" {
		return item
	}
	before := contentOf(old.Revision)
	if old.Prune != nil {
		before = old.Prune.Before
	}
	again := old.Prune != nil && (other || rev.Generation < old.Revision.Generation)
	if before == contentOf(rev) && !again {
		return item
	}
	if old.Prune != nil {
		prune := *old.Prune
		if again { // there is something of several pasts on the spoke: only a person can say what is to go
			prune.Before = Content{}
		}
		item.Prune = &prune
		return item
	}
	reason := b.doubtOf(key)
	if reason == "" && rev.Generation < old.Revision.Generation {
		reason = Generation
	}
	if reason != "" {
		item.Prune = &Prune{Reason: reason, Since: now, Before: before}
	}
	return item
}

// doubtOf is why the hub may have gone back in time since the key was stored;
// empty when there is no reason to think so.
func (b *Book) doubtOf(key wire.Key) Reason {
	_, older := b.Older[key]
	switch {
	case b.behind:
		return HighWater
	case older:
		return HubEpoch
	}
	return ""
}

// Request returns what an item becomes when the hub's object of that UID has a
// deletionTimestamp; ok is false when another UID is held. Content stays, since
// it says how to delete.
func (b *Book) Request(key wire.Key, uid string, generation int64, now time.Time) (item Item, ok bool) {
	item, had := b.Items[key]
	if had && item.UID() != uid {
		return item, false
	}
	since := now
	if d := item.Deletion; d != nil && d.State == Requested {
		since = d.Since
	}
	item.Deletion = &Deletion{State: Requested, UID: uid, Generation: generation, Since: since}
	return item, true
}

// Orphan returns what items become when the hub proved that it has no object of
// that UID: the delete is pending until grace is over, or held. When there are
// too many, all that are not due yet are held with it. Unchanged items are not
// returned. The key is noted as announced in this session.
func (b *Book) Orphan(key wire.Key, uid, batch string, now time.Time, grace time.Duration) map[wire.Key]Item {
	item, had := b.Items[key]
	if !had || item.UID() != uid {
		return nil
	}
	b.announced[key] = struct{}{}
	doubt := b.doubtOf(key)
	if d := item.Deletion; d != nil {
		if d.State != Pending || d.DueAt(now) || doubt == "" {
			return nil // known: a second announcement neither hurries nor delays it
		}
		hold(&item, doubt) // it became known before it was noticed that the hub went back in time
		return map[wire.Key]Item{key: item}
	}
	item.Deletion = &Deletion{State: Pending, UID: uid, Batch: batch, Since: now, Due: now.Add(grace)}
	changed := map[wire.Key]Item{}
	switch {
	case doubt != "":
		hold(&item, doubt)
	case TooMany(b.orphans(now)+1, len(b.Items)):
		changed = b.holdPending(now)
		hold(&item, Count)
	}
	changed[key] = item
	return changed
}

// TooMany tells whether so many orphans, of so many objects held, need a person.
func TooMany(orphans, objects int) bool {
	return orphans > MaxOrphans || orphans >= minOfShare && orphans*100 > objects*MaxShare
}

// orphans counts those that are not finished, and those finished in the window.
func (b *Book) orphans(now time.Time) int {
	n := 0
	for _, item := range b.Items {
		if item.Deletion.Orphan() {
			n++
		}
	}
	for _, done := range b.Done {
		if now.Sub(done) < Window {
			n++
		}
	}
	return n
}

func (b *Book) holdPending(now time.Time) map[wire.Key]Item {
	changed := map[wire.Key]Item{}
	for key, item := range b.Items {
		if d := item.Deletion; d != nil && d.State == Pending && !d.DueAt(now) {
			hold(&item, Count)
			changed[key] = item
		}
	}
	return changed
}

// hold replaces the item's deletion by a held one; it never writes through the
// old pointer, which the book still uses.
func hold(item *Item, reason Reason) {
	d := *item.Deletion
	d.State, d.Reason, d.Due = Held, reason, time.Time{}
	item.Deletion = &d
}

// Finish notes in the book that an orphan delete was carried out, and drops
// times that no longer count.
func (b *Book) Finish(now time.Time) {
	b.Done = slices.DeleteFunc(b.Done, func(t time.Time) bool { return now.Sub(t) >= Window })
	b.Done = append(b.Done, now)
}

// Confirm returns what items become at the end of a sync: whatever the hub did
// not announce as an orphan is there, so its orphan delete is cancelled.
func (b *Book) Confirm() map[wire.Key]Item {
	changed := map[wire.Key]Item{}
	for key, item := range b.Items {
		if _, announced := b.announced[key]; announced || !item.Deletion.Orphan() {
			continue
		}
		item.Deletion = nil
		changed[key] = item
	}
	return changed
}

// TakeEpoch moves, in the book, every object to the hub's epoch that is in sync
// with it: all but orphans, what may or may not be stored, and the ones in failed,
// which the hub sent and the agent could not store. It tells whether anything
// changed.
func (b *Book) TakeEpoch(failed []wire.Key) bool {
	n := len(b.Older)
	maps.DeleteFunc(b.Older, func(key wire.Key, _ string) bool {
		_, unsure := b.unsure[key]
		return !unsure && !b.Items[key].Deletion.Orphan() && !slices.Contains(failed, key)
	})
	return len(b.Older) != n
}
