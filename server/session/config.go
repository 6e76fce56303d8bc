// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"cmp"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

// Defaults and bounds of what an agent may ask for or send.
const (
	defaultWindowBytes   = 4 << 20
	defaultWindowObjects = 256
	maxWindowBytes       = 16 << 20
	maxWindowObjects     = 4096

	defaultHeartbeat    = 20 * time.Second
	defaultOrphanGrace  = time.Hour
	defaultAntiEntropy  = 10 * time.Minute
	defaultMaxInventory = 200_000

	maxName = 253 // of a Kubernetes object
	maxUID  = 128 // a Kubernetes UID has 36
)

// Source is one cluster's view of the works index: in memory, never blocking,
// safe for concurrent use, always the newest. It has to show a change before
// the mark for it is given to the session.
type Source interface {
	// Get tells what the index has of one key, without its content.
	Get(key wire.Key) (Object, bool)
	// Content is the newest revision, packed for the wire; ok is false when the
	// index has no such key or cannot unpack it.
	Content(key wire.Key) (content Content, ok bool)
	// Entries is what the agent is to hold, in any order; the caller owns it.
	Entries() []wire.Entry
	// Summary is cheap: cached until something changes.
	Summary() Summary
	// HighWater is the newest resourceVersion of the index, with its proof.
	HighWater() wire.HighWater
}

// Object is what the index has of one key. The digest of a Deleting one is
// wire.DeletingDigest(UID), in Revision as in Entries.
type Object struct {
	wire.Revision
	Deleting bool
	// Finalizer tells that the hub's finalizer is on it. A work without it is
	// not sent before EnsureFinalizer is done. True for kinds that need none.
	Finalizer bool
	// PackedSize is about the size on the wire; 0 means unknown.
	PackedSize int
	// Undeliverable is a reason (package reason) not to send it; mostly empty.
	// What is larger than Limits.MaxObject need not be marked.
	Undeliverable string
	// Why says in words what Undeliverable means here; empty leaves it to the session.
	Why string
}

// Content is exactly one revision as it travels. The bytes are not changed by
// the session and may be shared.
type Content struct {
	Revision  wire.Revision
	Encoding  agentv1.Encoding
	Bytes     []byte
	Deleting  bool
	Finalizer bool
}

// Summary is what decides at Hello whether anything differs.
type Summary struct {
	Root       wire.Digest // wire.Summarize(Entries()).Root()
	Count      int
	StatusRoot wire.Digest // the same over the statuses stored on the hub
}

// Hub is what all sessions of a replica share. It is read only; a new hub epoch
// is a new Hub, and ends all sessions of the old one.
type Hub struct {
	Replica, ID, Epoch string
	Features           []string
	OrphanGrace        time.Duration // 0: 60 min
	Limits             Limits
	// Proven tells whether a mark was made by this hub (wire.Proven).
	Proven func(wire.HighWater) bool
}

// Limits are told to the agent and enforced. Zero fields take the defaults.
type Limits struct {
	MaxObject       uint64 // wire.MaxObject
	MaxStatus       uint32 // wire.MaxStatus
	StatusPerSecond uint32 // told only
	MaxInventory    int    // entries of one inventory; 200,000
}

// Reconnect is the policy told to the agent.
type Reconnect struct{ Base, Max, Spread time.Duration }

// Config is what one session is made of.
type Config struct {
	Hub       *Hub
	SessionID string
	Epoch     uint64        // of the session Lease
	Heartbeat time.Duration // min(20 s, leaseDurationSeconds / 3); 0: 20 s
	Liveness  time.Duration // 0: three heartbeats
	// Deadline ends the session: never after the certificate's NotAfter. Zero:
	// none.
	Deadline  time.Time
	Reconnect Reconnect
	// AntiEntropy is the interval of comparing roots, jittered by the caller
	// (10 min ± 20 %). Agents do it by themselves; the hub asks one that did not
	// for a quarter longer. 0: 10 min.
	AntiEntropy time.Duration
	// Trust goes into Welcome when it is newer than what the agent has. May be
	// nil.
	Trust *agentv1.TrustBundle
}

func (h *Hub) orphanGrace() time.Duration { return cmp.Or(h.OrphanGrace, defaultOrphanGrace) }

func (h *Hub) proven(mark wire.HighWater) bool { return h.Proven != nil && h.Proven(mark) }

func (l Limits) maxObject() uint64 { return cmp.Or(l.MaxObject, wire.MaxObject) }

func (l Limits) maxStatus() uint32 { return cmp.Or(l.MaxStatus, wire.MaxStatus) }

func (l Limits) maxInventory() int { return cmp.Or(l.MaxInventory, defaultMaxInventory) }

func (c Config) withDefaults() Config {
	c.Heartbeat = cmp.Or(c.Heartbeat, defaultHeartbeat)
	c.Liveness = cmp.Or(c.Liveness, 3*c.Heartbeat)
	c.AntiEntropy = cmp.Or(c.AntiEntropy, defaultAntiEntropy)
	return c
}
