// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
	"fairlead.dev/fairlead/test/hostile"
)

// FuzzFrames lets an agent say anything, as bytes of frames one after the other
// or as messages of every shape. Whatever it says, the session goes on or is
// closed with a reason, remembers no more than is bounded, and never deletes what
// lives.
func FuzzFrames(f *testing.F) {
	for _, conversation := range conversations(f) {
		f.Add(false, conversation)
	}
	descriptor := (&agentv1.SessionRequest{}).ProtoReflect().Descriptor()
	hello := message(f, &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: newWorld().agent.hello()}})
	for _, shape := range hostile.Shapes(descriptor, 1<<10) {
		f.Add(false, joined(hello, shape.Bytes, shape.Bytes))
	}
	f.Add(true, []byte("\x02\x03\x01\x01\x01\x02\x02\x01\x03\x01\x01"))
	f.Fuzz(func(t *testing.T, chosen bool, conversation []byte) {
		w := newWorld()
		w.hub.put("a", make([]byte, 50_000)) // goes in parts
		w.hub.put("b", nil)
		w.hub.put("c", make([]byte, 100))
		w.hub.remove("b")
		w.core = session.New(w.cfg, w.hub)
		frames := split(conversation)
		if chosen {
			random := hostile.NewRandom(conversation, "a", "b", "c", "uid-1", "uid-2", "uid-3", "x", hubEpoch)
			for frames = [][]byte{hello}; len(frames) < 40 && !random.Done(); {
				frames = append(frames, random.Message(descriptor))
			}
		}
		for i, raw := range frames {
			req := &agentv1.SessionRequest{}
			if proto.Unmarshal(raw, req) != nil {
				continue
			}
			w.now = w.now.Add(time.Second)
			if i == 0 && req.GetHello() != nil {
				w.step(session.Hello{Message: req.GetHello()})
			} else {
				w.step(session.Frame{Message: req})
			}
			w.step(session.Tick{})
			w.pull(10)
			requireHarmless(t, w)
			w.agent.inbox = nil
		}
		require.LessOrEqual(t, w.maxFrame, wire.MaxFrame)
		require.Empty(t, w.agent.faults)
		stats := w.core.Stats()
		require.LessOrEqual(t, stats.Dirty, 30_000)
		require.LessOrEqual(t, stats.UnackedBytes, uint64(17<<20))
		if w.closed != nil && w.closed.Reason != "" {
			require.Contains(t, []string{"PROTOCOL_ERROR", "PROTOCOL_TOO_OLD", "FENCED", "SLOW_CONSUMER", "LIVENESS_LOST", "HUB_RESTORED"}, w.closed.Reason)
			require.NotEmpty(t, w.closed.Message)
		}
	})
}

// requireHarmless looks at what the agent is sent: it can be sent, and deletes
// nothing that lives.
func requireHarmless(t *testing.T, w *world) {
	t.Helper()
	for _, m := range w.agent.inbox {
		_, err := proto.Marshal(m)
		require.NoError(t, err)
		for _, change := range m.GetDelta().GetChanges() {
			o, ok := w.hub.truth[wire.KeyOf(change.GetKey())]
			if change.GetDelete() != nil && ok && !o.deleting {
				require.NotEqual(t, o.uid, change.GetRevision().GetUid())
			}
		}
	}
}

func message(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	raw, err := proto.Marshal(m)
	require.NoError(tb, err)
	return raw
}

func joined(frames ...[]byte) (conversation []byte) {
	for _, raw := range frames {
		conversation = append(binary.BigEndian.AppendUint16(conversation, uint16(len(raw))), raw...)
	}
	return conversation
}

func split(conversation []byte) [][]byte {
	var frames [][]byte
	for len(conversation) >= 2 {
		n := int(binary.BigEndian.Uint16(conversation))
		conversation = conversation[2:]
		n = min(n, len(conversation))
		frames = append(frames, conversation[:n])
		conversation = conversation[n:]
	}
	return frames
}

// conversations records what well-behaved agents say.
func conversations(tb testing.TB) [][]byte {
	tb.Helper()
	var all [][]byte
	for _, holds := range []int{0, 3, 100} {
		w := newWorld()
		for i := range holds {
			w.agent.holds[work(string(rune('a'+i)))] = &holding{rev: wire.Revision{UID: "u", Digest: wire.Digest{1}}}
		}
		var out []byte
		record := func(req *agentv1.SessionRequest) {
			raw, err := proto.Marshal(req)
			require.NoError(tb, err)
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(raw))), raw...)
		}
		w.hub.put("a", []byte("content"))
		w.core = session.New(w.cfg, w.hub)
		hello := w.agent.hello()
		record(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: hello}})
		w.step(session.Hello{Message: hello})
		for range 10 {
			w.pull(10)
			inbox := w.agent.inbox
			w.agent.inbox = nil
			for _, m := range inbox {
				for _, req := range w.agent.take(m) {
					record(req)
					w.step(session.Frame{Message: req})
				}
			}
		}
		record(w.agent.status(work("a"), "{}", false))
		record(w.agent.status(work("b"), "", true))
		record(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{Resume: w.agent.resume()}}})
		record(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_ClusterReport{ClusterReport: &agentv1.ClusterReport{}}})
		record(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Goodbye{Goodbye: &agentv1.Goodbye{}}})
		all = append(all, out)
	}
	return all
}

