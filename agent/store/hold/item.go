// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hold

import (
	"encoding/hex"
	"time"

	"fairlead.dev/fairlead/internal/wire"
)

// State says how far a delete has come.
type State string

// States of a Deletion.
const (
	// Requested: the hub's object has a deletionTimestamp. Never held.
	Requested State = "Requested"
	// Pending: an orphan, carried out at Due unless the work comes back.
	Pending State = "Pending"
	// Held: an orphan that only a person's release, or the return of the work,
	// can end.
	Held State = "Held"
)

// Reason says why a delete or a prune is held. The values are the names of
// HeldReason in the wire contract, without its prefix.
type Reason string

// Reasons for holding.
const (
	HubEpoch   Reason = "HUB_EPOCH"  // the hub was restored since the object was stored
	HighWater  Reason = "HIGH_WATER" // the hub's mark is below one that this agent holds
	Count      Reason = "COUNT"      // too many orphans within a day
	Generation Reason = "GENERATION" // a generation below the stored one arrived
)

// Deletion is a delete that was received and is not finished.
type Deletion struct {
	State State `json:"state"`
	// UID is the object that the delete is about.
	UID string `json:"uid"`
	// Generation is that of a requested delete; with it the agent is in sync.
	Generation int64 `json:"generation,omitempty"`
	// Batch is the group that the hub announced it in.
	Batch  string    `json:"batch,omitempty"`
	Reason Reason    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
	// Due is when a pending delete is carried out.
	Due time.Time `json:"due,omitzero"`
}

// Orphan tells whether it rests on absence rather than on a request.
func (d *Deletion) Orphan() bool { return d != nil && d.State != Requested }

// DueAt tells whether it is to be carried out at a given time.
func (d *Deletion) DueAt(now time.Time) bool {
	return d != nil && (d.State == Requested || d.State == Pending && !now.Before(d.Due))
}

// Prune says that content was stored but that what it no longer names must stay
// on the spoke for now.
type Prune struct {
	Reason Reason    `json:"reason"`
	Since  time.Time `json:"since"`
	// Before is the revision that was held before; its return ends the hold. It
	// is empty when the hub has gone back more than once.
	Before Content `json:"before"`
}

// Content identifies one content of one object.
type Content struct {
	UID        string `json:"uid"`
	Generation int64  `json:"generation"`
	Digest     string `json:"digest"` // hex
}

func contentOf(rev wire.Revision) Content {
	return Content{UID: rev.UID, Generation: rev.Generation, Digest: hex.EncodeToString(rev.Digest[:])}
}

// Item is what is held of one object. A Revision without a digest means that
// there is no content: only a delete is known.
type Item struct {
	Revision wire.Revision
	Deletion *Deletion
	Prune    *Prune
}

// HasContent tells whether content of the object is held.
func (i Item) HasContent() bool { return !i.Revision.Digest.IsZero() }

// UID is the identity of the object that the item is about.
func (i Item) UID() string {
	if i.Deletion != nil {
		return i.Deletion.UID
	}
	return i.Revision.UID
}

// Entry is the item as compared with the hub. An object whose deletion has been
// asked for has the digest that stands for that.
func (i Item) Entry(key wire.Key) wire.Entry {
	entry := wire.Entry{Key: key, Revision: i.Revision}
	if d := i.Deletion; d != nil && d.State == Requested {
		entry.Revision = wire.Revision{UID: d.UID, Generation: d.Generation, Digest: wire.DeletingDigest(d.UID)}
	}
	return entry
}
