// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/claim"
	"fairlead.dev/fairlead/internal/wire"
)

const (
	// reportRetry is how long a report that was not written waits for its next try.
	reportRetry = 5 * time.Second
	// Bounds of what a report may put into a ManagedCluster.
	maxReportEntries = 200
	maxReportValue   = 1 << 10
	// maxHeldBatches bounds what is kept, per session, of held deletes.
	maxHeldBatches = 100
)

// reports keeps the newest report of a session on its way to the apiserver:
// one write at a time, and whatever came meanwhile is written after it.
type reports struct {
	mu     sync.Mutex
	latest *agentv1.ClusterReport // to be written; nil when there is none
	active bool
	held   []*agentv1.HeldBatch // as last reported
	known  bool
}

// report takes one report, without waiting for its write.
func (r *runner) report(report *agentv1.ClusterReport) {
	p := &r.reports
	p.mu.Lock()
	p.latest, p.known = report, true
	p.held = report.GetHeld()[:min(len(report.GetHeld()), maxHeldBatches)]
	start := !p.active
	p.active = true
	p.mu.Unlock()
	if start {
		r.service.Background("cluster report", r.writeReports)
	}
}

// writeReports writes until there is nothing newer.
func (r *runner) writeReports() {
	p := &r.reports
	for {
		p.mu.Lock()
		report := p.latest
		p.latest = nil
		p.active = report != nil
		p.mu.Unlock()
		if report == nil {
			return
		}
		if err := r.writeReport(report); err != nil {
			r.log().Warn("the cluster's report was not written; it is tried again", "error", err)
			if !r.retryReport(report) {
				return
			}
		}
	}
}

// retryReport puts a report back unless there is a newer one, and waits; false
// when the session has ended.
func (r *runner) retryReport(report *agentv1.ClusterReport) bool {
	p := &r.reports
	p.mu.Lock()
	if p.latest == nil {
		p.latest = report
	}
	p.mu.Unlock()
	select {
	case <-r.ctx.Done():
		return false
	case <-time.After(reportRetry):
		return true
	}
}

func (r *runner) writeReport(report *agentv1.ClusterReport) error {
	to := r.hold.Reports
	leftOut := 0
	take := func(values map[string]string) map[string]string {
		kept := bounded(values)
		leftOut += len(values) - len(kept)
		return kept
	}
	taken := Report{
		KubernetesVersion: wire.Truncate(report.GetKubernetesVersion()), Healthy: report.GetApiserverHealthy(),
		Claims: take(report.GetClaims()), Capacity: take(report.GetCapacity()), Allocatable: take(report.GetAllocatable()),
	}
	taken.LeftOut, taken.Namespaces = leftOut, namespacesOf(report.GetManagedNamespaces())
	err := to.Cluster(r.ctx, taken)
	if err != nil {
		return err
	}
	return to.DeletesHeld(r.ctx, heldOf(report.GetHeld()))
}

// namespacesOf reads what became of the managed namespaces. The hub looks up those
// that it asked for, so others do no harm.
func namespacesOf(reported []*agentv1.ManagedNamespace) map[string]string {
	namespaces := make(map[string]string, len(reported))
	for _, n := range reported {
		message := ""
		if !n.GetApplied() {
			message = orElse(wire.Truncate(n.GetMessage()), "the agent does not say why")
		}
		namespaces[n.GetName()] = message
	}
	return namespaces
}

// bounded drops what is too large for a ManagedCluster, and of too many those
// with the last names: an agent that sends them breaks its own rules (T74).
func bounded(values map[string]string) map[string]string {
	if len(values) <= maxReportEntries && !tooLong(values) {
		return values
	}
	kept := make(map[string]string, maxReportEntries)
	for _, key := range slices.SortedFunc(maps.Keys(values), claim.Compare) {
		if value := values[key]; len(kept) < maxReportEntries && len(key) <= maxReportValue && len(value) <= maxReportValue {
			kept[key] = value
		}
	}
	return kept
}

func tooLong(values map[string]string) bool {
	for key, value := range values {
		if len(key) > maxReportValue || len(value) > maxReportValue {
			return true
		}
	}
	return false
}

// heldOf sums up what is held, for a condition that people read.
func heldOf(batches []*agentv1.HeldBatch) Held {
	held := Held{Batches: len(batches)}
	for _, batch := range batches {
		held.Objects += len(batch.GetEntries())
	}
	if held.Batches == 0 {
		return held
	}
	first := batches[0]
	held.Message = wire.Truncate(fmt.Sprintf("the agent holds deletes of %d objects in %d batches until somebody releases them; the first is %s (%s, %d objects)",
		held.Objects, held.Batches, first.GetBatchId(), first.GetReason(), len(first.GetEntries())))
	return held
}
