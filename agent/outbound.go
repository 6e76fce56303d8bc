// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/store"
	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/internal/wire"
)

// dropRetry is how long an orphan that was removed, and could not be dropped
// from the store, waits.
const dropRetry = 5 * time.Second

// outbound is what the work controller reads from and reports to: the store and
// the link. It implements work.Source and work.Reporter.
type outbound struct {
	store *store.Store
	log   *slog.Logger
	link  atomic.Pointer[link.Link] // nil before there is an identity

	// report hands a status on: toHub, but in tests.
	report func(link.Status)
	// superseded tells whether another instance had the session last, as far as
	// this one can know: it holds what that one applied once it is in sync again.
	superseded func() bool
	yielded    atomic.Bool // something was left alone because of that

	// leaving: the hub has removed this cluster, and waits for no report of it.
	leaving atomic.Bool

	mu      sync.Mutex
	removed map[wire.Key]string // orphans that are gone from the spoke: their UIDs
	wake    chan struct{}
}

func newOutbound(s *store.Store, log *slog.Logger) *outbound {
	out := &outbound{store: s, log: log, removed: map[wire.Key]string{}, wake: make(chan struct{}, 1)}
	out.report = out.toHub
	out.superseded = func() bool {
		l := out.link.Load()
		return l != nil && l.State().Superseded
	}
	return out
}

func workKey(name string) wire.Key { return wire.Key{Kind: wire.KindWork, Name: name} }

// yields tells whether another instance of this agent has or had the session.
// That one has newer works; two that both correct drift would undo each other's work, and
// this one would bring back what was replaced. With the hub merely gone, nobody
// yields.
func (out *outbound) yields() bool {
	if !out.superseded() {
		return false
	}
	out.yielded.Store(true)
	return out.superseded() // if not by now, resumed may have come before the line above
}

// resumed tells, once, whether works were left alone that are to be looked at
// now that this instance is in sync.
func (out *outbound) resumed() bool { return out.yielded.Swap(false) }

// Get implements work.Source. What cannot be read, or is another instance's to
// apply, is as if it were not there: nothing is done about it.
func (out *outbound) Get(name string) (work.Desired, bool) {
	if out.yields() {
		return work.Desired{}, false
	}
	object, ok, err := out.store.Get(workKey(name))
	if err != nil {
		out.log.Error("a stored work cannot be read", "work", name, "error", err)
	}
	if !ok || err != nil {
		return work.Desired{}, false
	}
	desired := work.Desired{Delete: deleteStates()[object.Delete], Orphaned: object.Orphaned, HoldPrune: object.HoldPrune}
	if object.Content == nil {
		desired.Work = &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(object.UID)}}
		return desired, true
	}
	digest := object.Revision.Digest
	desired.Digest = digest[:]
	if desired.Work, err = decodeWork(object.Content); err != nil {
		out.log.Error("a stored work does not decode", "work", name, "error", err)
		return work.Desired{}, false
	}
	return desired, true
}

func deleteStates() map[store.Delete]work.DeleteState {
	return map[store.Delete]work.DeleteState{
		store.DeleteNone: work.DeleteNone, store.DeleteRequested: work.DeleteRequested,
		store.DeleteOrphaned: work.DeleteOrphaned, store.DeleteHeld: work.DeleteHeld,
	}
}

// inSync tells whether the store has all that the hub has, now.
func (out *outbound) inSync() bool {
	l := out.link.Load()
	if l == nil {
		return false
	}
	state := l.State()
	return state.Connected && state.InSync
}

// Names implements work.Source.
func (out *outbound) Names() []string {
	keys := out.store.Keys(wire.KindWork)
	names := make([]string, 0, len(keys))
	for _, key := range keys {
		names = append(names, key.Name)
	}
	return names
}

// Report implements work.Reporter.
func (out *outbound) Report(r work.Report) {
	key := workKey(r.Name)
	if r.Finalized {
		state, held := out.deletion(key, r.UID)
		switch {
		case out.leaving.Load(), state == store.DeleteOrphaned:
			out.drop(key, r.UID)
			return
		case held && state == store.DeleteNone: // it is wanted again since the pass began, and applied by the next
			return
		}
	}
	status := link.Status{Key: key, UID: r.UID, ObservedGeneration: r.ObservedGeneration, Finalized: r.Finalized}
	status.ObservedDigest, _ = wire.DigestOf(r.Digest) // a delete of what was never held has none
	if r.Status != nil {
		raw, err := json.Marshal(r.Status)
		if err == nil {
			status.JSON, err = wire.CanonicalStatus(raw)
		}
		if err != nil {
			out.log.Error("a status cannot be encoded", "work", r.Name, "error", err)
			return
		}
	}
	out.report(status)
}

// toHub hands a status on. Without a link nothing is kept: everything is reported
// again once there is one.
func (out *outbound) toHub(status link.Status) {
	if l := out.link.Load(); l != nil {
		l.Report(status)
	}
}

// deletion tells whether an object is held, and whether it is to be deleted.
func (out *outbound) deletion(key wire.Key, uid string) (state store.Delete, held bool) {
	object, ok, err := out.store.Get(key)
	return object.Delete, err == nil && ok && object.UID == uid
}

// drop leaves it to run to forget an orphan: that writes, and Report must not
// block.
func (out *outbound) drop(key wire.Key, uid string) {
	out.mu.Lock()
	out.removed[key] = uid
	out.mu.Unlock()
	select {
	case out.wake <- struct{}{}:
	default:
	}
}

// run drops orphans that are gone from the spoke, until ctx ends.
func (out *outbound) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-out.wake:
		}
		for key, uid := range out.take() {
			if !out.forget(ctx, key, uid) {
				pause(ctx, dropRetry)
				out.drop(key, uid)
			}
		}
	}
}

// forget drops one orphan; false means to try again.
func (out *outbound) forget(ctx context.Context, key wire.Key, uid string) bool {
	drop := out.store.Removed
	if out.leaving.Load() {
		drop = out.store.Forget
	}
	if err := drop(ctx, key, uid); err != nil {
		out.log.Warn("a removed work cannot be dropped from the store; trying again", "object", key, "error", err)
		return false
	}
	if l := out.link.Load(); l != nil {
		l.Forget(key, uid)
	}
	return true
}

func (out *outbound) take() map[wire.Key]string {
	out.mu.Lock()
	defer out.mu.Unlock()
	taken := out.removed
	out.removed = map[wire.Key]string{}
	return taken
}
