// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

const (
	// readPatience is how long one message may wait for a reader who takes none.
	readPatience = time.Minute
	// readLook is how often that is looked at.
	readLook = 5 * time.Second
	// maxUnread is the most names that wait for a reader: several times the largest
	// fleet, since names of what is gone may come on top. Above it he begins anew.
	maxUnread = 200_000
)

// reader is the stream of a watch, which knows since when it waits for whoever
// reads it.
type reader[T any] struct {
	grpc.ServerStreamingServer[T]
	waits *atomic.Int64 // since, in Unix nanoseconds; 0 while no message waits
}

// Send implements grpc.ServerStreamingServer.
func (r reader[T]) Send(message *T) error {
	r.waits.Store(time.Now().UnixNano())
	defer r.waits.Store(0)
	return r.ServerStreamingServer.Send(message)
}

// serve has the watch go on until it ends, or its reader takes nothing any more: neither
// keepalive nor ctx ends a Send that waits for him, and only the end of the handler
// does. What sends then ends with it (TestSendEndsWithItsHandler).
func (f *follower) serve(ctx context.Context, watch func(context.Context) error) error {
	ended := make(chan error, 1)
	new(errgroup.Group).Go(func() error {
		ended <- f.safely(ctx, func() error { return watch(ctx) })
		return nil
	})
	look := time.NewTicker(readLook)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-look.C:
			since := f.waits.Load()
			if waited := time.Since(time.Unix(0, since)); since != 0 && waited >= readPatience {
				return rpcerr.New(codes.ResourceExhausted, reason.SlowConsumer, "a message was not taken for %v: read the watch without a pause, and go on from the last resume token", waited.Round(time.Second))
			}
		}
	}
}

// safely turns a panic, which nobody beside the handler would catch, into an error.
func (f *follower) safely(ctx context.Context, do func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			f.Logger.ErrorContext(ctx, "a scheduler's watch panicked", "watch", f.watch, "panic", value, "stack", string(debug.Stack()))
			err = rpcerr.New(codes.Internal, reason.Internal, "the hub failed at this watch; its log has the details")
		}
	}()
	return do()
}
