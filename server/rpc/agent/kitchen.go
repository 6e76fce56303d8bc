// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/session"
)

// Gate says whether sessions may exist. Errors are *rpcerr.Error.
type Gate interface {
	// Ready refuses while the hub has not synced, is cut off or drains.
	Ready() error
	// Check looks again at the right of a caller whose session lives.
	Check(ctx context.Context, caller *authz.Caller) error
	// Heartbeat is the interval for a cluster: a third of its lease at most.
	Heartbeat(cluster string) time.Duration
	// Hub is what all sessions share. A new pointer means a new hub epoch.
	Hub() *session.Hub
	// Restored decides, by a quorum read, whether a proven mark above the index's
	// means that the hub went back in time; if so the new epoch is written before
	// it returns true.
	Restored(ctx context.Context, mark wire.HighWater) (bool, error)
}

// Claim says who wants the session of a cluster.
type Claim struct {
	SessionID, InstanceID, Fingerprint, AgentID, Remote string
}

// Leases gives the session of a cluster to one claimant at a time. Errors are
// *rpcerr.Error (DUPLICATE_CLUSTER, AGENT_FLAPPING).
type Leases interface {
	Take(ctx context.Context, scope identity.Scope, claim Claim) (Hold, error)
}

// Hold is the right to act for one cluster, fenced by the epoch. Everything that
// is read or written through it belongs to the cluster of the scope that it was
// taken with.
type Hold struct {
	Epoch   uint64
	Source  session.Source
	Works   Works
	Reports Reports
	Lease   Lease
}

// Lease is what a Hold rests on.
type Lease interface {
	// Held is a look into memory: false once the Lease is known to be lost.
	Held() bool
	// GiveUp notes in memory that the session is over; Release follows.
	GiveUp(lastSeen time.Time)
	// Release gives the session up; it does nothing if it was lost already, or
	// taken by a newer one.
	Release(ctx context.Context, lastSeen time.Time) error
}

// Status is one status to be written.
type Status struct {
	Key                wire.Key
	UID                string
	ObservedGeneration int64
	ObservedDigest     wire.Digest
	JSON               []byte
	Finalized          bool
}

// Answer is what became of a write. Fenced: the session has lost its Lease and
// must end.
type Answer struct {
	Code            agentv1.StatusCode
	Fenced          bool
	Reason, Message string
	RetryAfter      time.Duration
}

// Works is one cluster's works. The callbacks are called exactly once and must
// not block; they may be called before the method returns.
type Works interface {
	// Watch calls mark for every change until cancel is called.
	Watch(mark func(session.Marked)) (cancel func())
	// Read is a GET without resourceVersion.
	Read(ctx context.Context, key wire.Key) (session.QuorumAnswer, error)
	PutStatus(status Status, done func(Answer))
	EnsureFinalizer(key wire.Key, uid string, done func(Answer))
	// Delivered notes on the work that a revision does not reach its agent, or,
	// with an empty reason, that it does.
	Delivered(key wire.Key, uid, reason, message string)
}

// Report is what an agent says about its cluster.
type Report struct {
	KubernetesVersion             string
	Claims, Capacity, Allocatable map[string]string
	// LeftOut is how many entries were dropped for their number or size.
	LeftOut int
	// Healthy says that the spoke's own apiserver answers.
	Healthy bool
	// Namespaces is what became of the namespaces that the hub asked for: by name,
	// empty where it is there, else why it is not.
	Namespaces map[string]string
}

// Held is the deletes that an agent does not act on until a person releases them.
type Held struct {
	Batches int
	Objects int
	Message string
}

// Reports takes what agents say about their clusters; nothing is written that
// did not change.
type Reports interface {
	Cluster(ctx context.Context, report Report) error
	DeletesHeld(ctx context.Context, held Held) error
	// Clock takes how far the agent's clock is behind the hub's.
	Clock(ctx context.Context, offset time.Duration) error
}
