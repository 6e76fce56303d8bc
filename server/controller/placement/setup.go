// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"fairlead.dev/fairlead/internal/decide"
	"fairlead.dev/fairlead/server/scheduling"
)

const (
	eventSource = "fairlead-hub"
	workers     = 4
)

// Config is what the controller needs.
type Config struct {
	// Registerer takes the histograms of PL-61. Default: nobody does.
	Registerer prometheus.Registerer
	// Clock is the hub's clock. Default the real one.
	Clock clock.PassiveClock
	// Log gets a line for each PlacementDecision that comes or goes. Default
	// slog.Default().
	Log *slog.Logger
}

// Setup adds the controller "placement" to mgr, which runs it on the leader only.
// Clusters, sets, bindings, placements and decisions have to be served;
// AddOnPlacementScores count as soon as they are.
func Setup(mgr manager.Manager, cfg Config) error {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	world, err := scheduling.New()
	if err != nil {
		return fmt.Errorf("setting up the scheduler of placements: %w", err)
	}
	measured, err := newMetrics(cfg.Registerer)
	if err != nil {
		return fmt.Errorf("setting up the scheduler of placements: %w", err)
	}
	world.Observe(measured)
	f := newFeed(mgr.GetCache(), mgr.GetRESTMapper(), world)
	r := &loop{
		feed:    f,
		submit:  decide.Submitter{Reader: mgr.GetCache(), Writer: mgr.GetClient(), Clock: cfg.Clock, Log: cfg.Log},
		events:  mgr.GetEventRecorder(eventSource),
		clock:   cfg.Clock,
		log:     cfg.Log,
		metrics: measured,
	}
	if err := mgr.Add(manager.RunnableFunc(f.awaitScores)); err != nil {
		return fmt.Errorf("setting up the watch of AddOnPlacementScores: %w", err)
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("placement").
		WatchesRawSource(f).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the controller of placements: %w", err)
	}
	return nil
}
