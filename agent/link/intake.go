// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// maxAsks is how often one session asks again for content that arrived damaged,
// before it says that this revision cannot be taken.
const maxAsks = 3

// intake works off one session's Deltas, one after the other, on one goroutine.
type intake struct {
	store    Store
	hub      Hub
	codec    *codec.Codec
	parallel int
	limit    uint64 // of one object
	log      *slog.Logger
	metrics  *Metrics
	// foreign is told of a requested delete of an object that the agent never
	// held, while another one of that name is held.
	foreign func(key wire.Key, uid string)
	// wanted is told of an object that was stored, and so is not to be deleted.
	wanted func(key wire.Key, uid string)
	// synced is told that the hub has sent all that it had, but for what failed.
	synced func(ctx context.Context, failed []wire.Key) error

	parts  wire.Assembler
	broken *wire.Entry // whose remaining parts are of no use

	mu     sync.Mutex
	asked  map[wire.Key]int      // how often its content was damaged
	failed map[wire.Key]struct{} // sent by the hub and not stored
}

func newIntake(cfg *Config, log *slog.Logger, limit uint64, foreign func(wire.Key, string)) *intake {
	if limit == 0 || limit > wire.MaxObject {
		limit = wire.MaxObject
	}
	return &intake{
		store: cfg.Store, hub: cfg.Hub, codec: cfg.Codec, parallel: cfg.StoreParallel, limit: limit, log: log, metrics: cfg.Metrics,
		foreign: foreign, wanted: func(wire.Key, string) {}, synced: cfg.Hub.Synced, parts: wire.Assembler{Limit: limit}, asked: map[wire.Key]int{}, failed: map[wire.Key]struct{}{},
	}
}

// job stores one object; it may run beside others.
type job func(ctx context.Context) *agentv1.ObjectAck

// delta works off one frame and returns what became of its objects, in their
// order; parts that are not the last have no answer.
func (in *intake) delta(ctx context.Context, delta *agentv1.Delta) ([]*agentv1.ObjectAck, error) {
	if mark := wire.HighWaterOf(delta.GetHighWater()); mark.ResourceVersion != 0 {
		in.hub.Marked(mark)
	}
	jobs, err := in.jobs(delta)
	if err != nil {
		return nil, err
	}
	acks := make([]*agentv1.ObjectAck, len(jobs))
	if len(jobs) == 1 || in.parallel == 1 {
		for i, do := range jobs {
			acks[i] = do(ctx)
		}
	} else {
		var group errgroup.Group
		group.SetLimit(in.parallel)
		for i, do := range jobs {
			group.Go(func() error {
				acks[i] = do(ctx)
				return nil
			})
		}
		_ = group.Wait() // jobs answer with acks, not errors
	}
	if over(ctx) {
		return nil, ctx.Err() // half of them may have failed by that alone
	}
	for _, ack := range acks {
		in.note(ack)
	}
	if delta.GetSyncComplete() {
		if err := in.synced(ctx, in.failedKeys()); err != nil {
			return nil, fmt.Errorf("ending the sync: %w", err)
		}
	}
	return acks, nil
}

// jobs reads a frame's changes in order. A key that comes twice would make the
// order of storing matter, which the protocol excludes.
func (in *intake) jobs(delta *agentv1.Delta) ([]job, error) {
	seen := make(map[wire.Key]bool, len(delta.GetChanges()))
	var jobs []job
	for _, change := range delta.GetChanges() {
		key := wire.KeyOf(change.GetKey())
		if seen[key] {
			return nil, ended(reason.ProtocolError, "the hub sent %s twice in one frame", key)
		}
		seen[key] = true
		if do := in.change(key, change); do != nil {
			jobs = append(jobs, do)
		}
	}
	return jobs, nil
}

