// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

// Status is what became of one object, in the words of whoever applies it.
type Status struct {
	Key                wire.Key
	UID                string
	ObservedGeneration int64
	ObservedDigest     wire.Digest
	// JSON is wire.CanonicalStatus of the status. Link owns it from now on.
	JSON []byte
	// Finalized: a requested delete is done, nothing of the object is left.
	Finalized bool
}

// retryStatus is how long a status waits when the hub names no time.
const retryStatus = 2 * time.Second

// statuses keeps, for each key, the newest status that the hub has not
// persisted, and a hash of the last one that it has. It outlives sessions. Safe
// for concurrent use.
type statuses struct {
	mu        sync.Mutex
	seq       uint64
	pending   map[wire.Key]*pendingStatus
	finals    map[finished]*pendingStatus // finalized: never overtaken by a status
	under     map[uint64]finished         // those of them that are sent, by seq
	persisted map[wire.Key]persistedStatus
}

type pendingStatus struct {
	Status
	digest    wire.Digest
	seq       uint64 // 0: changed since it was sent
	sent      bool   // in this session, and not answered
	parked    bool   // refused by this session's hub; again in the next one
	notBefore time.Time
}

type persistedStatus struct {
	uid        string
	generation int64
	digest     wire.Digest
}

func newStatuses() *statuses {
	return &statuses{
		pending: map[wire.Key]*pendingStatus{}, finals: map[finished]*pendingStatus{}, under: map[uint64]finished{},
		persisted: map[wire.Key]persistedStatus{},
	}
}

// report takes a newer status; false means that there is nothing to send.
func (s *statuses) report(status Status, digest wire.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := &pendingStatus{Status: status, digest: digest}
	if status.Finalized {
		return s.reportFinal(next)
	}
	delete(s.finals, finished{status.Key, status.UID}) // the object is wanted again
	old := s.pending[status.Key]
	switch {
	case old != nil && old.same(next):
		return false
	case (old == nil || !old.sent) && s.persisted[status.Key] == next.asPersisted():
		delete(s.pending, status.Key)
		return false
	}
	s.pending[status.Key] = next
	return true
}

func (s *statuses) reportFinal(next *pendingStatus) bool {
	this := finished{next.Key, next.UID}
	if s.finals[this] != nil {
		return false
	}
	if old := s.pending[next.Key]; old != nil && old.UID == next.UID {
		delete(s.pending, next.Key)
	}
	s.finals[this] = next
	return true
}

// wanted drops what says that an object is gone, since the hub has sent it again
// (after a restore). The same object may be deleted later: that delete would be
// finished by the news of this one.
func (s *statuses) wanted(key wire.Key, uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.finals, finished{key, uid})
}

func (p *pendingStatus) same(o *pendingStatus) bool { return p.asPersisted() == o.asPersisted() }

func (p *pendingStatus) asPersisted() persistedStatus {
	return persistedStatus{uid: p.UID, generation: p.ObservedGeneration, digest: p.digest}
}

// begin starts a session: whatever was under way is to be sent again. With
// forget, nothing counts as persisted.
func (s *statuses) begin(forget bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.all() {
		p.sent, p.parked, p.notBefore = false, false, time.Time{}
	}
	clear(s.under)
	if forget {
		clear(s.persisted)
	}
}

// take returns statuses to send now, whose JSON adds up to about statusBudget or
// is one bigger status, and marks them as sent. With finalsOnly it returns only
// finalized ones. wait is how long until a held back one may be sent; 0 if none
// waits.
func (s *statuses) take(now time.Time, finalsOnly bool) (items []*agentv1.ObjectStatus, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken, budget := map[wire.Key]bool{}, statusBudget
	for p := range s.all() {
		if p.sent || p.parked || taken[p.Key] || finalsOnly && !p.Finalized {
			continue
		}
		if left := p.notBefore.Sub(now); left > 0 {
			wait = shorter(wait, left)
			continue
		}
		size := len(p.JSON) + statusOverhead
		if len(items) > 0 && size > budget {
			return items, 0
		}
		taken[p.Key] = true
		budget -= size
		s.send(p)
		items = append(items, p.proto())
		if budget <= 0 {
			return items, 0
		}
	}
	return items, wait
}

// all is everything that waits, what is finalized first.
func (s *statuses) all() iter.Seq[*pendingStatus] {
	return func(yield func(*pendingStatus) bool) {
		for _, p := range s.finals {
			if !yield(p) {
				return
			}
		}
		for _, p := range s.pending {
			if !yield(p) {
				return
			}
		}
	}
}

func (s *statuses) send(p *pendingStatus) {
	s.seq++
	p.seq, p.sent = s.seq, true
	if p.Finalized {
		s.under[p.seq] = finished{p.Key, p.UID}
	}
}

// statusOverhead is a generous size of an ObjectStatus without its JSON.
const statusOverhead = 512

func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}

