// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/admin"
	"fairlead.dev/fairlead/server/rpc/agent"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/server/store"
)

// adminSessions implements admin.Sessions: all replicas' sessions from their
// Leases, and more of those that this replica holds.
type adminSessions struct{ *house }

// List implements admin.Sessions.
func (s adminSessions) List(context.Context) ([]*adminv1.SessionInfo, error) {
	here := map[string]agent.State{}
	for _, state := range s.service.Sessions().List() {
		here[state.SessionID] = state
	}
	var out []*adminv1.SessionInfo
	for _, session := range s.sessions.List() {
		if !session.Live {
			continue
		}
		info := &adminv1.SessionInfo{
			ClusterName: session.Cluster, SessionId: session.SessionID, SessionEpoch: session.Epoch, HubReplica: session.Replica,
			InstanceId: session.InstanceID, RemoteAddress: session.Remote, AgentId: session.AgentID,
			ClusterFingerprint: session.Fingerprint, Started: timestamppb.New(session.Since),
		}
		if state, ok := here[session.SessionID]; ok {
			addLive(info, state)
		}
		out = append(out, info)
	}
	return out, nil
}

func addLive(info *adminv1.SessionInfo, state agent.State) {
	info.Live = true
	info.DirtyObjects, info.UnackedBytes = uint32(state.Dirty), state.UnackedBytes //nolint:gosec // never negative
	info.SendStalled = durationpb.New(state.SendStalled)
	info.LastReceived = optionalTime(state.LastReceived)
	info.CertificateExpires = optionalTime(state.CertificateExpires)
}

func optionalTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Kick implements admin.Sessions: the Lease says it to whichever replica.
func (s adminSessions) Kick(ctx context.Context, cluster, sessionID string) error {
	_, err := s.sessions.Kick(ctx, sessionID)
	if errors.Is(err, store.ErrNoSession) {
		return rpcerr.New(codes.NotFound, reason.NotFound, "session %q of cluster %q has just ended", sessionID, cluster)
	}
	return err
}

// Held implements admin.Sessions.
func (s adminSessions) Held(cluster string) ([]*adminv1.HeldBatch, bool) {
	batches, known := s.service.Sessions().Held(cluster)
	out := make([]*adminv1.HeldBatch, 0, len(batches))
	for _, batch := range batches {
		held := &adminv1.HeldBatch{ClusterName: cluster, BatchId: batch.GetBatchId(), Reason: heldBecause(batch.GetReason()), Since: batch.GetSince(), OnSpoke: onSpoke(batch)}
		for _, entry := range batch.GetEntries() {
			held.Names = append(held.Names, entry.GetKey().GetName())
		}
		out = append(out, held)
	}
	return out, known
}

// heldBecause is why a batch is held in words for people.
func heldBecause(why agentv1.HeldReason) string {
	switch why {
	case agentv1.HeldReason_HELD_REASON_HUB_EPOCH:
		return "the hub was restored"
	case agentv1.HeldReason_HELD_REASON_HIGH_WATER:
		return "the hub's state is older than what the agent has seen"
	case agentv1.HeldReason_HELD_REASON_COUNT:
		return "many objects vanished at once"
	case agentv1.HeldReason_HELD_REASON_GENERATION:
		return "the work went back to an older generation"
	case agentv1.HeldReason_HELD_REASON_EVICTION:
		return "no work of this hub has taken them over"
	case agentv1.HeldReason_HELD_REASON_UNSPECIFIED:
	}
	return "unknown"
}

// onSpoke tells whether only a person on the spoke can release a batch.
func onSpoke(batch *agentv1.HeldBatch) bool {
	return batch.GetReason() == agentv1.HeldReason_HELD_REASON_EVICTION
}

// Release implements admin.Sessions.
func (s adminSessions) Release(_ context.Context, cluster, batch string) error {
	err := s.service.Sessions().ReleaseHold(cluster, batch)
	if errors.Is(err, agent.ErrNoSession) {
		return rpcerr.New(codes.Unavailable, reason.NotFound, "the session of cluster %q has just ended: try again when it is back", cluster)
	}
	return err
}

// adminDeliveries implements admin.Deliveries.
type adminDeliveries struct{ *house }

// State implements admin.Deliveries.
func (d adminDeliveries) State(cluster string, key wire.Key) (admin.DeliveryState, bool) {
	state, known := d.service.Sessions().Delivery(cluster, key)
	out := admin.DeliveryState{Waiting: state.Dirty, Sent: state.Sent, Held: state.Held}
	if state.Rejected != nil {
		out.Rejected = state.Rejected.GetReason() + ": " + state.Rejected.GetMessage()
	}
	if state.Refused != nil {
		out.Refused = state.Refused.GetReason() + ": " + state.Refused.GetMessage()
	}
	return out, known
}

// Digest implements admin.Deliveries.
func (d adminDeliveries) Digest(cluster string, key wire.Key) (wire.Digest, bool) {
	work, ok := d.index.View(cluster).Get(key)
	return work.Digest, ok
}
