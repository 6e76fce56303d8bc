// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	// What one session may have waiting for the apiserver. Beyond it the agent
	// is asked to keep its statuses for a moment.
	maxStatusKeys  = 20_000
	maxStatusBytes = 4 << 20
	maxStatusQueue = 8 // for one key, of different UIDs
	statusBusy     = time.Second

	// maxResults is how many answers an agent may leave unread.
	maxResults = 16_384
	// resultsTarget is about how many bytes of answers share one frame.
	resultsTarget  = 32 << 10
	resultOverhead = 64
)

// statuses is what is under way upwards.
type statuses struct {
	results []*agentv1.StatusResult
	pending map[wire.Key]*pendingStatus
	bytes   int

	parts wire.Assembler
	first *label // of what is in assembly
	// broken is the status of which a part was wrong: answered once.
	broken *label
}

// label is what all parts of one status have in common beside what
// wire.Assembler compares.
type label struct {
	key       wire.Key
	seq       uint64
	finalized bool
}

func labelOf(item *agentv1.ObjectStatus) *label {
	return &label{key: wire.KeyOf(item.GetKey()), seq: item.GetStatusSeq(), finalized: item.GetFinalized()}
}

// pendingStatus is one key's: what was handed on and is not answered. Of what
// waits for the apiserver, the writer drops all but the newest by itself, so
// that an older one which has not been begun is never written.
type pendingStatus struct {
	under []PersistStatus // in order of coming
	gone  bool            // the index has seen the object go
}

func (c *Core) statuses() *statuses {
	if c.status == nil {
		c.status = &statuses{}
	}
	return c.status
}

// tidyStatus lets go of the state when nothing is under way.
func (c *Core) tidyStatus() {
	if s := c.status; s != nil && len(s.results) == 0 && len(s.pending) == 0 && s.first == nil && s.broken == nil {
		c.status = nil
	}
}

func (c *Core) statusBatch(batch *agentv1.StatusBatch) {
	if batch.GetSessionEpoch() != c.cfg.Epoch {
		c.close(reason.Fenced, "a status of another session's epoch", 0)
		return
	}
	for _, item := range batch.GetItems() {
		c.statusItem(item)
	}
	if c.status != nil && len(c.status.results) > maxResults {
		c.close(reason.SlowConsumer, "the agent does not read the answers to its statuses", 0)
	}
	c.tidyStatus()
}

func (c *Core) statusItem(item *agentv1.ObjectStatus) {
	s := c.statuses()
	if why, message := c.invalid(item); why != "" {
		c.answer(item, agentv1.StatusCode_STATUS_CODE_INVALID, why, message)
		return
	}
	encoded, done := c.assemble(item)
	if !done {
		return
	}
	digest, _ := wire.DigestOf(item.GetObservedDigest())
	c.persist(s, PersistStatus{
		Key: wire.KeyOf(item.GetKey()), UID: item.GetUid(),
		ObservedGeneration: item.GetObservedGeneration(), ObservedDigest: digest,
		Seq: item.GetStatusSeq(), Encoding: item.GetEncoding(), Size: item.GetUncompressedSize(),
		Encoded: encoded, Finalized: item.GetFinalized(),
	}, item)
}

func (c *Core) invalid(item *agentv1.ObjectStatus) (why, message string) {
	key := wire.KeyOf(item.GetKey())
	switch {
	case key.Kind != wire.KindWork && key.Kind != wire.KindAddon, key.Name == "", len(key.Name) > maxName:
		return reason.InvalidArgument, "its key is not one of an object that has a status"
	case item.GetUid() == "", len(item.GetUid()) > maxUID:
		return reason.InvalidArgument, "it has no proper uid"
	case item.GetStatusSeq() == 0:
		return reason.InvalidArgument, "it has no status_seq"
	case item.GetUncompressedSize() > uint64(c.cfg.Hub.Limits.maxStatus()):
		return reason.StatusTooLarge, "it is larger than the hub's limit"
	}
	return "", ""
}

// assemble puts parts together; a status in one part is not copied.
func (c *Core) assemble(item *agentv1.ObjectStatus) (encoded []byte, done bool) {
	s, limit := c.status, uint64(c.cfg.Hub.Limits.maxStatus())
	if item.GetPart() == 0 && item.GetLastPart() && uint64(len(item.GetStatusJson())) <= limit {
		s.parts, s.first, s.broken = wire.Assembler{}, nil, nil
		return item.GetStatusJson(), true
	}
	if item.GetPart() == 0 {
		s.first, s.broken = labelOf(item), nil
	}
	if s.broken.of(item) {
		return nil, false
	}
	err := wire.ErrPartOrder
	if s.first.of(item) {
		s.parts.Limit = limit
		encoded, done, err = s.parts.Add(partOf(item))
	}
	if err != nil {
		s.parts, s.first, s.broken = wire.Assembler{}, nil, labelOf(item)
		code, why := agentv1.StatusCode_STATUS_CODE_RETRY, reason.InvalidArgument
		if errors.Is(err, wire.ErrPartSize) {
			code, why = agentv1.StatusCode_STATUS_CODE_INVALID, reason.StatusTooLarge
		}
		c.answer(item, code, why, err.Error())
		return nil, false
	}
	if done {
		s.first = nil
	}
	return encoded, done
}

func (l *label) of(item *agentv1.ObjectStatus) bool { return l != nil && *l == *labelOf(item) }

func partOf(item *agentv1.ObjectStatus) wire.Part {
	digest, _ := wire.DigestOf(item.GetObservedDigest())
	return wire.Part{
		Key:      wire.KeyOf(item.GetKey()),
		Revision: wire.Revision{UID: item.GetUid(), Generation: item.GetObservedGeneration(), Digest: digest},
		Encoding: int32(item.GetEncoding()), Size: item.GetUncompressedSize(),
		Index: item.GetPart(), Last: item.GetLastPart(), Bytes: item.GetStatusJson(),
	}
}

