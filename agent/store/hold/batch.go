// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hold

import (
	"cmp"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/wire"
)

// Batch is a group of deletes or prunes that are held for one reason. Its ID is
// computed here, from exactly the objects in it, whatever the hub called it: a
// release never covers more than a person has seen.
type Batch struct {
	ID      string
	Reason  Reason
	Prunes  bool // what is held are prunes, not deletes
	Entries []wire.Entry
	Since   time.Time
}

// group is what the objects of one batch have in common.
type group struct {
	prunes bool
	batch  string // as announced by the hub
	reason Reason
}

// Batches lists everything held, sorted by ID. An object whose delete is held
// is not listed a second time for its prune, so no two batches share an ID.
func (b *Book) Batches() []Batch {
	groups := map[group]*Batch{}
	for key, item := range b.Items {
		g, since, held := groupOf(item)
		if !held {
			continue
		}
		batch := groups[g]
		if batch == nil {
			batch = &Batch{Reason: g.reason, Prunes: g.prunes, Since: since}
			groups[g] = batch
		}
		if since.Before(batch.Since) {
			batch.Since = since
		}
		batch.Entries = append(batch.Entries, item.Entry(key))
	}
	batches := make([]Batch, 0, len(groups))
	for _, batch := range groups {
		slices.SortFunc(batch.Entries, func(x, y wire.Entry) int {
			return cmp.Or(cmp.Compare(x.Key.Kind, y.Key.Kind), cmp.Compare(x.Key.Name, y.Key.Name))
		})
		batch.ID = wire.BatchID(batch.Entries)
		batches = append(batches, *batch)
	}
	slices.SortFunc(batches, func(x, y Batch) int { return cmp.Compare(x.ID, y.ID) })
	return batches
}

// Held tells whether something about the item waits for a person.
func (i Item) Held() bool {
	_, _, held := groupOf(i)
	return held
}

func groupOf(item Item) (g group, since time.Time, held bool) {
	if d := item.Deletion; d != nil {
		return group{batch: d.Batch, reason: d.Reason}, d.Since, d.State == Held
	}
	if p := item.Prune; p != nil {
		return group{prunes: true, reason: p.Reason}, p.Since, true
	}
	return group{}, time.Time{}, false
}

// Release returns what items become when a person releases the batch of that
// id: its deletes are due now, its prunes happen. An id that names nothing held
// now releases nothing.
func (b *Book) Release(id string, now time.Time) map[wire.Key]Item {
	changed := map[wire.Key]Item{}
	for _, batch := range b.Batches() {
		if batch.ID != id {
			continue
		}
		for _, entry := range batch.Entries {
			item := b.Items[entry.Key]
			if batch.Prunes {
				item.Prune = nil
			} else {
				d := *item.Deletion
				d.State, d.Due = Pending, now
				item.Deletion = &d
			}
			changed[entry.Key] = item
		}
	}
	return changed
}

// NextDue is when the next pending delete that is not due at now becomes due;
// ok is false when none is waiting. DueKeys are those due already.
func (b *Book) NextDue(now time.Time) (due time.Time, ok bool) {
	for _, item := range b.Items {
		d := item.Deletion
		if d == nil || d.State != Pending || d.DueAt(now) {
			continue
		}
		if !ok || d.Due.Before(due) {
			due, ok = d.Due, true
		}
	}
	return due, ok
}

// DueKeys lists the objects whose orphan delete is due in (after, now].
func (b *Book) DueKeys(after, now time.Time) []wire.Key {
	var keys []wire.Key
	for key, item := range b.Items {
		d := item.Deletion
		if d != nil && d.State == Pending && d.DueAt(now) && d.Due.After(after) {
			keys = append(keys, key)
		}
	}
	return keys
}