// change returns what is to be done for one change; nil for nothing yet.
func (in *intake) change(key wire.Key, change *agentv1.ObjectChange) job {
	rev, ok := wire.RevisionOf(change.GetRevision())
	switch {
	case key.Kind != wire.KindWork && key != wire.ConfigKey():
		return answer(change, agentv1.AckCode_ACK_CODE_REJECTED, reason.Unsupported, "this agent does not take objects of kind %d", change.GetKey().GetKind())
	case key.Name == "" || change.GetRevision().GetUid() == "":
		return answer(change, agentv1.AckCode_ACK_CODE_REJECTED, reason.InvalidArgument, "an object needs a name and a UID")
	}
	switch action := change.GetAction().(type) {
	case *agentv1.ObjectChange_Upsert:
		if !ok {
			return answer(change, agentv1.AckCode_ACK_CODE_REJECTED, reason.InvalidArgument, "the digest has %d bytes", len(change.GetRevision().GetDigest()))
		}
		return in.upsert(key, rev, change, action.Upsert)
	case *agentv1.ObjectChange_Delete:
		return in.remove(key, rev, change, action.Delete)
	default:
		return answer(change, agentv1.AckCode_ACK_CODE_RETRY, reason.Unsupported, "this agent does not know what is to be done")
	}
}

// upsert adds a part; with the last one the object is whole.
func (in *intake) upsert(key wire.Key, rev wire.Revision, change *agentv1.ObjectChange, upsert *agentv1.Upsert) job {
	if upsert.GetPart() == 0 {
		in.broken = nil
	}
	if b := in.broken; b != nil && b.Key == key && b.Same(rev) {
		return nil // the rest of what was answered already
	}
	whole, done, err := in.parts.Add(wire.Part{
		Key: key, Revision: rev, Encoding: int32(upsert.GetEncoding()), Size: upsert.GetUncompressedSize(),
		Index: upsert.GetPart(), Last: upsert.GetLastPart(), Bytes: upsert.GetObjectJson(),
	})
	if err != nil {
		in.broken = &wire.Entry{Key: key, Revision: rev}
		if errors.Is(err, wire.ErrPartSize) {
			return answer(change, agentv1.AckCode_ACK_CODE_REJECTED, reason.ObjectTooLarge, "%v", err)
		}
		return in.askAgain(key, change, err)
	}
	if !done {
		return nil
	}
	return func(ctx context.Context) *agentv1.ObjectAck { return in.put(ctx, rev, change, whole) }
}

