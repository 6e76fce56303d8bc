// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// slowManager is a manager to which adding takes as long as it is told.
type slowManager struct {
	manager.Manager
	add chan struct{}
}

func (m *slowManager) Add(manager.Runnable) error {
	<-m.add
	return nil
}

func (*slowManager) Start(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestSteady: a manager stops once what is being added to it is there, and takes
// nothing more.
func TestSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowManager{add: make(chan struct{})}
		s := newSteady(slow)
		ctx, stop := context.WithCancel(t.Context())
		added, ended := make(chan error, 1), make(chan error, 1)
		go func() { ended <- s.Start(ctx) }()
		go func() { added <- s.Add(nil) }()
		synctest.Wait()
		stop()
		synctest.Wait()
		require.Empty(t, ended, "something is being added")
		close(slow.add)
		require.NoError(t, <-added)
		require.ErrorIs(t, <-ended, context.Canceled)
		require.ErrorIs(t, s.Add(nil), errStopping)
	})
}
