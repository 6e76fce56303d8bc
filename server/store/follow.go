// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

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

var (
	errSilent = errors.New("the watch has gone silent")
	errOlder  = errors.New("the apiserver is older than what was seen of it")
	errDoubt  = errors.New("a quorum read found what the index should have had")
)

// patience is how long a watch may live and be silent.
type patience struct {
	life    time.Duration // it is asked to live that long at least, at most twice
	grace   time.Duration // by which it may outlive that
	silence time.Duration // once it has sent a bookmark; one a minute is usual
}

func defaultPatience() patience {
	return patience{life: 5 * time.Minute, grace: 15 * time.Second, silence: 150 * time.Second}
}

// Run keeps the index true until ctx ends: one list, then watches. A missing
// CRD is waited for. It returns nil; every other trouble is logged and retried.
func (x *Index) Run(ctx context.Context) error {
	var (
		after   uint64 // where the next watch begins; 0: list first
		retry   = newRetry()
		trouble troubles
	)
	for ctx.Err() == nil {
		began := time.Now()
		next, err := x.follow(ctx, after)
		after = next
		if ctx.Err() != nil {
			break
		}
		if lasted := time.Since(began); err == nil && lasted > time.Second || lasted > time.Minute {
			retry, trouble = newRetry(), troubles{}
		}
		if err != nil {
			trouble.log(x, err)
		}
		if !pause(ctx, retry.Step()) {
			break
		}
	}
	return nil
}

func newRetry() *wait.Backoff {
	return &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 8, Cap: 15 * time.Second}
}

// pause waits; false means that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// troubles logs what is wrong once, and again every minute while it lasts.
type troubles struct {
	last string
	at   time.Time
}

func (t *troubles) log(x *Index, err error) {
	text := err.Error()
	if apierrors.IsNotFound(err) {
		text = "the apiserver does not serve ManifestWorks yet; install their CRD (work.open-cluster-management.io/v1)"
	}
	if text == t.last && time.Since(t.at) < time.Minute {
		return
	}
	t.last, t.at = text, time.Now()
	x.log.Warn("index of ManifestWorks waits for the apiserver", "synced", x.Synced(), "error", text)
}

// follow lists if after is 0, and watches until the watch ends. It returns from
// where the next watch can go on, 0 when a list is needed. A nil error means that
// the watch ended in good order.
func (x *Index) follow(ctx context.Context, after uint64) (next uint64, err error) {
	if after == 0 {
		if after, err = x.list(ctx); err != nil {
			return 0, err
		}
	} else if err := x.stillNewest(ctx); err != nil {
		return next0(err, after), err
	}
	next, err = x.watch(ctx, after)
	return next0(err, next), err
}

// next0 is where to go on after err.
func next0(err error, at uint64) uint64 {
	for _, again := range []error{errOlder, errLineSize, errDoubt} {
		if errors.Is(err, again) {
			return 0
		}
	}
	if err != nil && expired(err) {
		return 0
	}
	return at
}

// stillNewest asks, before a watch is begun anew, whether the apiserver has gone
// back in time: a watch from the future says nothing at all on some storages.
func (x *Index) stillNewest(ctx context.Context) error {
	now, err := x.QuorumListRV(ctx)
	if err != nil {
		return err
	}
	if seen := x.HighWater(); now < seen {
		return fmt.Errorf("%w: it is at resourceVersion %d, %d was seen", errOlder, now, seen)
	}
	return nil
}

