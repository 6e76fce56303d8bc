// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	// replicaRenew and replicaDuration are those of a replica's own Lease.
	replicaRenew    = 5 * time.Second
	replicaDuration = 20 * time.Second
	// leaseWrites is how many session Leases are written at a time.
	leaseWrites = 32
)

// SessionsConfig is what Sessions need.
type SessionsConfig struct {
	// Config reads and writes Leases in Namespace.
	Config *rest.Config
	// Namespace is the hub's; identity.HubNamespace by default.
	Namespace string
	// Replica names this replica among its siblings: a DNS label. AdminAddress
	// is where siblings reach its admin listener.
	Replica, AdminAddress string
	// HighWater is how far the works index is; Index.HighWater.
	HighWater func() uint64
	// Clock defaults to the real one.
	Clock clock.PassiveClock
	// Log defaults to slog.Default.
	Log *slog.Logger
}

// Lost says that a session of this replica must end.
type Lost struct {
	Cluster, SessionID string
	// Reason is SUPERSEDED, KICKED or FENCED.
	Reason, Message string
}

// Sessions knows which session owns which cluster, on all replicas, and takes
// and gives back that ownership in one Lease per cluster. It also keeps this
// replica's own Lease alive. All methods may be called at any time.
type Sessions struct {
	config  SessionsConfig
	clock   clock.PassiveClock
	log     *slog.Logger
	leases  coordinationclient.LeaseInterface
	cache   cache.SharedIndexInformer
	handler cache.ResourceEventHandlerRegistration
	synced  chan struct{}
	started time.Time

	numbers   atomic.Uint64
	lastRenew atomic.Pointer[time.Time]
	swept     time.Time // when orphaned Leases were last looked for; only Run uses it

	mu        sync.Mutex
	lost      []func(Lost)
	local     map[string]Grant       // by cluster: the sessions of this replica
	givenUp   map[string]time.Time   // by session id: when released sessions were last seen
	takeovers map[string][]time.Time // by cluster: agents that took it from each other
	replicas  map[string]sighting    // by id
	doubtful  map[string]Grant       // by cluster: their Lease has vanished
	doubt     chan struct{}
	written   map[string]*coordinationv1.Lease // by name: what we wrote and the watch has not shown yet

	writes *semaphore.Weighted
}

// sighting is when, on our own clock, a replica was last seen to renew.
type sighting struct {
	renewed time.Time // as the replica says
	seen    time.Time // as we say
	live    bool      // it did not sign off
	address string
}

// NewSessions returns Sessions that know nothing until Run fills them.
func NewSessions(config SessionsConfig) (*Sessions, error) {
	if config.Namespace == "" {
		config.Namespace = identity.HubNamespace
	}
	if err := identity.ValidateAgentName(config.Replica); err != nil {
		return nil, fmt.Errorf("id of this hub replica: %w", err)
	}
	protobuf := rest.CopyConfig(config.Config) // a fleet's Leases all change at once when it reconnects
	protobuf.ContentType, protobuf.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(protobuf)
	if err != nil {
		return nil, fmt.Errorf("client for session Leases: %w", err)
	}
	s := &Sessions{
		config: config, clock: config.Clock, log: config.Log,
		leases: client.CoordinationV1().Leases(config.Namespace),
		synced: make(chan struct{}), doubt: make(chan struct{}, 1),
		local: map[string]Grant{}, givenUp: map[string]time.Time{}, takeovers: map[string][]time.Time{},
		replicas: map[string]sighting{}, doubtful: map[string]Grant{},
		written: map[string]*coordinationv1.Lease{}, writes: semaphore.NewWeighted(leaseWrites),
	}
	if s.clock == nil {
		s.clock = clock.RealClock{}
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.started = s.clock.Now()
	s.lastRenew.Store(&time.Time{})
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(config.Namespace),
		informers.WithTransform(slim),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = LabelLease }))
	s.cache = factory.Coordination().V1().Leases().Informer()
	s.handler, err = s.cache.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { s.observe(nil, o) },
		UpdateFunc: func(old, o any) { s.observe(old, o) },
		DeleteFunc: s.vanished,
	})
	if err != nil {
		return nil, fmt.Errorf("watching session Leases: %w", err)
	}
	return s, nil
}

// slim drops what nobody here reads.
func slim(object any) (any, error) {
	if lease, ok := object.(*coordinationv1.Lease); ok {
		lease.ManagedFields = nil
	}
	return object, nil
}

// OnLost has f called when a session of this replica has lost its cluster or was
// kicked. f must not block. Call it before Run. A session may be lost the moment
// it is taken: know its id before Take, or ask Held once you do.
func (s *Sessions) OnLost(f func(Lost)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, f)
}

// HasSynced is closed once all Leases are known and this replica's own is written.
func (s *Sessions) HasSynced() <-chan struct{} { return s.synced }

// Synced tells whether HasSynced is closed.
func (s *Sessions) Synced() bool {
	select {
	case <-s.synced:
		return true
	default:
		return false
	}
}

// LastRenew is when the apiserver last took this replica's Lease, on our clock.
// When that is 15 s ago, agents are better off with another replica (PROTOCOL c8).
func (s *Sessions) LastRenew() time.Time { return *s.lastRenew.Load() }

