// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fairlead.dev/fairlead/internal/wire"
)

const (
	// pageSize is how many works one page of a list asks for.
	pageSize = 500
	// pageBytes is how big a page may become before the next ones ask for less.
	pageBytes = 16 << 20
	// listTimeout bounds one page.
	listTimeout = 2 * time.Minute
)

// list takes in all works by quorum read, page by page, and returns the
// resourceVersion of the list.
func (x *Index) list(ctx context.Context) (uint64, error) {
	x.lists.Add(1)
	x.inDoubt.Store(false) // a doubt that comes while it runs asks for the next one
	for limit := int64(pageSize); ; limit *= 4 {
		if limit > 64*pageSize {
			limit = 0 // the whole list in one: it cannot expire half way
		}
		x.listing++
		x.last = sighted{}
		if x.answers = x.wanted.Load(); x.answers != x.done.Load() {
			x.restoring = true
		}
		at, err := x.listPages(ctx, limit)
		if err == nil {
			x.listed(at)
			return at, nil
		}
		if !expired(err) || limit == 0 {
			return 0, fmt.Errorf("listing ManifestWorks: %w", err)
		}
	}
}

// listed makes a list that has ended count.
func (x *Index) listed(at uint64) {
	gone := x.sweep()
	x.restoring, x.older = false, false
	x.highWater.Store(at)
	x.done.Store(x.answers)
	if !x.Synced() {
		close(x.synced)
	}
	stats := x.Stats()
	x.log.Info("index of ManifestWorks is complete", "works", stats.Works, "clusters", stats.Clusters, "specs", stats.Specs, "gone", gone, "resourceVersion", at)
}

func (x *Index) listPages(ctx context.Context, limit int64) (at uint64, err error) {
	for token := ""; ; {
		raw, err := x.works.page(ctx, limit, token)
		if err != nil {
			return 0, err
		}
		if token == "" {
			if err := x.checkEpoch(ctx); err != nil {
				return 0, err
			}
			if x.wanted.Load() != x.answers {
				return 0, errDoubt // the page may be from before what Relist was called for
			}
		}
		meta, err := x.takePage(ctx, raw)
		if err != nil {
			return 0, err
		}
		if meta.Continue == "" {
			return meta.ResourceVersion, nil
		}
		token = meta.Continue
		limit = nextLimit(limit, len(raw))
	}
}

// nextLimit asks for smaller pages where objects are big.
func nextLimit(limit int64, size int) int64 {
	if size <= pageBytes || limit == 0 {
		return limit
	}
	return max(10, limit*pageBytes/int64(size))
}

// takePage looks at a whole page before it takes in anything of it: what a
// restored hub says is no news but a reason to stop (PROTOCOL decision 9).
func (x *Index) takePage(ctx context.Context, raw []byte) (wire.ListMeta, error) {
	var items []*wire.Scanned
	meta, err := wire.ScanList(raw, func(object []byte) error {
		if s := x.scan(object); s != nil {
			items = append(items, s)
		}
		return nil
	})
	if err != nil {
		return meta, err
	}
	if meta.ResourceVersion == 0 {
		return meta, errors.New("the list has no resourceVersion")
	}
	back := x.older || meta.ResourceVersion < x.HighWater()
	for i := 0; i < len(items) && !back; i++ {
		back = x.wentBack(items[i], meta.ResourceVersion)
	}
	if back && !x.restoring { // else this list was begun before, and did not end
		if err := x.restored(ctx, meta.ResourceVersion); err != nil {
			return meta, err
		}
	}
	from := watched
	if x.restoring {
		from = restored
	}
	for _, s := range items {
		x.put(s, from, 0)
		x.sighted(s, false)
	}
	return meta, nil
}

// scan reads one object. One that is no object is skipped: it must not keep the
// others out (B18).
func (x *Index) scan(object []byte) *wire.Scanned {
	s, err := wire.Scan(object)
	if err != nil {
		x.malformed.Add(1)
		x.log.Error("a ManifestWork cannot be read and is left out", "error", err)
		return nil
	}
	return s
}

// wentBack tells whether a list of that resourceVersion has, under a name, an
// older state than the index had seen by then; whether that is of the same object
// does not matter, since one that takes another's place is newer.
func (x *Index) wentBack(s *wire.Scanned, listed uint64) bool {
	have, ok := x.lookup(s.Namespace, s.Name)
	return ok && s.ResourceVersion < have.resourceVersion && have.resourceVersion <= listed
}

// restored has everybody told that the hub went back in time; not before that
// has worked, its older state is taken in.
func (x *Index) restored(ctx context.Context, listed uint64) error {
	seen := x.HighWater()
	x.log.Error("the hub's apiserver has gone back in time; it was restored from a backup", "seen", seen, "listed", listed)
	if x.onRestored != nil {
		if err := x.onRestored(ctx, seen, listed); err != nil {
			return fmt.Errorf("after a restore of the hub: %w", err)
		}
	}
	x.restoring, x.older = true, false
	x.answers = x.wanted.Load() // this list shows what was restored
	return nil
}