// list takes in all works by quorum read, page by page, and returns the
// resourceVersion of the list.
func (x *Index) list(ctx context.Context) (uint64, error) {
	x.lists.Add(1)
	for limit := int64(pageSize); ; limit *= 4 {
		if limit > 64*pageSize {
			limit = 0 // the whole list in one: it cannot expire half way
		}
		x.listing++
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

func (x *Index) listed(at uint64) {
	gone := x.sweep()
	x.restoring = false
	x.highWater.Store(at)
	if !x.Synced() {
		close(x.synced)
	}
	stats := x.Stats()
	x.log.Info("index of ManifestWorks is complete", "works", stats.Works, "clusters", stats.Clusters, "specs", stats.Specs, "gone", gone, "resourceVersion", at)
}

func (x *Index) listPages(ctx context.Context, limit int64) (at uint64, err error) {
	from := watched
	for token := ""; ; {
		raw, err := x.works.page(ctx, limit, token)
		if err != nil {
			return 0, err
		}
		if token == "" {
			if from, err = x.begin(ctx, raw); err != nil {
				return 0, err
			}
		}
		meta, err := wire.ScanList(raw, func(object []byte) error { x.take(object, from); return nil })
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

// begin looks at the first page before anything of it is taken in: a list from
// before what was seen means a restored hub.
func (x *Index) begin(ctx context.Context, raw []byte) (origin, error) {
	meta, err := wire.ScanList(raw, func([]byte) error { return nil })
	if err != nil {
		return watched, err
	}
	if meta.ResourceVersion == 0 {
		return watched, fmt.Errorf("the list has no resourceVersion")
	}
	if x.restoring {
		return restored, nil // the list was begun before, and did not end
	}
	seen := x.HighWater()
	if meta.ResourceVersion >= seen {
		return watched, nil
	}
	x.log.Error("the hub's apiserver has gone back in time; it was restored from a backup", "seen", seen, "listed", meta.ResourceVersion)
	if x.onRestored != nil {
		if err := x.onRestored(ctx, seen, meta.ResourceVersion); err != nil {
			return watched, fmt.Errorf("after a restore of the hub: %w", err)
		}
	}
	x.restoring = true
	return restored, nil
}

// take scans one object and takes it in. One that is no object is skipped: it
// must not keep the others out (B18).
func (x *Index) take(object []byte, from origin) (at uint64) {
	s, err := wire.Scan(object)
	if err != nil {
		x.malformed.Add(1)
		x.log.Error("a ManifestWork cannot be read and is left out", "error", err)
		return 0
	}
	x.put(s, object, from, 0)
	return s.ResourceVersion
}

// watch takes in changes after a resourceVersion until the watch ends, and
// returns how far it came.
func (x *Index) watch(ctx context.Context, after uint64) (uint64, error) {
	x.watches.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	x.doubted.Store(&cancel)
	defer x.doubted.Store(nil)
	timeout := x.patience.life + rand.N(x.patience.life)
	silence := time.AfterFunc(timeout+x.patience.grace, func() { cancel(errSilent) })
	defer silence.Stop()
	stream, err := x.works.watch(ctx, after, timeout)
	if err != nil {
		return after, fmt.Errorf("watching ManifestWorks: %w", orCause(ctx, err))
	}
	defer stream.Close()
	lines := lineReader{r: bufio.NewReaderSize(stream, 32<<10)}
	for bookmarks := false; ; {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return after, nil
		}
		if err != nil {
			return after, fmt.Errorf("watching ManifestWorks: %w", orCause(ctx, err))
		}
		at, bookmark, err := x.event(line)
		if err != nil {
			return after, fmt.Errorf("watching ManifestWorks: %w", err)
		}
		if at > after {
			after = at
			x.highWater.Store(at)
		}
		if bookmarks = bookmarks || bookmark; bookmarks {
			silence.Reset(x.patience.silence)
		}
	}
}

// orCause prefers the reason for which we ended the stream ourselves.
func orCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// event takes in one line of the watch and returns its resourceVersion.
func (x *Index) event(line []byte) (at uint64, bookmark bool, err error) {
	kind, object, err := wire.ScanEvent(line)
	if err != nil {
		return 0, false, err
	}
	switch kind {
	case "ADDED", "MODIFIED":
		return x.take(object, watched), false, nil
	case "DELETED":
		s, err := wire.Scan(object)
		if err != nil {
			return 0, false, err
		}
		x.remove(s)
		return s.ResourceVersion, false, nil
	case "BOOKMARK":
		meta, err := wire.ScanList(object, func([]byte) error { return nil }) // any object has its metadata there
		return meta.ResourceVersion, true, err
	case "ERROR":
		var status metav1.Status
		if err := json.Unmarshal(object, &status); err != nil {
			return 0, false, fmt.Errorf("an error event that cannot be read: %w", err)
		}
		return 0, false, apierrors.FromObject(&status)
	default:
		return 0, false, fmt.Errorf("an event of unknown type %q", kind)
	}
}