// observe takes in a Lease that appeared or changed.
func (s *Sessions) observe(before, now any) {
	lease, ok := now.(*coordinationv1.Lease)
	if !ok {
		return
	}
	switch lease.Labels[LabelLease] {
	case LeaseReplica:
		s.sight(lease)
	case LeaseSession:
		old, _ := before.(*coordinationv1.Lease)
		s.shown(lease)
		s.noteTakeover(old, lease)
		s.compare(lease)
	}
}

// shown forgets what we wrote once the watch tells it.
func (s *Sessions) shown(lease *coordinationv1.Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if written := s.written[lease.Name]; written != nil && versionOf(lease) >= versionOf(written) {
		delete(s.written, lease.Name)
	}
}

// sight notes a sign of life of a replica. Its clock is not ours: what counts
// is when we saw its renewal (B34).
func (s *Sessions) sight(lease *coordinationv1.Lease) {
	id := strings.TrimPrefix(lease.Name, "replica-")
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := s.replicas[id]
	fresh := sighting{seen: s.clock.Now(), live: holderOf(lease) != "", address: lease.Annotations[AnnotationAdminAddress]}
	if lease.Spec.RenewTime != nil {
		fresh.renewed = lease.Spec.RenewTime.Time
	}
	if known && have.renewed.Equal(fresh.renewed) {
		fresh.seen = have.seen
	}
	s.replicas[id] = fresh
}

// compare ends a session of ours whose Lease says something else by now.
func (s *Sessions) compare(lease *coordinationv1.Lease) {
	cluster := lease.Labels[identity.ClusterNameLabel]
	s.mu.Lock()
	g, ok := s.local[cluster]
	if !ok {
		callbacks, kicked := s.lost, lease.Annotations[AnnotationKick]
		_, over := s.givenUp[kicked]
		s.mu.Unlock()
		if over {
			tell(callbacks, Lost{Cluster: cluster, SessionID: kicked, Reason: reason.Kicked, Message: "an admin ended this session"})
		}
		return
	}
	if versionOf(lease) <= g.written {
		s.mu.Unlock()
		return // from before our write
	}
	lost := Lost{Cluster: cluster, SessionID: g.sessionID}
	switch now := sessionOf(lease); {
	case g.owns(lease) && lease.Annotations[AnnotationKick] == g.sessionID:
		lost.Reason, lost.Message = reason.Kicked, "an admin ended this session"
	case g.owns(lease):
		s.mu.Unlock()
		return
	case now.Replica == "":
		lost.Reason, lost.Message = reason.Fenced, "the session Lease was released by somebody else"
	default:
		lost.Reason = reason.Superseded
		lost.Message = fmt.Sprintf("agent instance %q at %s has the session now", now.InstanceID, now.Remote)
	}
	s.mu.Unlock()
	s.lose(g, lost)
}

// lose forgets a session of ours, unless it is gone already, and tells everybody.
func (s *Sessions) lose(g Grant, lost Lost) {
	s.mu.Lock()
	callbacks := s.lost
	current := s.local[g.Cluster()] == g
	if current && lost.Reason != reason.Kicked { // a kicked one owns its Lease until it releases it
		delete(s.local, g.Cluster())
	}
	s.mu.Unlock()
	if !current {
		return
	}
	s.log.Info("a session of this replica has to end", "cluster", lost.Cluster, "session", lost.SessionID, "reason", lost.Reason, "message", lost.Message)
	tell(callbacks, lost)
}

func tell(callbacks []func(Lost), lost Lost) {
	for _, f := range callbacks {
		f(lost)
	}
}

// vanished takes in that a Lease is not there any more.
func (s *Sessions) vanished(gone any) {
	if tombstone, ok := gone.(cache.DeletedFinalStateUnknown); ok {
		gone = tombstone.Obj
	}
	lease, ok := gone.(*coordinationv1.Lease)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.written, lease.Name)
	if lease.Labels[LabelLease] == LeaseReplica {
		delete(s.replicas, strings.TrimPrefix(lease.Name, "replica-"))
		return
	}
	if g, ok := s.local[lease.Labels[identity.ClusterNameLabel]]; ok {
		s.doubtful[g.Cluster()] = g
		select {
		case s.doubt <- struct{}{}:
		default:
		}
	}
}

// verify asks the apiserver about sessions whose Lease has vanished from the
// cache: a list that lies must not end them.
func (s *Sessions) verify(ctx context.Context) {
	s.mu.Lock()
	doubtful := s.doubtful
	s.doubtful = map[string]Grant{}
	s.mu.Unlock()
	for _, g := range doubtful {
		err := s.Check(ctx, g)
		switch {
		case errors.Is(err, ErrFenced):
			s.lose(g, Lost{Cluster: g.Cluster(), SessionID: g.sessionID, Reason: reason.Fenced, Message: "the session Lease was deleted"})
		case err != nil: // proves nothing; asked again at the next renewal
			s.mu.Lock()
			s.doubtful[g.Cluster()] = g
			s.mu.Unlock()
		}
	}
}
