// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

// holding is one object on the model agent.
type holding struct {
	rev       wire.Revision
	deleting  bool
	orphaned  bool
	held      bool
	finalized bool // told
}

// agent is the model of an agent: it keeps what it is sent and acknowledges
// frames in order. What it finds wrong with the hub's messages is in faults.
type agent struct {
	holds      map[wire.Key]*holding
	storeEpoch string
	hubEpoch   string
	mark       wire.HighWater
	window     *agentv1.Window
	rejects    map[wire.Key]bool
	retries    map[wire.Key]int
	holdBack   bool // hold every orphan
	paused     bool // frames arrive and are not looked at

	epoch    uint64
	seq      uint64
	inbox    []*agentv1.SessionResponse
	parts    wire.Assembler
	statuses uint64
	synced   int
	upserts  int // whole ones received
	goodbye  string
	finished map[string]bool // UIDs whose delete was carried out and reported
	// foreign are requested deletes of objects that it never had, while it holds
	// others of those names: there is nothing to do, which it reports.
	foreign map[wire.Key]string
	about   map[uint64]string // UIDs of the statuses that were sent, by status_seq
	faults  []string
}

func newAgent() *agent {
	return &agent{
		holds: map[wire.Key]*holding{}, storeEpoch: "store-1", hubEpoch: hubEpoch,
		rejects: map[wire.Key]bool{}, retries: map[wire.Key]int{}, finished: map[string]bool{},
		foreign: map[wire.Key]string{}, about: map[uint64]string{},
	}
}