func (p *pendingStatus) proto() *agentv1.ObjectStatus {
	digest := p.ObservedDigest
	return &agentv1.ObjectStatus{
		Key: p.Key.Proto(), Uid: p.UID, ObservedGeneration: p.ObservedGeneration, ObservedDigest: digest[:],
		StatusSeq: p.seq, StatusJson: p.JSON, Finalized: p.Finalized,
		Encoding: agentv1.Encoding_ENCODING_IDENTITY, UncompressedSize: uint64(len(p.JSON)), LastPart: true,
	}
}

// finished is a finalized object that the hub is done with.
type finished struct {
	key wire.Key
	uid string
}

// answer takes the hub's result for one status. done is set when a finalized
// object may be forgotten.
func (s *statuses) answer(result *agentv1.StatusResult, now time.Time) (done *finished) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, seq := wire.KeyOf(result.GetKey()), result.GetStatusSeq()
	if this, ok := s.under[seq]; ok && this.key == key {
		delete(s.under, seq)
		if p := s.finals[this]; p != nil && p.seq == seq {
			return s.answerFinal(p, result, now)
		}
		return nil // the object is wanted again
	}
	p := s.pending[key]
	if p == nil || p.seq != seq || !p.sent {
		return nil // a newer one took its place; that one gets its own answer
	}
	switch result.GetCode() {
	case agentv1.StatusCode_STATUS_CODE_PERSISTED:
		s.persisted[key] = p.asPersisted()
		delete(s.pending, key)
	case agentv1.StatusCode_STATUS_CODE_SUPERSEDED:
		delete(s.pending, key)
	case agentv1.StatusCode_STATUS_CODE_INVALID, agentv1.StatusCode_STATUS_CODE_STALE_UID: // a restore may bring that object back
		p.sent, p.parked = false, true
	default: // RETRY, and codes of a later protocol
		p.again(result, now)
	}
	return nil
}

func (s *statuses) answerFinal(p *pendingStatus, result *agentv1.StatusResult, now time.Time) *finished {
	switch result.GetCode() {
	case agentv1.StatusCode_STATUS_CODE_PERSISTED, agentv1.StatusCode_STATUS_CODE_STALE_UID:
		delete(s.finals, finished{p.Key, p.UID})
		if s.persisted[p.Key].uid == p.UID {
			delete(s.persisted, p.Key)
		}
		return &finished{key: p.Key, uid: p.UID}
	case agentv1.StatusCode_STATUS_CODE_INVALID:
		p.sent, p.parked = false, true
	default:
		p.again(result, now)
	}
	return nil
}

func (p *pendingStatus) again(result *agentv1.StatusResult, now time.Time) {
	wait := result.GetRetryAfter().AsDuration()
	if wait <= 0 {
		wait = retryStatus
	}
	p.sent, p.notBefore = false, now.Add(min(wait, capRetryInfo))
}

// reportAgain puts a finalized object back whose record could not be dropped.
func (s *statuses) reportAgain(f finished, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finals[f] == nil {
		s.finals[f] = &pendingStatus{Status: Status{Key: f.key, UID: f.uid, Finalized: true}, notBefore: now.Add(retryStatus)}
	}
}

// forget drops what is kept about a key that the agent does not hold any more.
func (s *statuses) forget(key wire.Key, uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.persisted[key].uid == uid {
		delete(s.persisted, key)
	}
	if p := s.pending[key]; p != nil && p.UID == uid {
		delete(s.pending, key)
	}
}

// entries are the statuses that the hub persisted, for status_root.
func (s *statuses) entries() []wire.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := make([]wire.Entry, 0, len(s.persisted))
	for key, p := range s.persisted {
		if !p.digest.IsZero() {
			entries = append(entries, wire.Entry{Key: key, Revision: wire.Revision{UID: p.uid, Digest: p.digest}})
		}
	}
	return entries
}

// unanswered counts what the hub has not persisted, for metrics.
func (s *statuses) unanswered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) + len(s.finals)
}

// prune drops persisted hashes of keys that are not held any more.
func (s *statuses) prune(held []wire.Entry) {
	keep := make(map[wire.Key]bool, len(held))
	for i := range held {
		keep[held[i].Key] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.persisted, func(key wire.Key, _ persistedStatus) bool { return !keep[key] })
}

// cutStatus turns a status that does not fit into one frame into parts.
func cutStatus(item *agentv1.ObjectStatus, packed []byte, compressed bool) []*agentv1.ObjectStatus {
	encoding := agentv1.Encoding_ENCODING_IDENTITY
	if compressed {
		encoding = agentv1.Encoding_ENCODING_ZSTD
	}
	pieces := wire.Cut(packed, wire.MaxPart)
	parts := make([]*agentv1.ObjectStatus, 0, len(pieces))
	for i, piece := range pieces {
		parts = append(parts, &agentv1.ObjectStatus{
			Key: item.GetKey(), Uid: item.GetUid(), ObservedGeneration: item.GetObservedGeneration(), ObservedDigest: item.GetObservedDigest(),
			StatusSeq: item.GetStatusSeq(), StatusJson: piece, Finalized: item.GetFinalized(),
			Encoding: encoding, UncompressedSize: item.GetUncompressedSize(), Part: uint32(i), LastPart: i == len(pieces)-1,
		})
	}
	return slices.Clip(parts)
}
