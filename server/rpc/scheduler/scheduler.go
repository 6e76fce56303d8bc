// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scheduler is the face for external schedulers, and for those who read
// what was decided: clusters and placements as streams, terms that fence off
// whoever was replaced, decisions, and scores (PROTOCOL c13). What a caller may
// see is asked of the apiserver with the caller's own token, and decisions and
// scores are written with it. Nothing is kept but in the apiserver, so any replica
// answers any call and a restart loses nothing; a watch costs the replica no more
// than the names of what its reader has not read yet.
package scheduler

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/person"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// maxWatches bounds what watchers can cost one replica.
const maxWatches = 64

// Config is what the service needs. All fields are required.
type Config struct {
	// REST is the hub's apiserver, as the hub: it says what changed. A caller's
	// own clients use its address and CA only.
	REST *rest.Config
	// Namespace is the hub's own; terms are Leases there.
	Namespace string
	// Cache is this replica's copy of clusters, scores, placements, decisions,
	// sets and bindings. Direct is the apiserver itself, as the hub.
	Cache  client.Reader
	Direct client.Client
	// Epoch is the hub's epoch as it is now.
	Epoch func() string
	// LastSeen is when a cluster's agent was last heard; zero when that is not
	// known.
	LastSeen func(cluster string) time.Time
	// Now is the hub's clock.
	Now    func() time.Time
	Logger *slog.Logger
}

// Service implements SchedulerService. It is safe for concurrent use.
type Service struct {
	schedulerv1.UnimplementedSchedulerServiceServer
	Config
	metadata metadata.Interface
	callers  *person.Callers
	watches  *person.Watches

	mu       sync.Mutex
	restored chan struct{} // closed when the hub has a new epoch
}

// New makes the service; Register puts it on a server.
func New(cfg Config) (*Service, error) {
	changes, err := metadata.NewForConfig(cfg.REST)
	if err != nil {
		return nil, err
	}
	return &Service{
		Config: cfg, metadata: changes, callers: person.NewCallers(cfg.REST), watches: person.NewWatches(maxWatches),
		restored: make(chan struct{}),
	}, nil
}

// Register adds the service to a gRPC server, whose interceptors see to it that
// only callers with a bearer token get here.
func (s *Service) Register(registrar grpc.ServiceRegistrar) {
	schedulerv1.RegisterSchedulerServiceServer(registrar, s)
}

// Drain ends all watches, and those that begin later, so that the replica can stop.
func (s *Service) Drain(ctx context.Context) { s.watches.Drain(ctx) }

// Restored has all watches begin anew, for the hub's state went back in time: what
// readers have may be of a future that there never was. It does not wait.
func (s *Service) Restored() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.restored)
	s.restored = make(chan struct{})
}

// restores is closed at the next restore.
func (s *Service) restores() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restored
}

// deed is what a scheduler has changed.
type deed struct {
	action, actor string // the method, and who, as the apiserver knows them
	before, after any
}

// audit writes the one structured line that each deed leaves.
func (s *Service) audit(ctx context.Context, d deed, attrs ...any) {
	s.Logger.InfoContext(ctx, "audit", append([]any{
		"action", d.action, "actor", d.actor, "cluster", "", "before", d.before, "after", d.after,
	}, attrs...)...)
}

// invalid makes the error of a request that cannot be meant.
func invalid(format string, args ...any) error {
	return rpcerr.New(codes.InvalidArgument, reason.InvalidArgument, format, args...)
}
