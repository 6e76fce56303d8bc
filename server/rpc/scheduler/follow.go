// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/person"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

const (
	// heartbeat is how often a reader hears from the hub at least: a bookmark.
	heartbeat = 20 * time.Second
	// bookmarkEvery is how soon after a change a bookmark follows.
	bookmarkEvery = time.Second
	// reauthorize is how long a watch goes on without a look at whether its caller
	// still may.
	reauthorize = time.Minute
	// watchFor is how long one watch of the apiserver lasts.
	watchFor = 5 * time.Minute
	// snapshotPage is how many objects' metadata are listed at a time.
	snapshotPage = 500
	// cacheStep is how long the cache is given to catch up with a change before it
	// is looked at again, and cacheTries how often, before the apiserver itself is
	// asked.
	cacheStep  = 20 * time.Millisecond
	cacheTries = 50
	// apiserverPatience is how long a watch goes on while the apiserver does not
	// say what changed; then its reader is better off with another replica.
	apiserverPatience = 15 * time.Second
)

// kind is a resource whose changes are followed.
type kind struct {
	resource schema.GroupVersionResource
	selector string
	// key says whose change it is; false: nobody's.
	key func(*metav1.PartialObjectMetadata) (types.NamespacedName, bool)
}

// reporter is what a watch tells. Its methods are called by one goroutine.
type reporter interface {
	// authorize gives an error when the caller may not watch (any more).
	authorize(ctx context.Context) error
	// begin forgets what was told; resumed says that the reader goes on from a
	// token, so that what he knows is not known here.
	begin(resumed bool)
	// tell sends the key as the reader has it. fresh is false if that is older than
	// what is wanted: nothing was sent then.
	tell(ctx context.Context, from client.Reader, key types.NamespacedName, w *want) (fresh bool, err error)
	bookmark(mark *schedulerv1.Bookmark) error
	reset(why string) error
}

// follower serves the one shape of all watches: a snapshot, or what has changed
// since a token; a bookmark; then changes, and a bookmark after them.
//
// What changed is learned from watches of the apiserver for this reader alone, of
// metadata only: their order is the apiserver's, so a bookmark means exactly what
// it says, on every replica and after a restart. What it changed to is read from
// the cache when it is sent, as soon as the cache has that change.
type follower struct {
	*Service
	reporter
	watch string        // what tokens are bound to
	kinds []kind        // the primary first
	waits *atomic.Int64 // of the reader
}

// anew says that a watch begins anew, and why.
type anew struct{ why string }

// Error is for the reader.
func (a *anew) Error() string { return a.why }

func (f *follower) run(ctx context.Context, resumeToken string) error {
	if err := f.authorize(ctx); err != nil {
		return err
	}
	from, err := f.resume(ctx, resumeToken)
	for {
		if again, ok := errors.AsType[*anew](err); ok {
			from = marks{}
			if err = f.reset(again.why); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		err = f.pass(ctx, from)
	}
}

// resume says from where a token goes on; an *anew if it does not.
func (f *follower) resume(ctx context.Context, text string) (marks, error) {
	if text == "" {
		return marks{}, nil
	}
	from, ok := parseToken(text)
	switch {
	case !ok:
		return marks{}, &anew{"the resume token is not one of this hub's"}
	case from.Epoch != f.Epoch():
		return marks{}, &anew{"the hub was restored since the resume token was given"}
	case from.Watch != f.watch:
		return marks{}, &anew{"the resume token is of another watch, or of other rights"}
	}
	for i := range f.kinds {
		back, err := f.wentBack(ctx, i, from.Marks[i])
		if err != nil {
			return marks{}, err
		}
		if back {
			return marks{}, &anew{"the resume token is from a later time than the hub's state"}
		}
	}
	return from.Marks, nil
}

// wentBack tells whether the apiserver is not as far with a kind as a reader is: it
// was restored, or the reader's mark is none.
func (f *follower) wentBack(ctx context.Context, i int, mark string) (bool, error) {
	resource := f.kinds[i].resource
	list, err := f.metadata.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return false, person.Error(err, "reading how far the hub's %s are", resource.Resource)
	}
	then, errThen := parseVersion(mark)
	now, errNow := parseVersion(list.GetResourceVersion())
	return errThen != nil || errNow != nil || then > now, nil //nolint:nilerr // what is no mark is told as one from before
}

func parseVersion(rv string) (uint64, error) { return strconv.ParseUint(rv, 10, 64) }

