// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Config is what the service needs. The clients' scheme must know core, RBAC,
// certificates, authorization and authentication kinds, OCM's cluster kinds and
// v1alpha1.
type Config struct {
	// Hub is the hub's start identity, for join tokens' Secrets and for removing a
	// ManagedCluster that the hub made. Not cached.
	Hub client.Client
	// Agents is the identity for writes on behalf of agents (ServiceAccount
	// grpc-server-sa). Not cached.
	Agents client.Client
	// Cache holds ClusterEnrollments and ManagedClusters. New registers with it;
	// the caller starts it, before or after.
	Cache cache.Cache

	// AutoApprove tells whose join tokens let clusters in without a pairing code,
	// by the name of the user who made the token. nil is nobody's (RC-28).
	AutoApprove func(user string) bool

	Namespace string
	HubID     string
	HMACKey   []byte
	Limits    Limits
	// Events tells of what an agent did with an Event on its cluster; nil where
	// nobody is to be told.
	Events func(ctx context.Context, cluster, reason, action, note string)
	Clock  clock.PassiveClock
	Log    *slog.Logger
}

// Service answers everything about enrollment, on any replica. Safe for
// concurrent use.
type Service struct {
	cfg    Config
	tokens *Tokens
	watch  *watch
	limits *limiters
	agent  string // the user name under which Agents writes

	mu    sync.Mutex
	polls map[string]*poll // the one open long poll of each enrollment
}

// New makes the service and registers it with the cache.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.HubID == "" || len(cfg.HMACKey) == 0 || cfg.Namespace == "" {
		return nil, errors.New("enrollment needs a hub-id, an HMAC key and a namespace")
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.AutoApprove == nil {
		cfg.AutoApprove = func(string) bool { return false }
	}
	w, err := newWatch(ctx, cfg.Cache)
	if err != nil {
		return nil, err
	}
	return &Service{
		cfg:    cfg,
		tokens: NewTokens(cfg.Hub, cfg.Namespace, cfg.Clock),
		watch:  w,
		limits: newLimiters(cfg.Limits),
		agent:  "system:serviceaccount:" + cfg.Namespace + ":" + identity.GRPCServerServiceAccount,
		polls:  map[string]*poll{},
	}, nil
}

// Tokens gives access to the join tokens.
func (s *Service) Tokens() *Tokens { return s.tokens }

// Request is an agent's request to join.
type Request struct {
	Cluster      string
	Token        string // <id>.<secret>
	CSR          []byte // DER
	Fingerprint  string // UID of the spoke's kube-system namespace
	AgentID      string
	AgentVersion string
	Source       netip.Addr
}

// Enrollment is what an agent is told about its enrollment.
type Enrollment struct {
	ID          string
	State       v1alpha1.EnrollmentState
	PairingCode string
	HubID       string
	Reason      string
	Message     string
	// Challenge is to be signed in the next Get; PollAfter is when to call it.
	Challenge []byte
	PollAfter time.Duration
	// Chain is the certificate of the key that asked (PEM, leaf first), if there
	// is one; RenewAfter is when the agent should ask for the next.
	Chain      []byte
	NotAfter   time.Time
	RenewAfter time.Time
}

const pollAfter = 2 * time.Second

// answer describes an enrollment to the holder of one of its keys.
func (s *Service) answer(e *v1alpha1.ClusterEnrollment, cert *v1alpha1.Certificate) Enrollment {
	out := Enrollment{
		ID: e.Name, State: e.Status.State, PairingCode: e.Spec.PairingCode, HubID: e.Spec.HubID,
		Reason: e.Status.Reason, Message: e.Status.Message,
		Challenge: newChallenge(s.cfg.HMACKey, e.Name, s.cfg.Clock.Now()), PollAfter: pollAfter,
	}
	if cert == nil || cert.Serial == "" || e.Status.State.Final() {
		return out
	}
	out.Chain = cert.Chain
	if cert.NotAfter != nil {
		out.NotAfter = cert.NotAfter.Time
	}
	out.RenewAfter = renewAfter(cert.Chain, s.cfg.Clock.Now())
	return out
}

