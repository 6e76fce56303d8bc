// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

// task is one thing that a hub does for as long as it runs. It ends when its
// context does; an error of one ends all.
type task struct {
	name string
	run  func(ctx context.Context) error
}

// runTasks runs all of them until they have ended. The first error, or panic,
// cancels the others with it as the cause and is returned; the end of ctx itself
// is no error.
func runTasks(ctx context.Context, tasks []task) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		group.Go(func() error { return runTask(groupCtx, t) })
	}
	err := group.Wait()
	if ctx.Err() != nil && isEnd(groupCtx, err) {
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
	if err := t.run(ctx); err != nil && !isEnd(ctx, err) {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	return nil
}

// isEnd tells whether an error is only the end of ctx.
func isEnd(ctx context.Context, err error) bool {
	return err == nil || ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}
