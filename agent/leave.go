// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"slices"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// What becomes of workloads once the hub has removed this cluster on purpose.
const (
	OnDetachKeep   = "Keep"
	OnDetachDelete = "Delete"
)

// ended is told why each session ended. It does not block.
func (a *Agent) ended(why string) {
	if why != reason.ClusterRemoved {
		return
	}
	select {
	case a.leave <- struct{}{}:
	default:
	}
}

// removeWorkloads deletes what works applied here once the hub has said that it
// removed this very cluster. No absence leads here (PROTOCOL c4).
func (a *Agent) removeWorkloads(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.leave:
		}
		a.leaveNamespaces(ctx)
		if a.cfg.OnDetach != OnDetachDelete {
			continue
		}
		a.outbound.leaving.Store(true)
		entries := slices.DeleteFunc(a.store.Snapshot().Entries, func(e wire.Entry) bool { return e.Key.Kind != wire.KindWork })
		if len(entries) > 0 {
			a.log.Warn("the hub has removed this cluster: what its works applied is deleted (--on-detach=Delete)", "works", len(entries))
		}
		for _, e := range entries {
			if _, err := a.store.Request(ctx, e.Key, e.UID, e.Generation); err != nil {
				a.log.Error("a work could not be marked for deletion; the next refusal of the hub tries again", "object", e.Key, "error", err)
			}
		}
	}
}
