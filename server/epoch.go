// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/ca"
	"fairlead.dev/fairlead/server/session"
)

// shareHub makes what all sessions share, for one hub epoch.
func (h *house) shareHub(epoch string) {
	h.epochs[epoch] = true
	scope := markScope(h.hub.ID, epoch)
	h.shared.Store(&session.Hub{
		Replica: h.cfg.Replica, ID: h.hub.ID, Epoch: epoch, OrphanGrace: h.cfg.OrphanGrace,
		Proven: func(mark wire.HighWater) bool { return wire.Proven(h.hub.HMACKey, scope, mark) },
	})
}

// markScope is what a mark's proof covers besides the mark: the hub, and its
// epoch, so that a mark from before a restore proves nothing after it and no
// spoke can bring about one epoch after another with an old one.
func markScope(hubID, epoch string) string { return hubID + "/" + epoch }

// restored decides about a mark that this hub once gave and that is above what
// the index has. If even a quorum LIST is below it, the apiserver went back in
// time; otherwise the index only lags.
func (h *house) restored(ctx context.Context, mark wire.HighWater) (bool, error) {
	seen := h.shared.Load()
	at, err := h.index.QuorumListRV(ctx)
	if err != nil {
		return false, err
	}
	if at >= mark.ResourceVersion {
		return false, nil
	}
	return true, h.newEpoch(ctx, seen.Epoch, mark.ResourceVersion, at)
}

// onRestored is the index's: it saw further than the apiserver is now.
func (h *house) onRestored(ctx context.Context, seen, listed uint64) error {
	return h.newEpoch(ctx, h.shared.Load().Epoch, seen, listed)
}

// newEpoch replaces an epoch, once however many notice at the same time, and
// ends all sessions of the old one (PROTOCOL decision 9).
func (h *house) newEpoch(ctx context.Context, old string, seen, now uint64) error {
	h.epochMu.Lock()
	defer h.epochMu.Unlock()
	if h.shared.Load().Epoch != old {
		return nil
	}
	epoch, err := ca.NewEpoch(ctx, h.direct, h.cfg.Namespace, old)
	if errors.Is(err, ca.ErrEpochMoved) {
		return h.rereadEpoch(ctx, old)
	}
	if err != nil {
		return fmt.Errorf("writing a new hub epoch: %w", err)
	}
	h.log.Error("audit", "action", "hub.restored", "seen", seen, "apiserver", now, "epoch", epoch,
		"message", "the apiserver went back in time; agents hold deletes until somebody releases them")
	h.enterEpoch(epoch)
	return nil
}

// checkEpoch is the index's, which begins to list or to watch. The hub may have been
// restored to before its epoch began.
func (h *house) checkEpoch(ctx context.Context) error {
	hub, err := ca.EnsureHub(ctx, h.direct, h.cfg.Namespace, h.hub.ID)
	if err != nil {
		return fmt.Errorf("reading the hub's epoch: %w", err)
	}
	h.epochMu.Lock()
	defer h.epochMu.Unlock()
	if hub.Epoch == h.shared.Load().Epoch {
		return nil
	}
	return h.takeEpoch(ctx, hub.Epoch)
}

// takeEpoch goes over to an epoch that the apiserver has; the caller holds epochMu.
// One that this replica has been in is over, and only a restore brings it back: what
// agents were told in it since then would count, so another takes its place.
func (h *house) takeEpoch(ctx context.Context, epoch string) error {
	if !h.epochs[epoch] {
		h.log.Warn("the hub has another epoch; sessions of the former end", "epoch", epoch)
		h.enterEpoch(epoch)
		return nil
	}
	fresh, err := ca.NewEpoch(ctx, h.direct, h.cfg.Namespace, epoch)
	if err != nil {
		return fmt.Errorf("writing a new hub epoch: %w", err)
	}
	h.log.Error("audit", "action", "hub.restored", "epoch", fresh,
		"message", "the apiserver went back to an earlier epoch; agents hold deletes until somebody releases them")
	h.enterEpoch(fresh)
	return nil
}

func (h *house) rereadEpoch(ctx context.Context, old string) error {
	hub, err := ca.EnsureHub(ctx, h.direct, h.cfg.Namespace, h.hub.ID)
	if err != nil {
		return err
	}
	if hub.Epoch == old {
		return fmt.Errorf("the hub epoch %q moved and moved back", old)
	}
	return h.takeEpoch(ctx, hub.Epoch)
}

// enterEpoch ends every session of another epoch; the caller holds epochMu. None
// begins before the index has been listed anew: agents would be told that what
// the restore has lost is there, and take the new epoch for it.
func (h *house) enterEpoch(epoch string) {
	h.index.Relist()
	h.shareHub(epoch)
	h.service.Sessions().EndAll(reason.HubRestored, "the hub has a new epoch; connect again", 0)
	h.schedulers.Restored()
}

// watchEpoch follows the epoch, which another replica, or an admin after a
// restore, may change. Nothing is heard before the cache runs.
func (h *house) watchEpoch(ctx context.Context) error {
	informer, err := h.cache.GetInformer(ctx, &corev1.ConfigMap{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching ConfigMap %s: %w", ca.HubConfigMap, err)
	}
	changed := func(object any) {
		config, ok := object.(*corev1.ConfigMap)
		if !ok || config.Name != ca.HubConfigMap || config.Namespace != h.cfg.Namespace {
			return
		}
		h.followEpoch(config.Data[ca.HubEpochKey])
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    changed,
		UpdateFunc: func(_, object any) { changed(object) },
	})
	return err
}

func (h *house) followEpoch(epoch string) {
	h.epochMu.Lock()
	defer h.epochMu.Unlock()
	if epoch == "" || epoch == h.shared.Load().Epoch {
		return
	}
	if h.epochs[epoch] { // it is back, by a restore: checkEpoch orders another, before anything is listed
		h.index.Relist()
		return
	}
	h.log.Warn("the hub has a new epoch; sessions of the old one end", "epoch", epoch)
	h.enterEpoch(epoch)
}