// TestT55_a_lying_agent_hurts_nobody_else: an agent that acknowledges, claims
// and reports at random is never sent a delete for what lives, never makes the
// hub keep more than what is bounded, and never crashes it.
func TestT55_a_lying_agent_hurts_nobody_else(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		names := []string{"a", "b", "c", "d"}
		for _, name := range names {
			w.hub.put(name, make([]byte, 100_000))
		}
		w.agent.window = &agentv1.Window{Bytes: rapid.Uint64().Draw(t, "bytes"), Objects: rapid.Uint32().Draw(t, "objects")}
		w.agent.mark = wire.HighWater{ResourceVersion: rapid.Uint64().Draw(t, "mark")}
		w.connect()
		var sent []*agentv1.SessionResponse
		liar := &liar{t: t, names: append(names, "x", "y"), sent: &sent}
		for range rapid.IntRange(1, 60).Draw(t, "frames") {
			for range rapid.IntRange(0, 3).Draw(t, "pulls") {
				if m := w.next(); m != nil {
					sent = append(sent, m)
				}
			}
			w.step(session.Frame{Message: liar.frame()})
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 10).Draw(t, "s")) * time.Second)
			w.step(session.Tick{})
			if rapid.IntRange(0, 5).Draw(t, "change") == 0 {
				w.hub.put(rapid.SampledFrom(names).Draw(t, "changed"), []byte("new"))
				w.marks()
			}
		}
		for _, m := range sent {
			for _, change := range m.GetDelta().GetChanges() {
				o, ok := w.hub.truth[wire.KeyOf(change.GetKey())]
				if ok && change.GetDelete() != nil {
					require.NotEqual(t, o.uid, change.GetRevision().GetUid())
				}
			}
		}
		stats := w.core.Stats()
		require.LessOrEqual(t, stats.Dirty, 4*(len(names)+2), "keys of the hub, and what the agent invented")
		require.LessOrEqual(t, stats.UnackedBytes, uint64(17<<20))
	})
}

// liar makes frames that look right and are not.
type liar struct {
	t     *rapid.T
	names []string
	sent  *[]*agentv1.SessionResponse
}

func (l *liar) n(label string, most int) int { return rapid.IntRange(0, most).Draw(l.t, label) }

func (l *liar) key() *agentv1.ObjectKey {
	return &agentv1.ObjectKey{
		Kind: agentv1.ObjectKind(l.n("kind", 4)), Name: rapid.SampledFrom(l.names).Draw(l.t, "name"),
	}
}

// revision is one that was sent, or an invention.
func (l *liar) revision() *agentv1.Revision {
	for _, m := range *l.sent {
		for _, change := range m.GetDelta().GetChanges() {
			if l.n("take", 3) == 0 {
				return change.GetRevision()
			}
		}
	}
	return &agentv1.Revision{Uid: rapid.SampledFrom([]string{"", "uid-1", "uid-2", "z"}).Draw(l.t, "uid"), Generation: int64(l.n("generation", 9)), Digest: make([]byte, 32)}
}

func (l *liar) frame() *agentv1.SessionRequest {
	switch l.n("frame", 5) {
	case 0:
		ack := &agentv1.Ack{ProcessedSeq: uint64(len(*l.sent))}
		for range l.n("objects", 4) {
			ack.Objects = append(ack.Objects, &agentv1.ObjectAck{Key: l.key(), Revision: l.revision(), Code: agentv1.AckCode(l.n("code", 6))})
		}
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: ack}}
	case 1:
		reply := &agentv1.InventoryReply{Last: l.n("last", 1) == 0, Statuses: l.n("statuses", 9) == 0}
		for range l.n("buckets", 4) {
			key := l.key()
			reply.Buckets = append(reply.Buckets, &agentv1.Bucket{
				Index: uint32(wire.KeyOf(key).Bucket()), Digest: make([]byte, l.n("digest", 2)*32),
				Entries: []*agentv1.InventoryEntry{{Key: key, Revision: l.revision()}},
			})
		}
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Inventory{Inventory: reply}}
	case 2:
		item := &agentv1.ObjectStatus{
			Key: l.key(), Uid: "uid-1", StatusSeq: uint64(l.n("seq", 9)), Finalized: l.n("final", 2) == 0,
			Part: uint32(l.n("part", 2)), LastPart: l.n("last", 1) == 0, StatusJson: []byte("{}"), UncompressedSize: 2,
		}
		return statusOf(item, item)
	case 3:
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{Resume: &agentv1.ResumeState{DesiredCount: 1}}}}
	case 4:
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Events{Events: &agentv1.EventBatch{Events: make([]*agentv1.ClusterEvent, 1)}}}
	}
	return &agentv1.SessionRequest{}
}
