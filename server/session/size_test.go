// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

// still is a source of one work that changes when told to.
type still struct{ rev wire.Revision }

func (s *still) Get(wire.Key) (Object, bool) { return Object{Revision: s.rev, Finalizer: true}, true }

func (s *still) Content(wire.Key) (Content, bool) {
	return Content{Revision: s.rev, Bytes: make([]byte, s.rev.Size), Finalizer: true}, true
}

func (s *still) Entries() []wire.Entry     { return []wire.Entry{{Key: stillKey(), Revision: s.rev}} }
func (s *still) Summary() Summary          { return Summary{Count: 1, Root: wire.Digest{1}} }
func (s *still) HighWater() wire.HighWater { return wire.HighWater{ResourceVersion: 7} }

func stillKey() wire.Key { return wire.Key{Kind: wire.KindWork, Name: "web"} }

// deliver changes the work and lets it be stored.
func (s *still) deliver(now time.Time, c *Core) {
	s.rev.Generation++
	c.Step(now, Marked{Key: stillKey()})
	m := c.Next(now)
	change := m.GetDelta().GetChanges()[0]
	c.Step(now, Frame{Message: &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: &agentv1.Ack{
		ProcessedSeq: m.GetSeq(),
		Objects:      []*agentv1.ObjectAck{{Key: change.GetKey(), Revision: change.GetRevision(), Code: agentv1.AckCode_ACK_CODE_STORED}},
	}}}})
}

func TestCore_in_sync_it_is_smaller_than_1_KiB_also_after_traffic(t *testing.T) {
	const n = 2000
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	src := &still{rev: wire.Revision{UID: "u", Size: 2000}}
	hub := &Hub{ID: "h", Epoch: "e"}
	root := wire.Digest{1}
	cores := make([]*Core, n)
	hello := &agentv1.Hello{ProtocolMin: 1, ProtocolMax: 1, Resume: &agentv1.ResumeState{StoreEpoch: "s", HubEpoch: "e", DesiredCount: 1, DesiredRoot: root[:]}}

	before := heap()
	for i := range cores {
		cores[i] = New(Config{Hub: hub, SessionID: "s"}, src)
		cores[i].Step(now, Hello{Message: hello})
		require.Equal(t, agentv1.SyncMode_SYNC_MODE_IN_SYNC, cores[i].Next(now).GetWelcome().GetSyncMode())
	}
	idle := (heap() - before) / n
	for _, c := range cores {
		src.deliver(now, c)
		c.Step(now, Frame{Message: &agentv1.SessionRequest{}}) // unknown: answered
		require.NotNil(t, c.Next(now).GetStatusAck())
	}
	after := (heap() - before) / n
	t.Logf("bytes per session: %d idle, %d after traffic", idle, after)
	require.Less(t, idle, 1024)
	require.Less(t, after, 1024)
	c := cores[0]
	require.Nil(t, c.entries)
	require.Nil(t, c.frames)
	require.Nil(t, c.control)
	require.Nil(t, c.status)
	require.Nil(t, c.sync)
	require.Zero(t, c.unacked)
	require.True(t, c.deletes.empty() && c.small.empty() && c.large.empty())
	runtime.KeepAlive(cores)
}

func TestCore_what_an_agent_invents_is_bounded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	src := &none{}
	c := New(Config{Hub: &Hub{}}, src)
	c.Step(now, Hello{Message: &agentv1.Hello{ProtocolMin: 1, ProtocolMax: 1, Resume: &agentv1.ResumeState{StoreEpoch: "s", DesiredCount: 1}}})
	var sent uint64
	invented := 0
	for range 5 {
		reads := c.Step(now, inventoryOfInventions(&invented, 15_000))
		for len(reads) > 0 {
			var more []Effect
			for _, e := range reads {
				if read, ok := e.(ReadQuorum); ok {
					more = append(more, c.Step(now, QuorumAnswer{Read: read})...)
				}
			}
			reads = more
		}
		require.LessOrEqual(t, c.Stats().Dirty, maxOrphans)
		for m := c.Next(now); m != nil; m = c.Next(now) {
			sent = m.GetSeq()
			ack := &agentv1.Ack{ProcessedSeq: sent}
			for _, change := range m.GetDelta().GetChanges() {
				ack.Objects = append(ack.Objects, &agentv1.ObjectAck{Key: change.GetKey(), Revision: change.GetRevision(), Code: agentv1.AckCode_ACK_CODE_HELD})
			}
			c.Step(now, Frame{Message: &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: ack}}})
		}
		now = now.Add(5 * time.Minute)
		c.Step(now, Frame{Message: &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{
			Heartbeat: &agentv1.Heartbeat{Resume: &agentv1.ResumeState{StoreEpoch: "s", DesiredCount: 1}},
		}}})
		require.NotNil(t, c.sync)
		c.Step(now, Frame{Message: &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Inventory{Inventory: everyBucketDiffers()}}})
		c.Next(now)
	}
	require.Greater(t, invented, 2*maxSuspects)
	require.LessOrEqual(t, len(c.entries), maxSuspects)
}

// none is a source without works.
type none struct{}

func (*none) Get(wire.Key) (Object, bool)      { return Object{}, false }
func (*none) Content(wire.Key) (Content, bool) { return Content{}, false }
func (*none) Entries() []wire.Entry            { return nil }
func (*none) Summary() Summary                 { return Summary{} }
func (*none) HighWater() wire.HighWater        { return wire.HighWater{} }

func everyBucketDiffers() *agentv1.InventoryReply {
	reply := &agentv1.InventoryReply{Last: true}
	for i := range uint32(wire.Buckets) {
		reply.Buckets = append(reply.Buckets, &agentv1.Bucket{Index: i, Digest: bytes.Repeat([]byte{1}, 32)})
	}
	return reply
}

// inventoryOfInventions names n more objects that never were.
func inventoryOfInventions(invented *int, n int) Frame {
	bucket := &agentv1.Bucket{}
	for range n {
		*invented++
		key := wire.Key{Kind: wire.KindWork, Name: fmt.Sprintf("invented-%d", *invented)}
		bucket.Entries = append(bucket.Entries, wire.EntryProto(wire.Entry{Key: key, Revision: wire.Revision{UID: "u"}}))
	}
	return Frame{Message: &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Inventory{
		Inventory: &agentv1.InventoryReply{Buckets: []*agentv1.Bucket{bucket}, Last: true},
	}}}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
