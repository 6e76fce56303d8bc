// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"slices"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/internal/wire"
)

// reasonEviction is HELD_REASON_EVICTION of the wire contract.
const reasonEviction = "EVICTION"

// heldEvictions are those AppliedManifestWorks that wait for a person on the spoke,
// as a batch that the hub can show; none if nothing waits. Its id is as any other
// batch's, and names nothing that the store could release.
func heldEvictions(evictions map[string]work.Eviction) []link.HeldBatch {
	batch := link.HeldBatch{Reason: reasonEviction}
	for name, eviction := range evictions {
		if !eviction.Held {
			continue
		}
		batch.Entries = append(batch.Entries, wire.Entry{Key: workKey(name), Revision: wire.Revision{UID: string(eviction.UID)}})
		if batch.Since.IsZero() || eviction.Since.Before(batch.Since) {
			batch.Since = eviction.Since
		}
	}
	if len(batch.Entries) == 0 {
		return nil
	}
	slices.SortFunc(batch.Entries, func(x, y wire.Entry) int { return cmp.Compare(x.Key.Name, y.Key.Name) })
	batch.ID = wire.BatchID(batch.Entries)
	return []link.HeldBatch{batch}
}