// certificateOf returns the certificate that was issued to a key of the
// enrollment, or nil.
func certificateOf(e *v1alpha1.ClusterEnrollment, keySHA256 string) *v1alpha1.Certificate {
	for _, cert := range []*v1alpha1.Certificate{e.Status.Current, e.Status.Next} {
		if cert != nil && cert.KeySHA256 == keySHA256 && cert.Serial != "" {
			return cert
		}
	}
	return nil
}

// read fetches an enrollment from the apiserver itself.
func (s *Service) read(ctx context.Context, name string) (*v1alpha1.ClusterEnrollment, error) {
	enrollment := &v1alpha1.ClusterEnrollment{}
	if err := s.cfg.Agents.Get(ctx, client.ObjectKey{Name: name}, enrollment); err != nil {
		return nil, fmt.Errorf("reading ClusterEnrollment %q: %w", name, err)
	}
	return enrollment, nil
}

// ofCluster lists the enrollments of a cluster, from the cache or the apiserver.
func (s *Service) ofCluster(ctx context.Context, cached bool, cluster string, options ...client.ListOption) ([]v1alpha1.ClusterEnrollment, error) {
	var reader client.Reader = s.cfg.Agents
	var which client.ListOption = client.MatchingLabels{identity.ClusterNameLabel: cluster}
	if cached {
		reader, which = s.watch.reader, client.MatchingFields{clusterIndex: cluster}
	}
	var list v1alpha1.ClusterEnrollmentList
	if err := reader.List(ctx, &list, append(options, which)...); err != nil {
		return nil, fmt.Errorf("listing the enrollments of cluster %q: %w", cluster, err)
	}
	return list.Items, nil
}

// updateStatus changes the status of an enrollment, on its newest version and
// again after a conflict, and says whether it wrote. change may run several
// times; it returns false to leave the enrollment as it is.
func (s *Service) updateStatus(ctx context.Context, name string, change func(*v1alpha1.ClusterEnrollment) (bool, error)) (e *v1alpha1.ClusterEnrollment, wrote bool, err error) {
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if e, err = s.read(ctx, name); err != nil {
			return err
		}
		if wrote, err = change(e); err != nil || !wrote {
			return err
		}
		return s.cfg.Agents.Status().Update(ctx, e)
	})
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		return nil, false, fmt.Errorf("recording the state of enrollment %q: %w", name, err)
	}
	return e, wrote && err == nil, err
}

// suspended says whether the enrollment is revoked only for as long as the
// hub's admin has withdrawn acceptance (hubAcceptsClient is false).
func suspended(e *v1alpha1.ClusterEnrollment) bool {
	return e.Status.State == v1alpha1.StateRevoked && e.Status.Reason == reason.NotAccepted
}

// ended says whether no certificate of the enrollment can ever be good again.
func ended(e *v1alpha1.ClusterEnrollment) bool {
	return e.Status.State.Final() && !suspended(e) && !e.Cloned() && !e.OutOfTime()
}

func (s *Service) now() metav1.Time { return metav1.NewTime(s.cfg.Clock.Now()) }

// audit writes the one line that everything that happens to an enrollment here
// gets: from which state it went to the one that it has. What people do has its
// line where they call, what controllers do has it there.
func (s *Service) audit(action, actor string, e *v1alpha1.ClusterEnrollment, before v1alpha1.EnrollmentState, more ...any) {
	s.cfg.Log.Info("audit", append([]any{
		"action", action, "actor", actor, "cluster", e.Spec.ClusterName, "before", string(before), "after", string(e.Status.State),
		"enrollment", e.Name, "pairingCode", e.Spec.PairingCode,
	}, more...)...)
}

// tell makes an Event of it.
func (s *Service) tell(ctx context.Context, e *v1alpha1.ClusterEnrollment, why, action, note string) {
	if s.cfg.Events != nil {
		s.cfg.Events(ctx, e.Spec.ClusterName, why, action, note)
	}
}
