// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"sync"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// maxSuspects bounds what is remembered of statuses from the future.
const maxSuspects = 10_000

// statusChange writes a reported status.
type statusChange struct {
	Status
	canonical []byte // of JSON, made once
	digest    wire.Digest
	fixed     bool // what the first patch left over has been taken out
}

func (c *statusChange) gone() Result {
	return Result{Outcome: StaleUID, Message: "the hub has no object of that UID any more"}
}

func (c *statusChange) look(w *StatusWriter, j *job, t *target) step {
	if len(c.JSON) > wire.MaxStatus {
		message := fmt.Sprintf("the status has %d bytes, at most %d are taken", len(c.JSON), wire.MaxStatus)
		return settle(Result{Outcome: Invalid, Reason: reason.StatusTooLarge, Message: message})
	}
	if err := c.decode(); err != nil {
		return settle(Result{Outcome: Invalid, Reason: reason.Undecodable, Message: wire.Truncate(err.Error())})
	}
	if c.ObservedGeneration > t.generation {
		if !t.live {
			return step{read: true}
		}
		return settle(w.suspects.verdict(j, c.ObservedGeneration, t.generation))
	}
	if t.undelivered && t.raw == nil {
		return step{read: true} // to see the condition that is there
	}
	if t.status != c.digest || c.delivers(t) && t.undelivered && hasDelivered(t.raw) {
		return step{}
	}
	return settle(Result{Outcome: Persisted})
}

// delivers tells whether the status shows that what is wanted now was delivered.
func (c *statusChange) delivers(t *target) bool { return c.ObservedDigest == t.digest }

// decode brings the status into the form that the apiserver would write.
func (c *statusChange) decode() (err error) {
	if c.canonical != nil {
		return nil
	}
	if c.canonical, err = wire.CanonicalStatus(c.JSON); err == nil && string(c.canonical) != "{}" {
		c.digest = sha256.Sum256(c.canonical)
	}
	return err
}

func (c *statusChange) patch(_ *job, t *target) (string, map[string]any, error) {
	if t.raw == nil {
		status, err := withoutAbsent(c.canonical)
		return "status", map[string]any{"status": status}, err
	}
	stored, err := storedStatus(t.raw)
	if err != nil {
		return "", nil, err
	}
	wanted, err := decodeObject(c.canonical)
	if err != nil {
		return "", nil, err
	}
	if condition := deliveredOf(stored); condition != nil && !c.delivers(t) {
		wanted = withCondition(wanted, condition)
	}
	return "status", map[string]any{"status": mergePatch(stored, wanted)}, nil
}

// wrote: if what is stored now is not what was sent, fields of the old status
// may be left that no patch without the old status could name.
func (c *statusChange) wrote(_ *job, answer *target) bool {
	if answer.status == c.digest || c.fixed {
		return false
	}
	c.fixed = true
	stored, err := storedStatus(answer.raw)
	if err != nil {
		return false
	}
	wanted, err := decodeObject(c.canonical)
	return err == nil && leavesOver(stored, wanted)
}

// withoutAbsent is the patch to a status that was not read: what a ManifestWork's
// status is known to have, and this one has not, has to go. Only the two upper
// levels are decoded.
func withoutAbsent(canonical []byte) (map[string]any, error) {
	var wanted map[string]json.RawMessage
	if err := json.Unmarshal(canonical, &wanted); err != nil {
		return nil, err
	}
	patch := map[string]any{"conditions": nil, "resourceStatus": nil}
	for key, value := range wanted {
		patch[key] = value
	}
	var resources map[string]json.RawMessage
	if raw, ok := wanted["resourceStatus"]; ok && json.Unmarshal(raw, &resources) == nil && resources != nil {
		nested := map[string]any{"manifests": nil}
		for key, value := range resources {
			nested[key] = value
		}
		patch["resourceStatus"] = nested
	}
	return patch, nil
}

// mergePatch is the JSON merge patch (RFC 7396) that makes wanted of stored.
func mergePatch(stored, wanted map[string]any) map[string]any {
	patch := maps.Clone(wanted)
	if patch == nil {
		patch = map[string]any{}
	}
	for key, old := range stored {
		value, ok := wanted[key]
		if !ok {
			patch[key] = nil
			continue
		}
		oldFields, wasObject := old.(map[string]any)
		fields, isObject := value.(map[string]any)
		if wasObject && isObject {
			patch[key] = mergePatch(oldFields, fields)
		}
	}
	return patch
}

// leavesOver tells whether stored has fields, outside of lists, that wanted has not.
func leavesOver(stored, wanted map[string]any) bool {
	for key, have := range stored {
		value, ok := wanted[key]
		if !ok {
			return true
		}
		haveFields, isObject := have.(map[string]any)
		fields, shouldBe := value.(map[string]any)
		if isObject && shouldBe && leavesOver(haveFields, fields) {
			return true
		}
	}
	return false
}

func decodeObject(raw []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	fields := map[string]any{}
	if err := decoder.Decode(&fields); err != nil {
		return nil, err
	}
	return fields, nil
}

// storedStatus is the status of an object as the apiserver has it.
func storedStatus(object []byte) (map[string]any, error) {
	var o struct {
		Status json.RawMessage `json:"status"`
	}
	if err := json.Unmarshal(object, &o); err != nil {
		return nil, fmt.Errorf("reading the stored status: %w", err)
	}
	if len(o.Status) == 0 || string(o.Status) == "null" {
		return map[string]any{}, nil
	}
	return decodeObject(o.Status)
}

// suspects remembers which statuses were said to be of a generation that the hub
// has not, so that the second time is the last.
type suspects struct {
	mu   sync.Mutex
	seen map[suspect]struct{}
}

type suspect struct {
	cluster    string
	key        wire.Key
	uid        string
	generation int64
}

func (s *suspects) verdict(j *job, observed, known int64) Result {
	message := fmt.Sprintf("the status is of generation %d, the hub has %d", observed, known)
	key := suspect{j.grant.Cluster(), j.key, j.uid, observed}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.seen[key]; again {
		delete(s.seen, key)
		return Result{Outcome: Invalid, Reason: reason.InvalidArgument, Message: message}
	}
	if s.seen == nil || len(s.seen) >= maxSuspects {
		s.seen = map[suspect]struct{}{}
	}
	s.seen[key] = struct{}{}
	return Result{Outcome: Retry, Reason: reason.InvalidArgument, Message: message, RetryAfter: retryAfter}
}
