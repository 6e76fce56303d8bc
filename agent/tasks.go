// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// task is one thing that an agent does for as long as it runs. It ends when its
// context does; an error of one ends all.
type task struct {
	name string
	run  func(ctx context.Context) error
}

// runTasks runs all of them until they have ended. The first error, or panic,
// cancels the others and is returned; the end of ctx itself is no error.
func runTasks(ctx context.Context, tasks []task) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		group.Go(func() error { return runTask(groupCtx, t) })
	}
	err := group.Wait()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// runTask turns a panic into an error that has the stack.
func runTask(ctx context.Context, t task) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("%s panicked: %v\n%s", t.name, value, debug.Stack())
		}
	}()
	err = t.run(ctx)
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", t.name, err)
}

// latch is a value that becomes known once.
type latch struct {
	once  sync.Once
	known chan struct{}
	value string
}

func newLatch() *latch { return &latch{known: make(chan struct{})} }

// set makes the value known; later values and the empty one change nothing.
func (l *latch) set(value string) {
	if value == "" {
		return
	}
	l.once.Do(func() {
		l.value = value
		close(l.known)
	})
}

// wait returns the value when it is known.
func (l *latch) wait(ctx context.Context) (string, error) {
	select {
	case <-l.known:
		return l.value, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// get returns the value, or nothing while it is not known.
func (l *latch) get() string {
	select {
	case <-l.known:
		return l.value
	default:
		return ""
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
