// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

// Input is anything that happens to a session.
type Input interface{ input() }

type (
	// Hello is the agent's first message. It comes after the session was
	// registered with the index: whatever the index shows then is compared, and
	// whatever changes later is marked.
	Hello struct{ Message *agentv1.Hello }

	// Frame is any later message of the agent.
	Frame struct{ Message *agentv1.SessionRequest }

	// Marked says that the index changed for a key. UID is that of the object
	// that is gone, if it is.
	Marked struct {
		Key wire.Key
		UID string
	}

	// QuorumAnswer answers ReadQuorum with a GET without resourceVersion. Found
	// is false only for a genuine NotFound; for a kind that the hub cannot read
	// it is true. Failed: ask again later. ResourceVersion is the object's, or,
	// when it is not found, any by which that was known (it goes to the agent).
	QuorumAnswer struct {
		Read            ReadQuorum // as asked for
		Failed          bool
		Found           bool
		UID             string
		Generation      int64
		Deleting        bool
		ResourceVersion string
	}

	// FinalizerDone answers EnsureFinalizer. Failed: try again later. When the
	// object is gone or another one by now, that is no failure.
	FinalizerDone struct {
		Key    wire.Key
		UID    string // as asked for
		Failed bool
	}

	// StatusDone answers PersistStatus. If the fence is broken the answer is
	// End with reason FENCED instead.
	StatusDone struct {
		Key        wire.Key
		UID        string
		Seq        uint64
		Code       agentv1.StatusCode
		Error      *agentv1.ErrorInfo
		RetryAfter time.Duration
	}

	// RestoreAnswer answers CheckRestore. Restored ends the session.
	RestoreAnswer struct{ Restored bool }

	// Direct queues a directive. A newer one of a kind takes the place of one
	// not sent yet; releases of different batches do not.
	Direct struct{ Directive *agentv1.Directive }

	// Drain asks the agent to go elsewhere, and ends the session at CloseAt.
	Drain struct {
		CloseAt   time.Time
		Reconnect Reconnect
		Reason    string
	}

	// End says goodbye and closes: superseded, revoked, kicked, fenced.
	End struct {
		Reason, Message string
		RetryAfter      time.Duration
	}

	// Tick is wanted at Core.Wakeup.
	Tick struct{}
)

func (Hello) input()         {}
func (Frame) input()         {}
func (Marked) input()        {}
func (QuorumAnswer) input()  {}
func (FinalizerDone) input() {}
func (StatusDone) input()    {}
func (RestoreAnswer) input() {}
func (Direct) input()        {}
func (Drain) input()         {}
func (End) input()           {}
func (Tick) input()          {}
