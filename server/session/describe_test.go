// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"fmt"
	"strings"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

func describeResponse(m *agentv1.SessionResponse) string {
	switch m := m.GetMessage().(type) {
	case *agentv1.SessionResponse_Welcome:
		w := m.Welcome
		text := "Welcome " + strings.TrimPrefix(w.GetSyncMode().String(), "SYNC_MODE_")
		if w.GetResendStatuses() {
			text += " resend-statuses"
		}
		return text
	case *agentv1.SessionResponse_Delta:
		return describeDelta(m.Delta)
	case *agentv1.SessionResponse_InventoryRequest:
		n := len(m.InventoryRequest.GetBuckets())
		if n == 0 {
			return "InventoryRequest digests"
		}
		return fmt.Sprintf("InventoryRequest entries of %d buckets", n)
	case *agentv1.SessionResponse_StatusAck:
		var results []string
		for _, r := range m.StatusAck.GetResults() {
			results = append(results, fmt.Sprintf("%s #%d %s", wire.KeyOf(r.GetKey()), r.GetStatusSeq(), strings.TrimPrefix(r.GetCode().String(), "STATUS_CODE_"))+reasonOf(r.GetError()))
		}
		return "StatusAck " + strings.Join(results, ", ")
	case *agentv1.SessionResponse_Heartbeat:
		return fmt.Sprintf("Heartbeat %d", m.Heartbeat.GetCount())
	case *agentv1.SessionResponse_Directive:
		return "Directive " + strings.TrimPrefix(fmt.Sprintf("%T", m.Directive.GetDirective()), "*agentv1.Directive_")
	case *agentv1.SessionResponse_Goodbye:
		return "Goodbye " + m.Goodbye.GetReason()
	}
	return "?"
}

// shorten keeps stories readable.
func shorten(items []string) []string {
	if len(items) <= 6 {
		return items
	}
	return append(items[:3:3], fmt.Sprintf("… (%d in all)", len(items)))
}

func describeDelta(d *agentv1.Delta) string {
	var changes []string
	for _, change := range d.GetChanges() {
		rev := change.GetRevision()
		text := fmt.Sprintf("%s %s/%d", wire.KeyOf(change.GetKey()), rev.GetUid(), rev.GetGeneration())
		switch action := change.GetAction().(type) {
		case *agentv1.ObjectChange_Upsert:
			u := action.Upsert
			if u.GetPart() > 0 || !u.GetLastPart() {
				text += fmt.Sprintf(" part %d of %d KiB", u.GetPart(), len(u.GetObjectJson())>>10)
			}
			if u.GetPart() > 0 && u.GetLastPart() {
				text += " (last)"
			}
		case *agentv1.ObjectChange_Delete:
			text += " delete " + strings.TrimPrefix(action.Delete.GetReason().String(), "DELETE_REASON_")
			if action.Delete.GetBatchId() != "" {
				text += fmt.Sprintf(" batch of %d", action.Delete.GetBatchSize())
			}
		}
		changes = append(changes, text)
	}
	changes = shorten(changes)
	if d.GetSyncComplete() {
		changes = append(changes, "sync complete")
	}
	return "Delta " + strings.Join(changes, ", ")
}

func describeRequest(m *agentv1.SessionRequest) string {
	switch m := m.GetMessage().(type) {
	case *agentv1.SessionRequest_Ack:
		texts := make([]string, 0, len(m.Ack.GetObjects()))
		for _, o := range m.Ack.GetObjects() {
			texts = append(texts, fmt.Sprintf("%s %s", wire.KeyOf(o.GetKey()), strings.TrimPrefix(o.GetCode().String(), "ACK_CODE_")))
		}
		return strings.Join(append([]string{fmt.Sprintf("Ack up to %d", m.Ack.GetProcessedSeq())}, shorten(texts)...), ", ")
	case *agentv1.SessionRequest_Inventory:
		var entries int
		for _, b := range m.Inventory.GetBuckets() {
			entries += len(b.GetEntries())
		}
		return fmt.Sprintf("Inventory: %d buckets, %d entries", len(m.Inventory.GetBuckets()), entries)
	case *agentv1.SessionRequest_Status:
		var items []string
		for _, i := range m.Status.GetItems() {
			text := fmt.Sprintf("%s #%d %s/%d", wire.KeyOf(i.GetKey()), i.GetStatusSeq(), i.GetUid(), i.GetObservedGeneration())
			if i.GetFinalized() {
				text += " finalized"
			}
			items = append(items, text)
		}
		return "Status " + strings.Join(items, ", ")
	case *agentv1.SessionRequest_Heartbeat:
		if m.Heartbeat.GetResume() != nil {
			return "Heartbeat with roots"
		}
	}
	return ""
}

func reasonOf(e *agentv1.ErrorInfo) string {
	if e == nil {
		return ""
	}
	return " " + e.GetReason()
}

func describeEffect(e session.Effect) string {
	switch e := e.(type) {
	case session.ReadQuorum:
		return fmt.Sprintf("ReadQuorum %s", e.Key)
	case session.EnsureFinalizer:
		return fmt.Sprintf("EnsureFinalizer %s %s", e.Key, e.UID)
	case session.PersistStatus:
		text := fmt.Sprintf("PersistStatus %s #%d %s/%d", e.Key, e.Seq, e.UID, e.ObservedGeneration)
		if e.Finalized {
			text += " finalized"
		}
		return text
	case session.CheckRestore:
		return fmt.Sprintf("CheckRestore %d", e.Mark.ResourceVersion)
	case session.UnprovenMark:
		return fmt.Sprintf("UnprovenMark %d", e.Mark.ResourceVersion)
	case session.Stored:
		var keys []string
		for _, o := range e.Objects {
			keys = append(keys, o.Key.String())
		}
		return "Stored " + strings.Join(shorten(keys), ", ")
	case session.Undelivered:
		return fmt.Sprintf("Undelivered %s %s/%d%s", e.Key, e.Revision.UID, e.Revision.Generation, reasonOf(e.Error))
	case session.Retried:
		return fmt.Sprintf("Retried %s", e.Key)
	case session.CountMismatch:
		return fmt.Sprintf("CountMismatch %v", e.Keys)
	case session.Close:
		return fmt.Sprintf("Close %s: %s", e.Reason, e.Message)
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", e), "session.")
}
