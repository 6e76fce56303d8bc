// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/agent"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/server/session"
	"fairlead.dev/fairlead/server/store"
)

// Conditions on a ManagedCluster that sessions cause.
const (
	conditionDuplicate = "DuplicateAgent"
	conditionFlapping  = "AgentFlapping"
	conditionHeld      = "DeletesHeld"
)

// conditionTimeout bounds writing a condition beside the call that caused it.
const conditionTimeout = 10 * time.Second

// leases implements agent.Leases.
type leases struct{ *house }

// Take implements agent.Leases.
func (l leases) Take(ctx context.Context, scope identity.Scope, claim agent.Claim) (agent.Hold, error) {
	grant, err := l.sessions.Take(ctx, scope, store.SessionClaim(claim))
	if err != nil {
		return agent.Hold{}, l.refused(ctx, scope, err)
	}
	held := &hold{house: l.house, grant: grant}
	held.setCondition(ctx, conditionDuplicate, metav1.ConditionFalse, "OneAgent", "one agent has this cluster's session")
	if l.sessions.Takeovers(grant.Cluster()) == 0 {
		held.setCondition(ctx, conditionFlapping, metav1.ConditionFalse, "Stable", "no agent took the session from another of late")
	}
	return agent.Hold{Epoch: grant.Epoch(), Source: source{l.house, l.index.SessionView(grant), grant.Cluster()}, Works: held, Reports: held, Lease: held}, nil
}

// refused says why a session was not given, to the agent and on the cluster.
func (l leases) refused(ctx context.Context, scope identity.Scope, err error) error {
	about := &hold{house: l.house, scope: scope}
	if _, ok := errors.AsType[*store.DuplicateError](err); ok {
		about.setCondition(ctx, conditionDuplicate, metav1.ConditionTrue, "TwoClusters", err.Error())
		return rpcerr.New(codes.AlreadyExists, reason.DuplicateCluster, "another cluster is connected with this identity; every cluster needs an enrollment of its own").Because(err)
	}
	if flapping, ok := errors.AsType[*store.FlappingError](err); ok {
		about.setCondition(ctx, conditionFlapping, metav1.ConditionTrue, "Takeovers", err.Error())
		return rpcerr.New(codes.ResourceExhausted, reason.AgentFlapping, "agents of this cluster keep taking its session from each other; run one").RetryIn(flapping.RetryAfter).Because(err)
	}
	return err
}

// hold implements agent.Works, agent.Reports and agent.Lease for one Grant.
type hold struct {
	*house
	grant store.Grant
	scope identity.Scope // where there is no grant
}

func (h *hold) of() identity.Scope {
	if h.grant == (store.Grant{}) {
		return h.scope
	}
	return h.grant.Scope()
}

// setCondition writes a condition in the background, if it changes.
func (h *hold) setCondition(ctx context.Context, kind string, status metav1.ConditionStatus, why, message string) {
	admission := h.admission.Load()
	if admission == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), conditionTimeout) // the call may be over before
	h.service.Background("condition", func() {
		defer cancel()
		err := admission.clusters.ApplyCondition(ctx, h.of(), newCondition(kind, status, why, message))
		if err != nil && !errors.Is(err, store.ErrNoCluster) {
			h.log.Warn("a condition was not written", "cluster", h.of().Cluster(), "condition", kind, "error", err)
		}
	})
}

func newCondition(kind string, status metav1.ConditionStatus, why, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: why, Message: wire.Truncate(message)}
}

// Held implements agent.Lease.
func (h *hold) Held() bool { return h.sessions.Held(h.grant) }

// GiveUp implements agent.Lease.
func (h *hold) GiveUp(lastSeen time.Time) { h.sessions.GiveUp(h.grant, lastSeen) }

// Release implements agent.Lease.
func (h *hold) Release(ctx context.Context, lastSeen time.Time) error {
	return h.sessions.Release(ctx, h.grant, lastSeen)
}

// Watch implements agent.Works.
func (h *hold) Watch(mark func(session.Marked)) (cancel func()) {
	return h.index.Register(h.grant.Cluster(), func(m store.Mark) { mark(session.Marked{Key: m.Key, UID: m.LastUID}) })
}

