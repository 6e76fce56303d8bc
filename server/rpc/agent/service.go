// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package agent is the face for agents: enrollment, renewal and the session.
//
// A session is a session.Core, which thinks, and a shell around it, which is
// here: the handler's goroutine owns the stream and sends, one more receives,
// and a mutex is held around the core but never during a Send or a callback.
// Frames, marks of the works index, answers and the time go in; messages go to
// the agent and effects to the kitchen, which is known only by the interfaces of
// this package. The caller's cluster comes from the verified certificate alone:
// nothing that an agent sends selects whose data is read or written.
package agent

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
)

// Config is what the service needs. All fields but the durations are required.
type Config struct {
	Enroller Enroller
	Renewer  Renewer
	Trust    func() TrustBundle

	Gate   Gate
	Leases Leases
	Log    *slog.Logger

	Registry prometheus.Registerer
	// Recheck is how often a session's right to exist is looked at again, besides
	// at once when something changes; 0 means a minute.
	Recheck time.Duration
}

// Service implements AgentService. Register it on the agent listener's server,
// and run Run beside it. Safe for concurrent use.
type Service struct {
	agentv1.UnimplementedAgentServiceServer
	cfg       Config
	metrics   *metrics
	codec     *codec.Codec // of statuses
	sessions  *Registry
	opening   *semaphore.Weighted // sessions that are being opened: mostly waiting for their Lease
	queued    atomic.Int64        // sessions that wait for that
	snapshots *semaphore.Weighted // those of them that are being compared
	quorum    *semaphore.Weighted // reads past the index, of all sessions
	faults    *faults
	wait      sync.WaitGroup // of sessions, and of everything that they started
	lingering lingering      // Leases of connections that broke
}

// Bounds of what all sessions do at once.
const (
	defaultRecheck = time.Minute
	quorumReads    = 16
	openings       = 64
)

// New makes the service.
func New(cfg Config) (*Service, error) {
	statuses, err := codec.New(wire.MaxStatus)
	if err != nil {
		return nil, err
	}
	if cfg.Recheck == 0 {
		cfg.Recheck = defaultRecheck
	}
	s := &Service{
		cfg:       cfg,
		codec:     statuses,
		opening:   semaphore.NewWeighted(openings),
		snapshots: semaphore.NewWeighted(int64(2 * runtime.GOMAXPROCS(0))),
		quorum:    semaphore.NewWeighted(quorumReads),
		faults:    newFaults(),
	}
	s.lingering.background = func(f func()) { s.Background("release", f) }
	s.sessions = newRegistry()
	s.metrics = newMetrics(cfg.Registry, s.sessions)
	return s, nil
}

// Register puts the service on a gRPC server.
func (s *Service) Register(registrar grpc.ServiceRegistrar) {
	agentv1.RegisterAgentServiceServer(registrar, s)
}

// Sessions are the live sessions of this replica.
func (s *Service) Sessions() *Registry { return s.sessions }

// Lost ends a session that has lost its Lease, or must give it up. One that is
// over gives it up at once, if it has not yet.
func (s *Service) Lost(cluster, sessionID, why, message string) {
	s.lingering.now(sessionID)
	s.sessions.End(cluster, sessionID, why, message)
}

// Run looks after all sessions until ctx ends: stalled senders, and the
// minute's look at each one's right to exist.
func (s *Service) Run(ctx context.Context) error {
	ticker := time.NewTicker(watchdogInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.look(time.Now())
		}
	}
}

// Wait returns when sessions and everything that they started have ended. Call it after
// the gRPC server has stopped.
func (s *Service) Wait() {
	s.lingering.end()
	s.wait.Wait()
}

// Background runs f beside the handlers. A panic in it is logged and ends f
// only.
func (s *Service) Background(name string, f func()) {
	s.wait.Go(func() {
		defer func() {
			if value := recover(); value != nil {
				s.metrics.panics.Inc()
				s.cfg.Log.Error("a session's helper panicked", "helper", name, "panic", value)
			}
		}()
		f()
	})
}
