// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

// ClusterReport is what the spoke is, for its ManagedCluster on the hub.
type ClusterReport struct {
	KubernetesVersion     string
	Claims                map[string]string
	Capacity, Allocatable map[string]string
	APIServerHealthy      bool
	Observed              time.Time
	// Held is everything that waits for a person now.
	Held []HeldBatch
	// Namespaces is what became of the managed namespaces: by name, empty where it
	// is there, else why it is not.
	Namespaces map[string]string
}

// HeldBatch is a group of deletes or prunes that are held.
type HeldBatch struct {
	ID string
	// Reason is the name of a HeldReason of the wire contract without its
	// prefix: HUB_EPOCH, HIGH_WATER, COUNT, GENERATION or EVICTION.
	Reason  string
	Entries []wire.Entry
	Since   time.Time
}

// heldBudget bounds the bytes of one report that list held objects; of a batch
// that does not fit, as many objects are listed as do.
const heldBudget = wire.MaxFrame / 2

func (r ClusterReport) proto() *agentv1.ClusterReport {
	report := &agentv1.ClusterReport{
		KubernetesVersion: r.KubernetesVersion, Claims: maps.Clone(r.Claims), Capacity: maps.Clone(r.Capacity),
		Allocatable: maps.Clone(r.Allocatable), ApiserverHealthy: r.APIServerHealthy,
	}
	if !r.Observed.IsZero() {
		report.Observed = timestamppb.New(r.Observed)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Namespaces)) {
		message := r.Namespaces[name]
		report.ManagedNamespaces = append(report.ManagedNamespaces, &agentv1.ManagedNamespace{Name: name, Applied: message == "", Message: wire.Truncate(message)})
	}
	left := heldBudget
	for _, batch := range r.Held {
		held := &agentv1.HeldBatch{
			BatchId: batch.ID, Since: timestamppb.New(batch.Since),
			Reason: agentv1.HeldReason(agentv1.HeldReason_value["HELD_REASON_"+batch.Reason]),
		}
		for _, entry := range batch.Entries {
			e := wire.EntryProto(entry)
			if left -= proto.Size(e) + 8; left < 0 {
				break
			}
			held.Entries = append(held.Entries, e)
		}
		report.Held = append(report.Held, held)
	}
	return report
}