// Read implements agent.Works.
func (h *hold) Read(ctx context.Context, key wire.Key) (session.QuorumAnswer, error) {
	if key == wire.ConfigKey() {
		revision, _ := wire.ClusterConfig{}.Encode()
		return session.QuorumAnswer{Found: true, UID: revision.UID}, nil // every cluster has one
	}
	if key.Kind != wire.KindWork {
		return session.QuorumAnswer{Found: true}, nil // nothing that the hub cannot read is ever said to be gone
	}
	live, err := h.index.QuorumGet(ctx, h.grant.Cluster(), key.Name)
	if err != nil {
		return session.QuorumAnswer{}, err
	}
	rv := live.ResourceVersion
	if !live.Found {
		rv = h.index.HighWater()
	}
	return session.QuorumAnswer{
		Found: live.Found, UID: live.UID, Generation: live.Generation, Deleting: live.Deleting,
		ResourceVersion: strconv.FormatUint(rv, 10),
	}, nil
}

// PutStatus implements agent.Works.
func (h *hold) PutStatus(s agent.Status, done func(agent.Answer)) {
	h.writer.Put(h.grant, store.Status(s), func(r store.Result) { done(answer(r)) })
}

// EnsureFinalizer implements agent.Works.
func (h *hold) EnsureFinalizer(key wire.Key, uid string, done func(agent.Answer)) {
	h.writer.EnsureFinalizer(h.grant, key, uid, func(r store.Result) { done(answer(r)) })
}

// Delivered implements agent.Works.
func (h *hold) Delivered(key wire.Key, uid, why, message string) {
	if key.Kind != wire.KindWork {
		return // there is no work to note it on
	}
	if why == "" {
		h.writer.ClearUndelivered(h.grant, key, uid)
		return
	}
	h.writer.SetUndelivered(h.grant, key, uid, why, message)
}

// Cluster implements agent.Reports.
func (h *hold) Cluster(ctx context.Context, report agent.Report) error {
	if err := h.sessions.SetSpokeHealthy(ctx, h.grant, report.Healthy); err != nil && !errors.Is(err, store.ErrFenced) {
		return err
	}
	admission := h.admission.Load()
	if admission == nil {
		return nil
	}
	err := admission.clusters.ApplyReport(ctx, h.grant.Scope(), store.Report{
		KubernetesVersion: report.KubernetesVersion, Claims: report.Claims, Capacity: report.Capacity, Allocatable: report.Allocatable,
		LeftOut: report.LeftOut,
	})
	if err == nil {
		err = admission.clusters.ApplyNamespaces(ctx, h.grant.Scope(), report.Namespaces)
	}
	if errors.Is(err, store.ErrNoCluster) {
		return nil // the session is about to end for it
	}
	return err
}

// Clock implements agent.Reports.
func (h *hold) Clock(ctx context.Context, offset time.Duration) error {
	if err := h.sessions.SetClockOffset(ctx, h.grant, offset); !errors.Is(err, store.ErrFenced) {
		return err
	}
	return nil
}

// DeletesHeld implements agent.Reports.
func (h *hold) DeletesHeld(ctx context.Context, held agent.Held) error {
	admission := h.admission.Load()
	if admission == nil {
		return nil
	}
	condition := newCondition(conditionHeld, metav1.ConditionFalse, "NothingHeld", "the agent holds no deletes")
	if held.Batches > 0 {
		condition = newCondition(conditionHeld, metav1.ConditionTrue, "WaitForRelease", held.Message)
	}
	err := admission.clusters.ApplyCondition(ctx, h.grant.Scope(), condition)
	if errors.Is(err, store.ErrNoCluster) {
		return nil
	}
	return err
}

var statusCodes = map[store.Outcome]agentv1.StatusCode{
	store.Persisted:  agentv1.StatusCode_STATUS_CODE_PERSISTED,
	store.Superseded: agentv1.StatusCode_STATUS_CODE_SUPERSEDED,
	store.StaleUID:   agentv1.StatusCode_STATUS_CODE_STALE_UID,
	store.Invalid:    agentv1.StatusCode_STATUS_CODE_INVALID,
	store.Retry:      agentv1.StatusCode_STATUS_CODE_RETRY,
}

// answer is a store's result in the protocol's words.
func answer(r store.Result) agent.Answer {
	return agent.Answer{
		Code: statusCodes[r.Outcome], Fenced: r.Outcome == store.Fenced,
		Reason: r.Reason, Message: r.Message, RetryAfter: r.RetryAfter,
	}
}