// put decodes, checks and stores one whole object.
func (in *intake) put(ctx context.Context, rev wire.Revision, change *agentv1.ObjectChange, whole []byte) *agentv1.ObjectAck {
	key, upsert, content := wire.KeyOf(change.GetKey()), change.GetUpsert(), whole
	switch upsert.GetEncoding() {
	case agentv1.Encoding_ENCODING_IDENTITY:
	case agentv1.Encoding_ENCODING_ZSTD:
		var err error
		content, err = in.codec.Decompress(whole, upsert.GetUncompressedSize())
		if errors.Is(err, codec.ErrSize) { // perhaps a bomb (T24): not again
			return newAck(change, agentv1.AckCode_ACK_CODE_REJECTED, reason.Undecodable, "%v", err)
		}
		if err != nil {
			return in.askAgain(key, change, err)(ctx)
		}
	default:
		return newAck(change, agentv1.AckCode_ACK_CODE_RETRY, reason.Unsupported, "this agent does not know encoding %d", upsert.GetEncoding())
	}
	if err := wire.Verify(rev, content); err != nil {
		return in.askAgain(key, change, err)(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := in.store.Put(ctx, key, rev, content)
	var rejected *Rejected
	switch {
	case errors.As(err, &rejected):
		ack := newAck(change, agentv1.AckCode_ACK_CODE_REJECTED, rejected.Reason, "%s", rejected.Message)
		ack.Error.FieldPaths = rejected.FieldPaths
		return ack
	case err != nil:
		return newAck(change, agentv1.AckCode_ACK_CODE_RETRY, reason.Internal, "storing it on the spoke: %v", err)
	}
	in.wanted(key, rev.UID)
	in.clear(key)
	return newAck(change, agentv1.AckCode_ACK_CODE_STORED, "", "")
}

// remove records a delete. Only the two reasons of the protocol count.
func (in *intake) remove(key wire.Key, rev wire.Revision, change *agentv1.ObjectChange, del *agentv1.Delete) job {
	rev.UID, rev.Generation = change.GetRevision().GetUid(), change.GetRevision().GetGeneration()
	d := Delete{Key: key, Revision: rev, Batch: del.GetBatchId()}
	switch del.GetReason() {
	case agentv1.DeleteReason_DELETE_REASON_REQUESTED:
	case agentv1.DeleteReason_DELETE_REASON_ORPHAN:
		d.Orphan = true
	default:
		return answer(change, agentv1.AckCode_ACK_CODE_RETRY, reason.Unsupported, "this agent does not delete for reason %d", del.GetReason())
	}
	return func(ctx context.Context) *agentv1.ObjectAck {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		verdict, err := in.store.Delete(ctx, d)
		if err != nil {
			return newAck(change, agentv1.AckCode_ACK_CODE_RETRY, reason.Internal, "storing the delete on the spoke: %v", err)
		}
		in.clear(key)
		switch verdict {
		case DeleteHeld:
			return newAck(change, agentv1.AckCode_ACK_CODE_HELD, "", "")
		case DeleteStored:
		case DeleteOtherUID:
			if !d.Orphan {
				in.foreign(key, d.Revision.UID)
			}
			return newAck(change, agentv1.AckCode_ACK_CODE_REJECTED, reason.UIDMismatch, "another object of this name is held; nothing was deleted")
		}
		return newAck(change, agentv1.AckCode_ACK_CODE_STORED, "", "")
	}
}

// askAgain asks for content again that arrived damaged, some times.
func (in *intake) askAgain(key wire.Key, change *agentv1.ObjectChange, why error) job {
	in.mu.Lock()
	in.asked[key]++
	code := agentv1.AckCode_ACK_CODE_RETRY
	if in.asked[key] > maxAsks {
		code = agentv1.AckCode_ACK_CODE_REJECTED
	}
	in.mu.Unlock()
	in.log.Warn("content arrived damaged and was thrown away", "object", key, "error", why, "final", code == agentv1.AckCode_ACK_CODE_REJECTED)
	return answer(change, code, reason.DigestMismatch, "%v", why)
}

func (in *intake) clear(key wire.Key) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.asked, key)
	delete(in.failed, key)
}

// note counts an answer, and remembers what the hub has and the agent has not.
func (in *intake) note(ack *agentv1.ObjectAck) {
	in.metrics.acked(ack.GetCode())
	if code := ack.GetCode(); code != agentv1.AckCode_ACK_CODE_RETRY && code != agentv1.AckCode_ACK_CODE_REJECTED {
		return
	}
	key := wire.KeyOf(ack.GetKey())
	in.log.Warn("an object was not taken", "object", key, "code", ack.GetCode(), "reason", ack.GetError().GetReason(), "message", ack.GetError().GetMessage())
	in.mu.Lock()
	defer in.mu.Unlock()
	in.failed[key] = struct{}{}
}

func (in *intake) failedKeys() []wire.Key {
	in.mu.Lock()
	defer in.mu.Unlock()
	keys := make([]wire.Key, 0, len(in.failed))
	for key := range in.failed {
		keys = append(keys, key)
	}
	return keys
}

func answer(change *agentv1.ObjectChange, code agentv1.AckCode, why, format string, args ...any) job {
	return func(context.Context) *agentv1.ObjectAck { return newAck(change, code, why, format, args...) }
}

func newAck(change *agentv1.ObjectChange, code agentv1.AckCode, why, format string, args ...any) *agentv1.ObjectAck {
	ack := &agentv1.ObjectAck{Key: change.GetKey(), Revision: change.GetRevision(), Code: code}
	if why != "" {
		ack.Error = &agentv1.ErrorInfo{Reason: why, Message: wire.Truncate(strings.ToValidUTF8(fmt.Sprintf(format, args...), "?"))}
	}
	return ack
}
