// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package person

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWatchesAreBounded(t *testing.T) {
	s := NewWatches(2)
	leave, err := s.enter()
	require.NoError(t, err)
	_, err = s.enter()
	require.NoError(t, err)
	_, err = s.enter()
	refused := rpcerr.From(err)
	require.Equal(t, codes.ResourceExhausted, refused.Code)
	require.Equal(t, reason.HubOverloaded, refused.Reason)
	require.Positive(t, refused.RetryAfter)
	leave()
	_, err = s.enter()
	require.NoError(t, err, "a place that was given back is free")
}

func TestDrainEndsWatches(t *testing.T) {
	w := NewWatches(2)
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- w.Run(t.Context(), func(ctx context.Context) error {
			close(began)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-began
	w.Drain(t.Context())
	require.Equal(t, reason.Draining, rpcerr.From(<-ended).Reason)
	late := w.Run(t.Context(), func(ctx context.Context) error { return ctx.Err() })
	require.Equal(t, reason.Draining, rpcerr.From(late).Reason, "one that comes later ends too")
}
