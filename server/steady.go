// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"

	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// errStopping is what adding a controller ends in once the hub stops.
var errStopping = errors.New("the hub is stopping")

// steady is a manager that is not stopped by its context while something is being
// added to it: controllers are, whenever the kinds that they need are there, and
// what is added to a manager that stops just then can wait for ever.
type steady struct {
	manager.Manager
	adding chan struct{} // holds one: a lock
	// stopping is guarded by adding.
	stopping bool
}

func newSteady(inner manager.Manager) *steady {
	return &steady{Manager: inner, adding: make(chan struct{}, 1)}
}

// Add implements manager.Manager.
func (s *steady) Add(runnable manager.Runnable) error {
	s.adding <- struct{}{}
	defer func() { <-s.adding }()
	if s.stopping {
		return errStopping
	}
	return s.Manager.Add(runnable)
}

// Start implements manager.Manager.
func (s *steady) Start(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		s.adding <- struct{}{}
		s.stopping = true
		<-s.adding
		cancel()
	})
	defer stop()
	return s.Manager.Start(inner)
}
