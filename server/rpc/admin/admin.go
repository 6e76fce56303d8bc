// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package admin is the face for people: join tokens and enrollments, clusters
// and sessions, works, and why a work is not there yet. Kubernetes objects are
// read and written with the caller's own bearer token, so that the apiserver
// authenticates, authorizes and audits the person; for things that have no
// Kubernetes object the hub asks a SelfSubjectAccessReview with that token and
// writes as itself (PROTOCOL decision 7). It knows no store and no controller:
// what it needs of them it declares here.
package admin

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"k8s.io/client-go/rest"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/rpc/person"
)

// Config is what the admin services need. All fields but Works, Peers, Events,
// Placements, ReplicaSets and Clusterless are required.
type Config struct {
	// REST is the hub's apiserver; only its address and CA are used, never its
	// credentials.
	REST *rest.Config
	// ManifestLimit bounds the sum of a work's manifests in bytes.
	ManifestLimit int
	Tokens        Tokens
	Enrollments   Enrollments
	Sessions      Sessions
	Deliveries    Deliveries
	// Placements explains placements; nil where their kinds are not served.
	Placements Placements
	// ReplicaSets explains replica sets; nil where nobody makes their works.
	ReplicaSets ReplicaSets
	// Clusterless says that agents are served by their certificate alone, so that
	// a cluster needs neither a ManagedCluster nor an enrollment.
	Clusterless bool
	// Works counts the works that a cluster is to have; nil where that is not known.
	Works func(cluster string) int
	// Events tells of a person's deed with an Event on the cluster; nil where
	// nobody is to be told.
	Events func(ctx context.Context, cluster, reason, action, note string)
	// Peers are the other replicas; nil where there are none to ask.
	Peers Peers
	// Now is the hub's clock.
	Now    func() time.Time
	Logger *slog.Logger
}

// TokenPolicy is what a join token allows; see CreateJoinTokenRequest.
type TokenPolicy struct {
	ClusterName, NamePattern string
	TTL                      time.Duration
	MaxUses                  uint32
	SourceCIDRs              []string
	AutoAccept               bool
	ReEnroll                 bool // lets in a cluster that had a certificate before
	Endpoints                []string
	ClusterLabels            map[string]string
}

// Token is a join token as listed. Presented, JoinString and CASHA256 are set
// only by Create, and shown once.
type Token struct {
	ID, Presented, JoinString, CASHA256 string
	Policy                              TokenPolicy
	Expires                             time.Time
	UsesLeft                            uint32
	CreatedBy                           string
}

// Tokens keeps join tokens. The caller has been authorized; by names them.
type Tokens interface {
	Create(ctx context.Context, policy TokenPolicy, by string) (Token, error)
	List(ctx context.Context) ([]Token, error)
	Revoke(ctx context.Context, id string) error
}

// Enrollments lists and decides enrollments. Accept and Deny write with the
// caller's own credentials, given as a rest.Config.
type Enrollments interface {
	List(ctx context.Context) ([]*adminv1.Enrollment, error)
	Accept(ctx context.Context, caller *rest.Config, id, pairingCode, by string) error
	Deny(ctx context.Context, caller *rest.Config, id, why, by string) error
	// Vouch decides, after a certificate was cloned, that the one with that serial
	// is the agent's; the caller's right to accept the cluster is asked for.
	Vouch(ctx context.Context, caller *rest.Config, id, serial string) error
}

// Sessions knows the sessions of every replica from their Leases, and more of
// those that this replica holds.
type Sessions interface {
	List(ctx context.Context) ([]*adminv1.SessionInfo, error)
	// Kick ends a session wherever it is; the agent dials again.
	Kick(ctx context.Context, cluster, sessionID string) error
	// Held is what the cluster's agent last reported as held; known is false
	// when another replica has the session, or none.
	Held(cluster string) (batches []*adminv1.HeldBatch, known bool)
	// Release tells the agent to act on a held batch.
	Release(ctx context.Context, cluster, batch string) error
}

// DeliveryState is where a work stands between hub and agent.
type DeliveryState struct {
	Waiting  bool      // marked, not sent yet
	Sent     time.Time // sent, not acknowledged; zero when not in flight
	Rejected string    // the agent refused this revision, and why
	Refused  string    // the agent could not take it the last time, and why; it is sent again
	Held     bool
}

// Deliveries tells where one work stands in the session that this replica
// holds; known is false when it holds none. Digest is that of the revision the
// hub would deliver now.
type Deliveries interface {
	State(cluster string, key wire.Key) (state DeliveryState, known bool)
	Digest(cluster string, key wire.Key) (digest wire.Digest, ok bool)
}

// Placements says how a placement, as the caller has just read it, is decided,
// whatever replica is asked; the answer has all clusters in one page, and is
// the caller's to change.
type Placements interface {
	Explain(ctx context.Context, placement *clusterv1beta1.Placement) (*adminv1.ExplainPlacementResponse, error)
}

// ReplicaSets says how a replica set, as the caller has just read it, goes on; the
// answer has all clusters in one page. ok is false as long as this replica does not
// know the works.
type ReplicaSets interface {
	Explain(ctx context.Context, set *workv1alpha1.ManifestWorkReplicaSet) (answer *adminv1.ExplainReplicaSetResponse, ok bool, err error)
}

// Service implements the admin services. It is safe for concurrent use.
type Service struct {
	Config
	callers      callers
	watches      *person.Watches
	explanations explanations
}

type (
	enrollmentService struct {
		adminv1.UnimplementedEnrollmentAdminServiceServer
		*Service
	}
	clusterService struct {
		adminv1.UnimplementedClusterAdminServiceServer
		*Service
	}
	workService struct {
		adminv1.UnimplementedWorkAdminServiceServer
		*Service
	}
	placementService struct {
		adminv1.UnimplementedPlacementAdminServiceServer
		*Service
	}
)

// New makes the services; Register puts them on a server.
func New(cfg Config) *Service {
	return &Service{Config: cfg, callers: callers{person.NewCallers(cfg.REST)}, watches: person.NewWatches(maxWatches), explanations: newExplanations(cfg.Now)}
}

// Register adds the services to a gRPC server, whose interceptors see to it
// that only callers with a bearer token get here.
func (s *Service) Register(registrar grpc.ServiceRegistrar) {
	adminv1.RegisterEnrollmentAdminServiceServer(registrar, enrollmentService{Service: s})
	adminv1.RegisterClusterAdminServiceServer(registrar, clusterService{Service: s})
	adminv1.RegisterWorkAdminServiceServer(registrar, workService{Service: s})
	adminv1.RegisterPlacementAdminServiceServer(registrar, placementService{Service: s})
}

// deed is what a person has changed.
type deed struct {
	action  string // the method
	actor   string // as the apiserver knows the person
	cluster string // name, or pattern of names
	before  any
	after   any
}

// audit writes the one structured line that each deed of a person leaves; attrs
// are more of it, in pairs.
func (s *Service) audit(ctx context.Context, d deed, attrs ...any) {
	s.Logger.InfoContext(ctx, "audit", append([]any{
		"action", d.action, "actor", d.actor, "cluster", d.cluster, "before", d.before, "after", d.after,
	}, attrs...)...)
}

// tellf makes an Event of a deed that no controller sees.
func (s *Service) tellf(ctx context.Context, d deed, why, format string, args ...any) {
	if s.Events != nil {
		s.Events(ctx, d.cluster, why, d.action, fmt.Sprintf(format, args...))
	}
}