func (a *agent) faultf(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

func (a *agent) entries() []wire.Entry {
	entries := make([]wire.Entry, 0, len(a.holds))
	for key, h := range a.holds {
		rev := h.rev
		if h.deleting {
			rev.Digest = wire.DeletingDigest(rev.UID)
		}
		entries = append(entries, wire.Entry{Key: key, Revision: rev})
	}
	slices.SortFunc(entries, func(a, b wire.Entry) int { return strings.Compare(a.Key.Name, b.Key.Name) })
	return entries
}

func (a *agent) resume() *agentv1.ResumeState {
	entries := a.entries()
	root := wire.Summarize(entries).Root()
	return &agentv1.ResumeState{
		StoreEpoch: a.storeEpoch, HubEpoch: a.hubEpoch, DesiredRoot: root[:], DesiredCount: uint32(len(entries)),
		HighWater: a.mark.Proto(),
	}
}

// hello begins a session.
func (a *agent) hello() *agentv1.Hello {
	a.seq, a.inbox, a.parts, a.synced, a.goodbye = 0, nil, wire.Assembler{}, 0, ""
	return &agentv1.Hello{ProtocolMin: 1, ProtocolMax: 1, Resume: a.resume(), Window: a.window}
}

func (a *agent) noteMark(m *agentv1.HighWater) {
	if mark := wire.HighWaterOf(m); mark.ResourceVersion > a.mark.ResourceVersion {
		a.mark = mark
	}
}

// take looks at one message and returns what the agent says to it.
func (a *agent) take(m *agentv1.SessionResponse) []*agentv1.SessionRequest {
	if m.GetSeq() != a.seq+1 {
		a.faultf("seq %d after %d", m.GetSeq(), a.seq)
	}
	a.seq = m.GetSeq()
	switch m := m.GetMessage().(type) {
	case *agentv1.SessionResponse_Welcome:
		a.epoch, a.hubEpoch = m.Welcome.GetSessionEpoch(), m.Welcome.GetHubEpoch()
		a.noteMark(m.Welcome.GetHighWater())
		if m.Welcome.GetSyncMode() == agentv1.SyncMode_SYNC_MODE_IN_SYNC {
			a.synced++
		}
	case *agentv1.SessionResponse_InventoryRequest:
		return []*agentv1.SessionRequest{{Message: &agentv1.SessionRequest_Inventory{Inventory: a.inventory(m.InventoryRequest)}}}
	case *agentv1.SessionResponse_Delta:
		requests := []*agentv1.SessionRequest{{Message: &agentv1.SessionRequest_Ack{Ack: a.delta(m.Delta)}}}
		return append(requests, a.reportForeign()...)
	case *agentv1.SessionResponse_StatusAck:
		a.statusAck(m.StatusAck)
	case *agentv1.SessionResponse_Heartbeat:
		a.noteMark(m.Heartbeat.GetHighWater())
	case *agentv1.SessionResponse_Goodbye:
		a.goodbye = m.Goodbye.GetReason()
	}
	return nil
}

func (a *agent) inventory(r *agentv1.InventoryRequest) *agentv1.InventoryReply {
	reply := &agentv1.InventoryReply{Last: true}
	if len(r.GetBuckets()) == 0 {
		for i, d := range wire.Summarize(a.entries()) {
			if !d.IsZero() {
				reply.Buckets = append(reply.Buckets, &agentv1.Bucket{Index: uint32(i), Digest: d[:]})
			}
		}
		return reply
	}
	byBucket := map[uint32]*agentv1.Bucket{}
	for _, e := range a.entries() {
		index := uint32(e.Key.Bucket())
		if !slices.Contains(r.GetBuckets(), index) {
			continue
		}
		if byBucket[index] == nil {
			byBucket[index] = &agentv1.Bucket{Index: index}
			reply.Buckets = append(reply.Buckets, byBucket[index])
		}
		byBucket[index].Entries = append(byBucket[index].Entries, wire.EntryProto(e))
	}
	return reply
}

func (a *agent) delta(d *agentv1.Delta) *agentv1.Ack {
	a.noteMark(d.GetHighWater())
	ack := &agentv1.Ack{ProcessedSeq: a.seq}
	seen := map[wire.Key]bool{}
	for _, change := range d.GetChanges() {
		key := wire.KeyOf(change.GetKey())
		if seen[key] {
			a.faultf("%s twice in one Delta", key)
		}
		seen[key] = true
		rev, _ := wire.RevisionOf(change.GetRevision())
		var code agentv1.AckCode
		switch action := change.GetAction().(type) {
		case *agentv1.ObjectChange_Upsert:
			code = a.upsert(key, rev, action.Upsert)
		case *agentv1.ObjectChange_Delete:
			code = a.remove(key, rev, action.Delete)
		}
		if code != agentv1.AckCode_ACK_CODE_UNSPECIFIED {
			o := &agentv1.ObjectAck{Key: change.GetKey(), Revision: change.GetRevision(), Code: code}
			switch code { //nolint:exhaustive // the others have no error
			case agentv1.AckCode_ACK_CODE_RETRY:
				o.Error = &agentv1.ErrorInfo{Reason: "INTERNAL", Message: "it cannot be stored"}
			case agentv1.AckCode_ACK_CODE_REJECTED:
				o.Error = &agentv1.ErrorInfo{Reason: "UNDECODABLE", Message: "it cannot be decoded"}
				if change.GetDelete() != nil {
					o.Error = &agentv1.ErrorInfo{Reason: "UID_MISMATCH", Message: "another object of this name is held"}
				}
			}
			ack.Objects = append(ack.Objects, o)
		}
	}
	if d.GetSyncComplete() {
		a.synced++
	}
	return ack
}

func (a *agent) upsert(key wire.Key, rev wire.Revision, u *agentv1.Upsert) agentv1.AckCode {
	whole, done, err := a.parts.Add(wire.Part{
		Key: key, Revision: rev, Encoding: int32(u.GetEncoding()), Size: u.GetUncompressedSize(),
		Index: u.GetPart(), Last: u.GetLastPart(), Bytes: u.GetObjectJson(),
	})
	if err != nil {
		a.faultf("part %d of %s: %v", u.GetPart(), key, err)
		return agentv1.AckCode_ACK_CODE_RETRY
	}
	if !done {
		return agentv1.AckCode_ACK_CODE_UNSPECIFIED
	}
	if err := wire.Verify(rev, whole); err != nil {
		a.faultf("%s: %v", key, err)
	}
	a.upserts++
	if a.retries[key] > 0 {
		a.retries[key]--
		return agentv1.AckCode_ACK_CODE_RETRY
	}
	if a.rejects[key] {
		return agentv1.AckCode_ACK_CODE_REJECTED
	}
	if h := a.holds[key]; h != nil && h.rev.UID == rev.UID && h.deleting {
		a.faultf("%s comes back from its delete", key)
	}
	if a.finished[rev.UID] {
		a.faultf("%s %s is resurrected", key, rev.UID)
	}
	a.holds[key] = &holding{rev: rev}
	return agentv1.AckCode_ACK_CODE_STORED
}

func (a *agent) remove(key wire.Key, rev wire.Revision, d *agentv1.Delete) agentv1.AckCode {
	h := a.holds[key]
	if d.GetReason() == agentv1.DeleteReason_DELETE_REASON_ORPHAN {
		if h == nil {
			return agentv1.AckCode_ACK_CODE_STORED
		}
		if h.rev.UID != rev.UID {
			return agentv1.AckCode_ACK_CODE_REJECTED
		}
		h.orphaned, h.held = true, a.holdBack
		if h.held {
			return agentv1.AckCode_ACK_CODE_HELD
		}
		return agentv1.AckCode_ACK_CODE_STORED
	}
	if h != nil && h.rev.UID != rev.UID {
		a.foreign[key] = rev.UID
		return agentv1.AckCode_ACK_CODE_REJECTED
	}
	a.holds[key] = &holding{rev: rev, deleting: true, finalized: h != nil && h.finalized}
	return agentv1.AckCode_ACK_CODE_STORED
}

func (a *agent) statusAck(ack *agentv1.StatusAck) {
	for _, r := range ack.GetResults() {
		key, uid := wire.KeyOf(r.GetKey()), a.about[r.GetStatusSeq()]
		done := r.GetCode() == agentv1.StatusCode_STATUS_CODE_PERSISTED || r.GetCode() == agentv1.StatusCode_STATUS_CODE_STALE_UID
		if done && a.foreign[key] == uid {
			delete(a.foreign, key)
		}
		h := a.holds[key]
		if h == nil || !h.finalized || h.rev.UID != uid {
			continue
		}
		switch r.GetCode() {
		case agentv1.StatusCode_STATUS_CODE_PERSISTED, agentv1.StatusCode_STATUS_CODE_STALE_UID:
			delete(a.holds, key)
			a.finished[h.rev.UID] = true
		default:
			h.finalized = false
		}
	}
}

// reportForeign says of each requested delete of an object that it never had
// that nothing of it is left.
func (a *agent) reportForeign() []*agentv1.SessionRequest {
	var requests []*agentv1.SessionRequest
	for _, key := range slices.SortedFunc(maps.Keys(a.foreign), func(a, b wire.Key) int { return strings.Compare(a.Name, b.Name) }) {
		request := a.status(key, "", false)
		item := request.GetStatus().GetItems()[0]
		item.Uid, item.Finalized, item.ObservedGeneration, item.ObservedDigest = a.foreign[key], true, 0, nil
		a.about[item.GetStatusSeq()] = item.GetUid()
		requests = append(requests, request)
	}
	return requests
}

// status is a status of one key, or the news that its delete is done.
func (a *agent) status(key wire.Key, text string, finalized bool) *agentv1.SessionRequest {
	a.statuses++
	item := &agentv1.ObjectStatus{
		Key: key.Proto(), StatusSeq: a.statuses, StatusJson: []byte(text), UncompressedSize: uint64(len(text)),
		Encoding: agentv1.Encoding_ENCODING_IDENTITY, LastPart: true, Finalized: finalized,
	}
	if h := a.holds[key]; h != nil {
		item.Uid, item.ObservedGeneration = h.rev.UID, h.rev.Generation
		item.ObservedDigest = h.rev.Digest[:]
		h.finalized = h.finalized || finalized
		a.about[item.GetStatusSeq()] = item.GetUid()
	}
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Status{
		Status: &agentv1.StatusBatch{SessionEpoch: a.epoch, Items: []*agentv1.ObjectStatus{item}},
	}}
}
