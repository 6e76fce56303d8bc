// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"fmt"
	"testing"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

// fleet is a source that costs nothing itself.
type fleet struct {
	revs    map[wire.Key]wire.Revision
	content []byte
	entries []wire.Entry
	summary session.Summary
	mark    wire.HighWater
}

func newFleet(n, size int) *fleet {
	f := &fleet{revs: map[wire.Key]wire.Revision{}, content: make([]byte, size), mark: wire.ProveHighWater(secret(), hubID, 100)}
	for i := range n {
		rev := wire.Revision{UID: fmt.Sprintf("uid-%d", i), Generation: 1, Size: uint64(size), Digest: wire.Digest{byte(i)}, ResourceVersion: "12345"}
		f.revs[work(fmt.Sprintf("work-%d", i))] = rev
		f.entries = append(f.entries, wire.Entry{Key: work(fmt.Sprintf("work-%d", i)), Revision: rev})
	}
	f.summary = session.Summary{Root: wire.Summarize(f.entries).Root(), Count: n}
	return f
}

func (f *fleet) Get(key wire.Key) (session.Object, bool) {
	rev, ok := f.revs[key]
	return session.Object{Revision: rev, Finalizer: true}, ok
}

func (f *fleet) Content(key wire.Key) (session.Content, bool) {
	rev, ok := f.revs[key]
	return session.Content{Revision: rev, Bytes: f.content, Finalizer: true}, ok
}
func (f *fleet) Entries() []wire.Entry     { return f.entries }
func (f *fleet) Summary() session.Summary  { return f.summary }
func (f *fleet) HighWater() wire.HighWater { return f.mark }

func (f *fleet) hello() *agentv1.Hello {
	root := f.summary.Root
	return &agentv1.Hello{ProtocolMin: 1, ProtocolMax: 1, Resume: &agentv1.ResumeState{
		StoreEpoch: "s", HubEpoch: hubEpoch, DesiredRoot: root[:], DesiredCount: uint32(f.summary.Count),
	}}
}

func config() session.Config {
	return session.Config{Hub: &session.Hub{ID: hubID, Epoch: hubEpoch}, SessionID: "s", Epoch: 7}
}

// ackAll is the agent's answer to a Delta, as the wire would give it.
func ackAll(m *agentv1.SessionResponse) *agentv1.SessionRequest {
	ack := &agentv1.Ack{ProcessedSeq: m.GetSeq()}
	for _, change := range m.GetDelta().GetChanges() {
		ack.Objects = append(ack.Objects, &agentv1.ObjectAck{Key: change.GetKey(), Revision: change.GetRevision(), Code: agentv1.AckCode_ACK_CODE_STORED})
	}
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: ack}}
}

// BenchmarkDeliver is one changed work: mark, send, stored. The agent's answer
// is part of it.
func BenchmarkDeliver(b *testing.B) {
	for _, together := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("works=%d", together), func(b *testing.B) {
			f := newFleet(together, 2000)
			now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
			core := session.New(config(), f)
			core.Step(now, session.Hello{Message: f.hello()})
			core.Next(now)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for j := range f.entries {
					f.revs[f.entries[j].Key] = wire.Revision{UID: f.entries[j].UID, Generation: int64(i), Size: 2000}
					core.Step(now, session.Marked{Key: f.entries[j].Key})
				}
				for m := core.Next(now); m != nil; m = core.Next(now) {
					core.Step(now, session.Frame{Message: ackAll(m)})
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*together), "ns/work")
		})
	}
}

// BenchmarkReconnect is a session that finds itself in sync.
func BenchmarkReconnect(b *testing.B) {
	f := newFleet(100, 2000)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	hello, cfg := f.hello(), config()
	b.ReportAllocs()
	for b.Loop() {
		core := session.New(cfg, f)
		core.Step(now, session.Hello{Message: hello})
		core.Next(now)
	}
}

// BenchmarkIdle is the heartbeats of one session for one interval.
func BenchmarkIdle(b *testing.B) {
	f := newFleet(100, 2000)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	core := session.New(config(), f)
	core.Step(now, session.Hello{Message: f.hello()})
	core.Next(now)
	beat := &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	compared := &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{Resume: f.hello().GetResume()}}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(20 * time.Second)
		core.Step(now, session.Frame{Message: beat})
		if i%30 == 0 {
			core.Step(now, session.Frame{Message: compared})
		}
		core.Step(now, session.Tick{})
		core.Next(now)
		core.Wakeup()
	}
}

// BenchmarkStatus is one status, stored and answered.
func BenchmarkStatus(b *testing.B) {
	f := newFleet(1, 2000)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	core := session.New(config(), f)
	core.Step(now, session.Hello{Message: f.hello()})
	core.Next(now)
	b.ReportAllocs()
	for i := uint64(1); b.Loop(); i++ {
		for _, e := range core.Step(now, session.Frame{Message: statusOf(itemOf("work-0", "uid-0", i, "{}"))}) {
			p := e.(session.PersistStatus)
			core.Step(now, session.StatusDone{Key: p.Key, UID: p.UID, Seq: p.Seq, Code: agentv1.StatusCode_STATUS_CODE_PERSISTED})
		}
		core.Next(now)
	}
}
