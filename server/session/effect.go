// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

// Effect is something that the caller of Step has to do. Effects may be carried
// out in any order and at once, outside every lock.
type Effect interface{ effect() }

type (
	// ReadQuorum wants a QuorumAnswer. At most maxReads are asked for at a time.
	ReadQuorum struct {
		Key wire.Key
		ID  uint64 // of this read, within the session
	}

	// EnsureFinalizer wants a FinalizerDone; until then the object is not sent.
	EnsureFinalizer struct {
		Key wire.Key
		UID string
	}

	// PersistStatus wants a StatusDone. Encoded is the whole status as the agent
	// encoded it; decoding has to stop at Size. There may be several of a key:
	// they are to be stored in their order, and one that was not begun when a
	// newer one of its UID came is Superseded, unless it is finalized.
	PersistStatus struct {
		Key                wire.Key
		UID                string
		ObservedGeneration int64
		ObservedDigest     wire.Digest
		Seq                uint64
		Encoding           agentv1.Encoding
		Size               uint64
		Encoded            []byte
		Finalized          bool
	}

	// CheckRestore wants a RestoreAnswer: the agent has a proven mark above the
	// index's. A quorum LIST tells whether the index lags or the hub went back
	// in time. Orphans wait for the answer.
	CheckRestore struct{ Mark wire.HighWater }

	// UnprovenMark says that the agent claims a mark that this hub did not make
	// and that is above the index's: worth a line in the log. The agent holds
	// its deletes by itself.
	UnprovenMark struct{ Mark wire.HighWater }

	// Stored lists what became durable on the agent.
	Stored struct{ Objects []StoredObject }

	// Undelivered says that this revision does not reach the agent: it was
	// REJECTED there, or cannot be sent. Told once per revision and session.
	Undelivered struct {
		Key      wire.Key
		Revision wire.Revision
		Rejected bool // by the agent
		Error    *agentv1.ErrorInfo
	}

	// Retried says that the agent could not take an object now (metrics).
	Retried struct {
		Key   wire.Key
		Error *agentv1.ErrorInfo
	}

	// ReportCluster passes the agent's report on; it replaces the last one.
	ReportCluster struct{ Report *agentv1.ClusterReport }

	// ReportEvents passes events on, best effort.
	ReportEvents struct{ Events []*agentv1.ClusterEvent }

	// CountMismatch is the alarm of anti-entropy: agent and index differed in
	// that many keys though nothing was on its way. They are being mended.
	CountMismatch struct{ Keys []wire.Key }

	// Unsupported says that the agent sent a message that this hub does not
	// know; it was answered and ignored.
	Unsupported struct{}

	// Close ends the session: send what Next still has (a Goodbye), then end the
	// stream. Nothing else happens to the Core afterwards.
	Close struct {
		Reason, Message string
		RetryAfter      time.Duration
	}
)

// StoredObject is one acknowledged object. Marked is when the session learned
// of the change, Sent when its (last) frame was handed out.
type StoredObject struct {
	Key          wire.Key
	Revision     wire.Revision
	Delete       bool
	Marked, Sent time.Time
}

func (ReadQuorum) effect()      {}
func (EnsureFinalizer) effect() {}
func (PersistStatus) effect()   {}
func (CheckRestore) effect()    {}
func (UnprovenMark) effect()    {}
func (Stored) effect()          {}
func (Undelivered) effect()     {}
func (Retried) effect()         {}
func (ReportCluster) effect()   {}
func (ReportEvents) effect()    {}
func (CountMismatch) effect()   {}
func (Unsupported) effect()     {}
func (Close) effect()           {}
