// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	// fullBelow is the number of objects below which bucket digests are not
	// worth their round trip (PROTOCOL c3).
	fullBelow = 64
	// protocolRetry is when an agent that speaks another protocol may ask again.
	protocolRetry = 10 * time.Minute
)

// hello compares what the agent holds with what the index shows now, and
// answers with Welcome. Marks from here on are kept.
func (c *Core) hello(now time.Time, hello *agentv1.Hello) {
	if c.phase != before {
		c.violationf("a second Hello")
		return
	}
	if hello == nil {
		c.violationf("the first message is not Hello")
		return
	}
	if hello.GetProtocolMin() > wire.ProtocolVersion || hello.GetProtocolMax() < wire.ProtocolVersion {
		c.close(reason.ProtocolTooOld, "this hub speaks protocol 1 to 1: install an agent that does", protocolRetry)
		return
	}
	c.phase = open
	c.lastRecv, c.lastBeat, c.lastSync = now, now, now
	c.window = windowOf(hello.GetWindow())

	resume, summary := hello.GetResume(), c.src.Summary()
	c.mode = modeOf(resume, summary)
	c.announce = c.mode != agentv1.SyncMode_SYNC_MODE_IN_SYNC
	c.say(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Welcome{Welcome: c.welcome(now, hello, summary)}})
	c.compareMarks(resume)
	c.beginSync(now, resume)
}

func modeOf(resume *agentv1.ResumeState, summary Summary) agentv1.SyncMode {
	root, ok := wire.DigestOf(resume.GetDesiredRoot())
	if len(resume.GetDesiredRoot()) == 0 {
		ok = resume.GetDesiredCount() == 0
	}
	switch {
	case ok && root == summary.Root && int(resume.GetDesiredCount()) == summary.Count:
		return agentv1.SyncMode_SYNC_MODE_IN_SYNC
	case resume.GetStoreEpoch() == "" || resume.GetDesiredCount() < fullBelow:
		return agentv1.SyncMode_SYNC_MODE_FULL
	}
	return agentv1.SyncMode_SYNC_MODE_BUCKETS
}

// beginSync asks for what Welcome's mode needs. An agent that holds nothing is
// sent everything without waiting for its (empty) inventory.
func (c *Core) beginSync(now time.Time, resume *agentv1.ResumeState) {
	if c.mode == agentv1.SyncMode_SYNC_MODE_IN_SYNC {
		return
	}
	c.sync = c.newExchange(now, true)
	if c.mode == agentv1.SyncMode_SYNC_MODE_BUCKETS {
		c.askDigests()
		return
	}
	c.askEntries(allBuckets())
	if resume.GetDesiredCount() == 0 {
		c.sendAll(now)
	}
}

// compareMarks looks for a hub that went back in time (PROTOCOL decision 9). A
// mark of another hub epoch proves nothing new.
func (c *Core) compareMarks(resume *agentv1.ResumeState) {
	mark := wire.HighWaterOf(resume.GetHighWater())
	if mark.ResourceVersion <= c.src.HighWater().ResourceVersion || resume.GetHubEpoch() != c.cfg.Hub.Epoch {
		return
	}
	if !c.cfg.Hub.proven(mark) {
		c.effect(UnprovenMark{Mark: mark})
		return
	}
	c.restoreWait, c.behind = true, mark.ResourceVersion
	c.effect(CheckRestore{Mark: mark})
}

func (c *Core) restoreAnswered(in RestoreAnswer) {
	if in.Restored {
		c.close(reason.HubRestored, "the hub went back in time; it has a new epoch now", 0)
		return
	}
	c.restoreWait = false
	c.sealBatches()
}

func (c *Core) welcome(now time.Time, hello *agentv1.Hello, summary Summary) *agentv1.Welcome {
	hub := c.cfg.Hub
	w := &agentv1.Welcome{
		SessionId: c.cfg.SessionID, SessionEpoch: c.cfg.Epoch,
		HubReplica: hub.Replica, HubEpoch: hub.Epoch, HubId: hub.ID,
		Protocol: wire.ProtocolVersion, Features: common(hub.Features, hello.GetFeatures()),
		ServerTime:        timestamppb.New(now),
		HeartbeatInterval: durationpb.New(c.cfg.Heartbeat), LivenessTimeout: durationpb.New(c.cfg.Liveness),
		SyncMode: c.mode,
		Limits: &agentv1.Limits{
			MaxMessageBytes: wire.MaxFrame, MaxObjectBytes: hub.Limits.maxObject(),
			MaxStatusBytes: hub.Limits.maxStatus(), StatusPerSecond: hub.Limits.StatusPerSecond,
		},
		Reconnect: c.cfg.Reconnect.proto(), HighWater: c.src.HighWater().Proto(),
		OrphanGrace: durationpb.New(hub.orphanGrace()),
	}
	root, ok := wire.DigestOf(hello.GetResume().GetStatusRoot())
	w.ResendStatuses = root != summary.StatusRoot || !ok && len(hello.GetResume().GetStatusRoot()) > 0
	if !c.cfg.Deadline.IsZero() {
		w.SessionDeadline = timestamppb.New(c.cfg.Deadline)
	}
	if c.cfg.Trust.GetVersion() > hello.GetTrustBundleVersion() {
		w.TrustBundle = c.cfg.Trust
	}
	return w
}

// common is the features that both sides have.
func common(ours, theirs []string) []string {
	var both []string
	for _, f := range ours {
		if slices.Contains(theirs, f) {
			both = append(both, f)
		}
	}
	return both
}

func (r Reconnect) proto() *agentv1.ReconnectPolicy {
	return &agentv1.ReconnectPolicy{Base: durationpb.New(r.Base), Max: durationpb.New(r.Max), Spread: durationpb.New(r.Spread)}
}

// windowOf is the credit that the agent asks for, within bounds: at least one
// object and one full frame.
func windowOf(w *agentv1.Window) credit {
	bytes, objects := w.GetBytes(), w.GetObjects()
	if bytes == 0 {
		bytes = defaultWindowBytes
	}
	if objects == 0 {
		objects = defaultWindowObjects
	}
	return credit{
		bytes:   int(min(max(bytes, wire.MaxFrame), maxWindowBytes)),
		objects: int(min(objects, maxWindowObjects)),
	}
}
