// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

const (
	// maxWatches bounds what watchers can cost one replica.
	maxWatches = 256
	// reauthorize is how long a watch goes on without a look at whether its
	// caller still may.
	reauthorize = time.Minute
)

// enter takes one of the places for watches; leave gives it back.
func (s *Service) enter() (leave func(), err error) {
	select {
	case s.watches <- struct{}{}:
		return func() { <-s.watches }, nil
	default:
		return nil, rpcerr.New(codes.ResourceExhausted, reason.HubOverloaded, "this hub replica serves %d watches, which is all it takes: end some, or list instead", maxWatches).RetryIn(10 * time.Second)
	}
}

// pause waits, unless the caller goes away.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