// pass goes on until the watch ends, or has to begin anew.
func (f *follower) pass(ctx context.Context, from marks) error {
	restored := f.restores()
	epoch := f.Epoch()
	resumed := from != marks{}
	pending := newDirty(from)
	f.begin(resumed)
	if !resumed {
		for i := range f.kinds {
			if err := f.snapshot(ctx, pending, i); err != nil {
				return err
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range f.kinds {
		group.Go(func() error { return f.safely(ctx, func() error { return f.feed(ctx, pending, i) }) })
	}
	group.Go(func() error {
		return f.safely(ctx, func() error { return f.send(ctx, pending, from, epoch, restored) })
	})
	return group.Wait()
}

// snapshot marks everything that there is.
func (f *follower) snapshot(ctx context.Context, pending *dirty, i int) error {
	k := f.kinds[i]
	options := metav1.ListOptions{LabelSelector: k.selector, Limit: snapshotPage}
	for {
		page, err := f.metadata.Resource(k.resource).List(ctx, options)
		if apierrors.IsResourceExpired(err) {
			return &anew{"the hub's list of " + k.resource.Resource + " took too long"}
		}
		if err != nil {
			return person.Error(err, "listing the hub's %s", k.resource.Resource)
		}
		for n := range page.Items {
			f.mark(pending, i, &page.Items[n], false)
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			pending.reached(i, page.GetResourceVersion())
			return nil
		}
	}
}

func (f *follower) mark(pending *dirty, i int, object *metav1.PartialObjectMetadata, deleted bool) {
	key, ok := f.kinds[i].key(object)
	if !ok {
		return
	}
	rv, _ := parseVersion(object.ResourceVersion) // one that cannot be compared is seen at once
	pending.put(change{kind: i, name: object.Name, key: key, version: version{rv: rv, deleted: deleted}})
}

// feed marks what changes, until ctx ends or what changed cannot be known.
func (f *follower) feed(ctx context.Context, pending *dirty, i int) error {
	k := f.kinds[i]
	lastGood := f.Now()
	for {
		w, err := f.metadata.Resource(k.resource).Watch(ctx, metav1.ListOptions{
			LabelSelector: k.selector, ResourceVersion: pending.upToOf(i), AllowWatchBookmarks: true,
			TimeoutSeconds: new(int64(watchFor / time.Second)),
		})
		if err == nil {
			err = f.drain(ctx, pending, i, w)
			lastGood = f.Now()
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case apierrors.IsResourceExpired(err) || apierrors.IsGone(err):
			return &anew{"the hub's apiserver no longer knows what changed since then"}
		case apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge):
			// Another apiserver that lags, or one that was restored: once it has got
			// further than the mark, nothing would tell.
			if back, errList := f.wentBack(ctx, i, pending.upToOf(i)); errList == nil && back {
				return &anew{"the hub's apiserver went back in time"}
			}
		case err != nil && f.Now().Sub(lastGood) > apiserverPatience:
			return rpcerr.New(codes.Unavailable, reason.ApiserverLost, "this hub replica cannot watch %s: try another", k.resource.Resource).RetryIn(time.Second).Because(err)
		}
		if err := person.Pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// drain marks what one watch of the apiserver brings until it ends.
func (f *follower) drain(ctx context.Context, pending *dirty, i int, w watch.Interface) error {
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event, ok := <-w.ResultChan():
			if !ok {
				return nil
			}
			if event.Type == watch.Error {
				return apierrors.FromObject(event.Object)
			}
			object, err := meta.Accessor(event.Object)
			if err != nil {
				return fmt.Errorf("watching %s: %w", f.kinds[i].resource.Resource, err)
			}
			if event.Type != watch.Bookmark {
				f.mark(pending, i, meta.AsPartialObjectMetadata(object), event.Type == watch.Deleted)
			}
			pending.reached(i, object.GetResourceVersion())
			if pending.len() > maxUnread {
				return &anew{"more has changed than waits for a reader"}
			}
		}
	}
}

// send tells the reader what is pending, as fast as he reads. Who goes on from a
// token hears first that he does.
func (f *follower) send(ctx context.Context, pending *dirty, from marks, epoch string, restored <-chan struct{}) error {
	check := time.NewTicker(reauthorize)
	defer check.Stop()
	bookmark := time.NewTimer(heartbeat)
	defer bookmark.Stop()
	mark := func(told marks) error {
		bookmark.Reset(heartbeat)
		return f.bookmark(&schedulerv1.Bookmark{ResumeToken: token{epoch, f.watch, told}.String(), InitialSyncComplete: true})
	}
	told := from
	var err error
	if from == (marks{}) {
		if told, err = f.flush(ctx, pending); err != nil {
			return err
		}
	}
	if err := mark(told); err != nil {
		return err
	}
	for soon := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-restored:
			return &anew{"the hub was restored"}
		case <-check.C:
			err = f.authorize(ctx)
		case <-bookmark.C:
			soon = false
			err = mark(told)
		case <-pending.wake:
			told, err = f.flush(ctx, pending)
			if !soon {
				bookmark.Reset(bookmarkEvery)
				soon = true
			}
		}
		if err != nil {
			return err
		}
	}
}

// flush tells all that is pending now, and returns up to where that is.
func (f *follower) flush(ctx context.Context, pending *dirty) (marks, error) {
	batch, upTo := pending.take()
	for try := 0; len(batch) > 0; try++ {
		from := f.Cache
		if try > 0 {
			if err := person.Pause(ctx, cacheStep); err != nil {
				return upTo, err
			}
			pending.catchUp(batch)
		}
		if try >= cacheTries {
			from = f.Direct
		}
		for _, key := range sorted(batch) {
			fresh, err := f.tell(ctx, from, key, batch[key])
			if err != nil {
				return upTo, err
			}
			if fresh || try >= cacheTries {
				delete(batch, key)
			}
		}
	}
	return upTo, nil
}

func sorted(batch map[types.NamespacedName]*want) []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(batch), func(a, b types.NamespacedName) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

// in tells whether an object as read is at least as new as one change of it.
// object is nil if there is none.
func (v version) in(object client.Object) bool {
	if object == nil {
		return v.deleted
	}
	rv, err := parseVersion(object.GetResourceVersion())
	return err != nil || rv > v.rv || rv == v.rv && !v.deleted
}

// seen tells whether objects as read are as new as all changes of them.
func seen[T client.Object](parts map[string]version, objects map[string]T) bool {
	for name, v := range parts {
		object, ok := objects[name]
		if ok && !v.in(object) || !ok && !v.deleted {
			return false
		}
	}
	return true
}
