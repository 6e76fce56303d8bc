// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package person

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// Watches are the places that one replica has for watches of one kind of caller.
// It is safe for concurrent use.
type Watches struct {
	places chan struct{}
	drains drains
}

// NewWatches bounds what watchers can cost the replica to so many at a time.
func NewWatches(most int) *Watches { return &Watches{places: make(chan struct{}, most)} }

// enter takes one of the places; leave gives it back.
func (w *Watches) enter() (leave func(), err error) {
	select {
	case w.places <- struct{}{}:
		return func() { <-w.places }, nil
	default:
		return nil, rpcerr.New(codes.ResourceExhausted, reason.HubOverloaded, "this hub replica serves %d watches, which is all it takes: end some, or list instead", cap(w.places)).RetryIn(10 * time.Second)
	}
}

// Run runs a watch in one of the places until it returns, or the replica drains:
// then the watch's context ends, and the error says that it goes on elsewhere.
func (w *Watches) Run(ctx context.Context, watch func(context.Context) error) error {
	leave, err := w.enter()
	if err != nil {
		return err
	}
	defer leave()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	stop := w.drains.add(end)
	defer stop()
	err = watch(ctx)
	if draining, ok := errors.AsType[*rpcerr.Error](context.Cause(ctx)); ok {
		return draining
	}
	return err
}

// Drain ends all watches, and those that begin later, so that the replica can
// stop: whoever watches goes on at another.
func (w *Watches) Drain(context.Context) { w.drains.drain() }

// drains ends what would else go on. Safe for concurrent use.
type drains struct {
	mu   sync.Mutex
	over bool
	next int
	ends map[int]context.CancelCauseFunc
}

// add takes one more; remove is called when it has ended by itself.
func (d *drains) add(end context.CancelCauseFunc) (remove func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		end(errDraining())
		return func() {}
	}
	if d.ends == nil {
		d.ends = map[int]context.CancelCauseFunc{}
	}
	id := d.next
	d.next++
	d.ends[id] = end
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.ends, id)
	}
}

func (d *drains) drain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	for _, end := range d.ends {
		end(errDraining())
	}
}

func errDraining() *rpcerr.Error {
	return rpcerr.New(codes.Unavailable, reason.Draining, "this hub replica stops: watch again").RetryIn(time.Second)
}

// Pause waits, unless the caller goes away.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
