// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
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

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