// persist hands a status on.
func (c *Core) persist(s *statuses, p PersistStatus, item *agentv1.ObjectStatus) {
	waiting := s.pending[p.Key]
	if waiting != nil && waiting.supersedes(p) {
		c.answer(item, agentv1.StatusCode_STATUS_CODE_SUPERSEDED, "", "")
		return
	}
	full := s.bytes+len(p.Encoded) > maxStatusBytes && !p.Finalized
	if full || waiting == nil && len(s.pending) >= maxStatusKeys || waiting != nil && len(waiting.under) >= maxStatusQueue {
		c.answer(item, agentv1.StatusCode_STATUS_CODE_RETRY, reason.HubOverloaded, "too many statuses are waiting to be stored")
		return
	}
	if waiting == nil {
		if s.pending == nil {
			s.pending = make(map[wire.Key]*pendingStatus)
		}
		waiting = &pendingStatus{}
		s.pending[p.Key] = waiting
	}
	s.bytes += len(p.Encoded)
	waiting.under = append(waiting.under, p)
	c.effect(p)
}

// supersedes tells whether something as new is under way for that object. What
// was stored before is not compared: the frames of a session come in order, so
// only an agent that lies about itself could say something older later, and a
// session in sync is to hold nothing for each key.
func (w *pendingStatus) supersedes(p PersistStatus) bool {
	newer := func(o PersistStatus) bool {
		return o.UID == p.UID && (p.Seq <= o.Seq && (o.Finalized || !p.Finalized) || o.Finalized && !p.Finalized)
	}
	return slices.ContainsFunc(w.under, newer)
}

// statusDone answers the agent.
func (c *Core) statusDone(in StatusDone) {
	if c.status == nil {
		return
	}
	s := c.status
	w := s.pending[in.Key]
	if w == nil {
		return
	}
	i := slices.IndexFunc(w.under, func(p PersistStatus) bool { return p.UID == in.UID && p.Seq == in.Seq })
	if i < 0 {
		return
	}
	done := w.under[i]
	s.bytes -= len(done.Encoded)
	c.result(in.Key, in.Seq, in.Code, in.Error, in.RetryAfter)
	if w.under = slices.Delete(w.under, i, i+1); len(w.under) == 0 {
		delete(s.pending, in.Key)
	}
	if len(s.pending) == 0 {
		s.pending = nil
	}
	if done.Finalized && (in.Code == agentv1.StatusCode_STATUS_CODE_PERSISTED || in.Code == agentv1.StatusCode_STATUS_CODE_STALE_UID) {
		c.concludeDelete(in.Key, in.UID, w.gone)
	}
	c.tidyStatus()
}

// concludeDelete notes that agent and hub are both done with an object, so that
// the index's mark, when it sees it go, means nothing more. gone tells that the
// mark came already.
func (c *Core) concludeDelete(key wire.Key, uid string, gone bool) {
	obj, ok := c.src.Get(key)
	if ok && (obj.UID != uid || !obj.Deleting) {
		return // another object by now
	}
	if e := c.entries[key]; e != nil {
		gone = gone || e.orphan != nil && e.orphan.entry.UID == uid || e.knownOrphan(uid)
		c.conclude(e, uid)
	}
	if ok || !gone {
		c.entryOf(key).verdict = &verdict{kind: finished, rev: wire.Revision{UID: uid}}
	}
}

// finalizing is what is being stored for the key, if that is, or will be, the
// news that the agent has removed this object.
func (c *Core) finalizing(key wire.Key, uid string) *pendingStatus {
	if c.status == nil || c.status.pending[key] == nil {
		return nil
	}
	w := c.status.pending[key]
	final := func(p PersistStatus) bool { return p.Finalized && p.UID == uid }
	if slices.ContainsFunc(w.under, final) {
		return w
	}
	return nil
}

func (c *Core) answer(item *agentv1.ObjectStatus, code agentv1.StatusCode, why, message string) {
	var info *agentv1.ErrorInfo
	if why != "" {
		info = &agentv1.ErrorInfo{Reason: why, Message: message}
	}
	var after time.Duration
	if code == agentv1.StatusCode_STATUS_CODE_RETRY {
		after = statusBusy
	}
	key := wire.KeyOf(item.GetKey())
	key.Name = wire.Prefix(key.Name, maxName)
	c.result(key, item.GetStatusSeq(), code, info, after)
}

func (c *Core) result(key wire.Key, seq uint64, code agentv1.StatusCode, info *agentv1.ErrorInfo, after time.Duration) {
	r := &agentv1.StatusResult{Key: key.Proto(), StatusSeq: seq, Code: code}
	if info != nil {
		r.Error = bounded(info)
	}
	if after > 0 {
		r.RetryAfter = durationpb.New(after)
	}
	s := c.statuses()
	s.results = append(s.results, r)
}

// statusAck is the next frame of answers, or nil.
func (c *Core) statusAck() *agentv1.SessionResponse {
	s := c.status
	if s == nil || len(s.results) == 0 {
		return nil
	}
	n, bytes := 0, 0
	for n < len(s.results) && bytes < resultsTarget {
		r := s.results[n]
		bytes += resultOverhead + len(r.GetKey().GetName()) + len(r.GetError().GetMessage())
		for _, path := range r.GetError().GetFieldPaths() {
			bytes += len(path)
		}
		n++
	}
	ack := &agentv1.StatusAck{Results: s.results[:n:n]}
	if s.results = s.results[n:]; len(s.results) == 0 {
		s.results = nil
		c.tidyStatus()
	}
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_StatusAck{StatusAck: ack}}
}
