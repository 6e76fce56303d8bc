// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

// Line is one thing that happened.
type Line struct {
	At   time.Duration
	Work string // that it is about; empty: about all
	Who  string
	Text string
}

// String is how a line is shown.
func (l Line) String() string {
	return fmt.Sprintf("%9.3f %-7s %s", l.At.Seconds(), l.Who, l.Text)
}

// notef writes into the transcript.
func (w *World) notef(name, who, format string, args ...any) {
	if !w.options.Transcript {
		return
	}
	w.lines = append(w.lines, Line{At: time.Since(w.began), Work: name, Who: who, Text: fmt.Sprintf(format, args...)})
}

// noteDown writes what the hub sends.
func (w *World) noteDown(s *hubSession, m *agentv1.SessionResponse) {
	if !w.options.Transcript {
		return
	}
	for _, c := range m.GetDelta().GetChanges() {
		rev, what := c.GetRevision(), "sends"
		if d := c.GetDelete(); d != nil {
			what = "sends the " + strings.TrimPrefix(d.GetReason().String(), "DELETE_REASON_") + " delete of"
		} else if !c.GetUpsert().GetLastPart() {
			continue
		}
		w.notef(c.GetKey().GetName(), s.r.name, "%s %s: %s %s/%d", s.id, what, c.GetKey().GetName(), rev.GetUid(), rev.GetGeneration())
	}
	for _, r := range m.GetStatusAck().GetResults() {
		w.notef(r.GetKey().GetName(), s.r.name, "%s answers the status of %s: %s", s.id, r.GetKey().GetName(),
			strings.TrimPrefix(r.GetCode().String(), "STATUS_CODE_"))
	}
	if m.GetDelta().GetSyncComplete() {
		w.notef("", s.r.name, "%s says that the sync is complete", s.id)
	}
	if r := m.GetInventoryRequest(); r != nil {
		w.notef("", s.r.name, "%s asks for the inventory, %d buckets", s.id, len(r.GetBuckets()))
	}
}

// noteUp writes what arrives from the agent.
func (w *World) noteUp(s *hubSession, m *agentv1.SessionRequest) {
	if !w.options.Transcript {
		return
	}
	for _, o := range m.GetAck().GetObjects() {
		w.notef(o.GetKey().GetName(), s.r.name, "%s hears of %s %s/%d: %s %s", s.id, o.GetKey().GetName(), o.GetRevision().GetUid(),
			o.GetRevision().GetGeneration(), strings.TrimPrefix(o.GetCode().String(), "ACK_CODE_"), o.GetError().GetReason())
	}
	for _, i := range m.GetStatus().GetItems() {
		final := ""
		if i.GetFinalized() {
			final = " finalized"
		}
		w.notef(i.GetKey().GetName(), s.r.name, "%s is told the status of %s %s/%d%s", s.id, i.GetKey().GetName(), i.GetUid(), i.GetObservedGeneration(), final)
	}
	for _, b := range m.GetInventory().GetBuckets() {
		for _, raw := range b.GetEntries() {
			e, _ := wire.EntryOf(raw)
			deleting := ""
			if e.Digest == wire.DeletingDigest(e.UID) {
				deleting = " deleting"
			}
			w.notef(e.Key.Name, s.r.name, "%s is told that the agent holds %s %s/%d%s", s.id, e.Key.Name, e.UID, e.Generation, deleting)
		}
	}
}

// Story is the part of a transcript that a failure is about.
func (r Result) Story() string {
	var b strings.Builder
	for _, l := range r.Lines {
		if l.Work == "" || r.Failure == nil || r.Failure.Work == "" || l.Work == r.Failure.Work {
			b.WriteString(l.String() + "\n")
		}
	}
	return b.String()
}

func containsBytes(b []byte, text string) bool { return bytes.Contains(b, []byte(text)) }
