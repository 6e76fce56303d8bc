// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

const (
	// crdPoll is how often a missing kind is looked for.
	crdPoll = 2 * time.Second
	// crdReminder is how often it is said that one is still missing.
	crdReminder = 5 * time.Minute
)

// Add makes mgr run the selected controllers. Each starts once the kinds that it
// needs are served; until then it says what it waits for, and the others run.
// Call it before or after mgr.Start; each controller at most once in a process.
func Add(mgr manager.Manager, deps Deps, selected []Controller) error {
	if deps.Log == nil {
		deps.Log = slog.Default()
	}
	s := &starter{mgr: mgr, deps: deps, waiting: slices.Clone(selected), told: map[string]time.Time{}}
	if err := mgr.Add(s); err != nil {
		return fmt.Errorf("adding the hub's controllers %v: %w", Names(selected), err)
	}
	return nil
}

// starter sets controllers up as soon as it is possible. It runs on every
// replica; the controllers themselves wait for leadership.
type starter struct {
	mgr     manager.Manager
	deps    Deps
	waiting []Controller
	told    map[string]time.Time // by controller: when its wait was last logged
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (s *starter) NeedLeaderElection() bool { return false }

// Start returns when every controller is set up, or when ctx ends.
func (s *starter) Start(ctx context.Context) error {
	ticker := time.NewTicker(crdPoll)
	defer ticker.Stop()
	for {
		if err := s.step(ctx); err != nil || len(s.waiting) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// step sets up what can be set up now and keeps the rest.
func (s *starter) step(ctx context.Context) error {
	var still []Controller
	for _, c := range s.waiting {
		missing, err := s.missing(c)
		if len(missing) > 0 || err != nil {
			s.tell(ctx, c, missing, err)
			still = append(still, c)
			continue
		}
		if err := c.Setup(ctx, s.mgr, s.deps); err != nil {
			return fmt.Errorf("starting the controller %q: %w", c.Name, err)
		}
		s.deps.Log.InfoContext(ctx, "controller set up", "controller", c.Name)
	}
	s.waiting = still
	return nil
}

// missing returns the kinds that a controller needs and that are not served.
func (s *starter) missing(c Controller) ([]schema.GroupVersionKind, error) {
	var missing []schema.GroupVersionKind
	for _, kind := range c.Needs {
		_, err := s.mgr.GetRESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
		if meta.IsNoMatchError(err) {
			missing = append(missing, kind)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("asking the apiserver for kind %s: %w", kind, err)
		}
	}
	return missing, nil
}

// tell says what a controller waits for: at once, and again now and then.
func (s *starter) tell(ctx context.Context, c Controller, missing []schema.GroupVersionKind, err error) {
	if last, ok := s.told[c.Name]; ok && time.Since(last) < crdReminder {
		return
	}
	s.told[c.Name] = time.Now()
	if err != nil {
		s.deps.Log.WarnContext(ctx, "controller waits: the apiserver does not say which kinds it serves", "controller", c.Name, "error", err)
		return
	}
	kinds := make([]string, 0, len(missing))
	for _, kind := range missing {
		kinds = append(kinds, kind.Kind+"."+kind.Group+"/"+kind.Version)
	}
	s.deps.Log.WarnContext(ctx, "controller waits for CRDs to be installed; it starts by itself then",
		"controller", c.Name, "missing", strings.Join(kinds, ", "))
}
