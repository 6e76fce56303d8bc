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

	"fairlead.dev/fairlead/internal/wire"
)

var (
	errSilent = errors.New("the watch has gone silent")
	errOlder  = errors.New("the apiserver is older than what was seen of it")
	errDoubt  = errors.New("a quorum read contradicts the index")
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
	attempts := newAttempts(x.log)
	for after := uint64(0); ctx.Err() == nil; { // where the next watch begins; 0: list first
		began := time.Now()
		next, err := x.follow(ctx, after)
		if ctx.Err() == nil {
			attempts.pause(ctx, attempt{began: began, err: err, listed: after == 0, lists: next == 0})
		}
		after = next
	}
	return nil
}

// follow lists if after is 0, and watches until the watch ends. It returns from
// where the next watch can go on, 0 when a list is needed. A nil error means that
// the watch ended in good order.
func (x *Index) follow(ctx context.Context, after uint64) (next uint64, err error) {
	if after == 0 || x.mustList() {
		if after, err = x.list(ctx); err != nil {
			return 0, err
		}
	} else if err := x.stillNewest(ctx); err != nil {
		return next0(err, after), err
	}
	next, err = x.watch(ctx, after)
	return next0(err, next), err
}

// mustList tells whether what the index has is not to be followed but listed anew.
func (x *Index) mustList() bool { return x.inDoubt.Load() || !x.Current() }

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

// stillNewest asks, before a watch is begun anew, whether the apiserver is the
// one that was left: a watch from the future says nothing at all on some storages,
// and a restored hub may have come past where the index was.
func (x *Index) stillNewest(ctx context.Context) error {
	if err := x.checkEpoch(ctx); err != nil {
		return err
	}
	if !x.Current() {
		return errDoubt
	}
	now, err := x.QuorumListRV(ctx)
	if err != nil {
		return err
	}
	if seen := x.HighWater(); now < seen {
		return fmt.Errorf("%w: it is at resourceVersion %d, %d was seen", errOlder, now, seen)
	}
	last := x.last
	if last.version == 0 {
		return nil
	}
	s, _, err := x.works.read(ctx, last.cluster, last.name)
	if err != nil {
		return err
	}
	found := s != nil && s.UID == last.uid
	switch {
	case found && (last.gone || s.ResourceVersion < last.version):
		x.older = true
		return fmt.Errorf("%w: ManifestWork %s/%s is as it was before", errOlder, last.cluster, last.name)
	case !found && !last.gone:
		return fmt.Errorf("%w: ManifestWork %s/%s is not there", errDoubt, last.cluster, last.name)
	}
	return nil
}

// sighted is the newest change that the index has taken in.
type sighted struct {
	cluster, name, uid string
	version            uint64
	gone               bool
}

func (x *Index) sighted(s *wire.Scanned, gone bool) {
	if s.ResourceVersion >= x.last.version {
		x.last = sighted{s.Namespace, s.Name, s.UID, s.ResourceVersion, gone}
	}
}

// watch takes in changes after a resourceVersion until the watch ends, and
// returns how far it came.
func (x *Index) watch(ctx context.Context, after uint64) (uint64, error) {
	x.watches.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	x.endWatch.Store(&cancel)
	defer x.endWatch.Store(nil)
	if x.mustList() {
		return after, errDoubt
	}
	timeout := x.patience.life + rand.N(x.patience.life) //nolint:gosec // so that watches do not end together
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
	case "ADDED", "MODIFIED", "DELETED":
		s := x.scan(object)
		if s == nil {
			return 0, false, nil
		}
		if kind == "DELETED" {
			x.remove(s)
		} else {
			x.put(s, watched, 0)
		}
		x.sighted(s, kind == "DELETED")
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
