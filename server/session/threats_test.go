// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

// connected is a world in sync that holds some works.
func connected(names ...string) *world {
	w := newWorld()
	for _, name := range names {
		w.hub.put(name, []byte(name))
	}
	w.connect()
	w.run()
	return w
}

func TestT01_marks_before_and_during_hello_are_not_lost(t *testing.T) {
	w := connected("a", "b")
	core := session.New(w.cfg, w.hub)
	hello := w.agent.hello()
	w.core = core

	w.hub.put("a", []byte("between registration and Hello"))
	w.marks()
	w.step(session.Hello{Message: hello})
	w.hub.put("b", []byte("between Hello and Welcome"))
	w.hub.remove("a")
	w.run()

	requireSame(t, w)
	require.Empty(t, w.agent.faults)
}

func TestT03_ten_thousand_edits_are_one_send_each(t *testing.T) {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("w-%03d", i))
	}
	w := connected(names...)
	w.agent.paused = true
	for edit := range 100 {
		for _, name := range names {
			w.hub.put(name, fmt.Appendf(nil, "%d", edit))
		}
		w.run()
	}
	require.LessOrEqual(t, w.core.Stats().Dirty, 100)
	require.LessOrEqual(t, w.core.Stats().UnackedObjects, 100)

	before := w.agent.upserts + w.core.Stats().UnackedObjects // sent while it did not look
	w.agent.paused = false
	w.run()
	require.LessOrEqual(t, w.agent.upserts-before, 100)
	requireSame(t, w)
}

func TestT09_a_replica_that_lags_resurrects_nothing(t *testing.T) {
	w := connected("web", "db")
	index, mark := maps.Clone(w.hub.index), w.hub.indexRV
	w.hub.remove("web")
	w.run()
	w.finalize()
	require.Len(t, w.agent.holds, 1)

	// Another replica, which has seen nothing of that yet: web is alive there.
	w.hub.index, w.hub.indexRV, w.hub.lagging = index, mark, true
	w.connect()
	w.wait(30 * time.Second)
	require.Len(t, w.agent.holds, 1)
	w.hub.marks = append(w.hub.marks, session.Marked{Key: work("web")}) // its index has moved, but not far enough
	w.wait(30 * time.Second)
	require.Empty(t, w.agent.faults)

	w.hub.catchUp()
	w.wait(2 * time.Minute)
	require.Empty(t, w.agent.faults)
	requireSame(t, w)
}

func TestT10_a_delete_overtakes_everything_but_what_is_sent(t *testing.T) {
	w := connected("victim")
	w.agent.paused = true
	for i := range 5000 {
		w.hub.put(fmt.Sprintf("w-%04d", i), bytes.Repeat([]byte("x"), 2000))
	}
	w.hub.put("large", bytes.Repeat([]byte("x"), 200_000))
	w.marks()
	w.step(session.Tick{})
	w.pull(2)
	w.hub.remove("victim")
	w.marks()
	w.step(session.Tick{})

	delta := w.core.Next(w.now).GetDelta()
	require.NotNil(t, delta.GetChanges()[0].GetDelete(), "the delete is first in the very next frame")
}

func TestSend_endless_small_works_do_not_starve_a_large_one(t *testing.T) {
	w := connected()
	w.hub.put("large", bytes.Repeat([]byte("x"), 100_000))
	for i := range 1000 {
		w.hub.put(fmt.Sprintf("w-%d", i), bytes.Repeat([]byte("x"), 10_000))
		w.marks()
		w.step(session.Tick{})
		w.pull(1)
		w.process()
		if w.agent.holds[work("large")] != nil {
			require.Less(t, i, 60)
			return
		}
	}
	t.Fatal("the large work is never sent")
}

func TestT15_a_cut_restarts_only_the_object_in_flight(t *testing.T) {
	w := newWorld()
	for i := range 5 {
		w.hub.put(fmt.Sprintf("large-%d", i), bytes.Repeat([]byte("x"), 300_000))
	}
	w.connect()
	for w.agent.upserts < 3 {
		w.pull(1)
		w.process()
	}
	w.pull(2)
	w.process()
	w.connect()
	w.run()
	require.Equal(t, 5, w.agent.upserts)
	requireSame(t, w)
}

func TestT18_nothing_is_sent_again_by_a_timer(t *testing.T) {
	w := connected("a", "b")
	w.agent.paused = true
	w.hub.put("a", []byte("new"))
	for range 29 { // frames arrive, acknowledgements do not
		w.now = w.now.Add(time.Second)
		w.step(session.Frame{Message: &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}})
		w.run()
	}
	deltas := 0
	for _, m := range w.agent.inbox {
		if m.GetDelta() != nil {
			deltas++
		}
	}
	require.Equal(t, 1, deltas)
	require.Nil(t, w.closed)
}

// T2: whoever takes what it is sent and acknowledges none of it does not hold the
// session, though its heartbeats come; one that acknowledges little by little does.
func TestT2_heartbeats_are_no_acknowledgements(t *testing.T) {
	w := connected("a", "b", "c")
	beats := func(n int) {
		for range n {
			w.now = w.now.Add(time.Second)
			w.step(session.Frame{Message: &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}})
			w.step(session.Tick{})
			w.run()
		}
	}
	for _, name := range []string{"a", "b"} {
		w.hub.put(name, []byte("new"))
		beats(29)
		require.Nil(t, w.closed)
	}
	w.agent.paused = true
	w.hub.put("c", []byte("new"))
	w.run()
	beats(29)
	require.Nil(t, w.closed)
	beats(1)
	require.NotNil(t, w.closed)
	require.Equal(t, "SLOW_CONSUMER", w.closed.Reason)
}

func TestT21_no_frame_is_over_the_limit(t *testing.T) {
	w := newWorld()
	w.agent.window = &agentv1.Window{Bytes: 64 << 20, Objects: 1 << 20}
	for i := range 20_000 {
		name := fmt.Sprintf("%s-%05d", bytes.Repeat([]byte("n"), 240), i)
		w.hub.put(name, []byte(name))
	}
	w.hub.put("at-the-limit", bytes.Repeat([]byte("x"), wire.MaxObject))
	w.hub.put("over-the-limit", bytes.Repeat([]byte("x"), wire.MaxObject+1))
	w.connect()
	w.run()
	require.LessOrEqual(t, w.maxFrame, wire.MaxFrame)
	require.Empty(t, w.agent.faults)
	require.Len(t, w.agent.holds, 20_001)
	require.Equal(t, "OBJECT_TOO_LARGE", w.core.State(work("over-the-limit")).Undelivered.GetReason())
	require.Less(t, w.frames, 1000, "small works share frames")

	// 20,000 deletes, and their finalized statuses' answers.
	for i := range 20_000 {
		w.hub.remove(fmt.Sprintf("%s-%05d", bytes.Repeat([]byte("n"), 240), i))
	}
	w.run()
	w.finalize()
	require.LessOrEqual(t, w.maxFrame, wire.MaxFrame)
	require.Len(t, w.agent.holds, 1)
}

func TestSend_parts_grow_while_they_are_acknowledged_quickly(t *testing.T) {
	w := connected()
	w.hub.put("large", bytes.Repeat([]byte("x"), 1_000_000))
	w.marks()
	w.step(session.Tick{})
	var sizes []int
	for {
		m := w.core.Next(w.now)
		if m == nil {
			break
		}
		sizes = append(sizes, len(m.GetDelta().GetChanges()[0].GetUpsert().GetObjectJson())>>10)
		w.now = w.now.Add(300 * time.Millisecond)
		w.tell(w.agent.take(m)[0])
	}
	require.Equal(t, []int{32, 48, 72, 108, 162, 240, 240, 73}, sizes)

	w.hub.put("slow", bytes.Repeat([]byte("x"), 600_000))
	w.marks()
	w.step(session.Tick{})
	sizes = nil
	for {
		m := w.core.Next(w.now)
		if m == nil {
			break
		}
		sizes = append(sizes, len(m.GetDelta().GetChanges()[0].GetUpsert().GetObjectJson())>>10)
		w.now = w.now.Add(5 * time.Second)
		w.tell(w.agent.take(m)[0])
	}
	require.Equal(t, []int{240, 32, 32, 32, 32, 32, 32, 32}, sizes[:8])
}

func TestAck_credit_is_returned_by_processed_seq_alone(t *testing.T) {
	w := newWorld()
	w.agent.window = &agentv1.Window{Objects: 3}
	for i := range 10 {
		w.hub.put(fmt.Sprintf("w-%d", i), []byte("x"))
	}
	w.connect()
	w.pull(100)
	require.Equal(t, 3, w.core.Stats().UnackedObjects)

	var delta *agentv1.SessionResponse
	for _, m := range w.agent.inbox {
		if m.GetDelta() != nil {
			delta = m
		}
	}
	first := delta.GetDelta().GetChanges()[0]
	w.tell(ackOf(0, &agentv1.ObjectAck{Key: first.GetKey(), Revision: first.GetRevision(), Code: agentv1.AckCode_ACK_CODE_STORED}))
	require.Nil(t, w.core.Next(w.now), "an acknowledged object returns no credit")

	w.tell(ackOf(delta.GetSeq()))
	require.Len(t, w.core.Next(w.now).GetDelta().GetChanges(), 3)
}

func TestAck_a_window_smaller_than_an_object_still_moves(t *testing.T) {
	w := newWorld()
	w.agent.window = &agentv1.Window{Bytes: 1, Objects: 1}
	w.hub.put("large", bytes.Repeat([]byte("x"), 900_000))
	w.hub.put("small", []byte("x"))
	w.connect()
	w.run()
	requireSame(t, w)
}

func TestT55_broken_frames_end_in_a_typed_close(t *testing.T) {
	long := string(bytes.Repeat([]byte("n"), 254))
	digest := bytes.Repeat([]byte{1}, 32)
	entry := func(name string) *agentv1.InventoryEntry {
		return &agentv1.InventoryEntry{Key: work(name).Proto(), Revision: &agentv1.Revision{Uid: "u", Digest: digest}}
	}
	cases := map[string]struct {
		reason string
		frame  *agentv1.SessionRequest
		want   string
	}{
		"second hello":       {"exactly once", &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: &agentv1.Hello{}}}, "PROTOCOL_ERROR"},
		"seq never sent":     {"cumulative over what was sent", ackOf(99), "PROTOCOL_ERROR"},
		"seq goes back":      {"never back", ackOf(0), "PROTOCOL_ERROR"},
		"nil ack":            {"a zero seq goes back", &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{}}, "PROTOCOL_ERROR"},
		"other epoch":        {"another session's status", &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Status{Status: &agentv1.StatusBatch{SessionEpoch: 6}}}, "FENCED"},
		"nil status":         {"epoch 0", &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Status{}}, "FENCED"},
		"bucket 256":         {"there are 256", inventoryOf(&agentv1.Bucket{Index: 256}), "PROTOCOL_ERROR"},
		"long name":          {"253 at most", inventoryOf(&agentv1.Bucket{Entries: []*agentv1.InventoryEntry{entry(long)}}), "PROTOCOL_ERROR"},
		"long uid":           {"128 at most", inventoryOf(&agentv1.Bucket{Entries: []*agentv1.InventoryEntry{{Key: work("a").Proto(), Revision: &agentv1.Revision{Uid: long, Digest: digest}}}}), "PROTOCOL_ERROR"},
		"large inventory":    {"bounded memory", inventoryOf(&agentv1.Bucket{Entries: slices.Repeat([]*agentv1.InventoryEntry{entry("a")}, 300)}), "PROTOCOL_ERROR"},
		"nil inventory":      {"nothing in it", &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Inventory{}}, ""},
		"nil buckets":        {"nothing in them", inventoryOf(nil, nil), ""},
		"nil entries":        {"nothing in them", inventoryOf(&agentv1.Bucket{Entries: []*agentv1.InventoryEntry{nil, {}}}), ""},
		"nil heartbeat":      {"a sign of life", &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{}}, ""},
		"nil report":         {"nothing to report", &agentv1.SessionRequest{Message: &agentv1.SessionRequest_ClusterReport{}}, ""},
		"nil events":         {"nothing to report", &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Events{}}, ""},
		"unknown message":    {"answered, not fatal", &agentv1.SessionRequest{}, ""},
		"no message":         {"answered, not fatal", nil, ""},
		"ack of nothing":     {"history", ackOf(2, nil, &agentv1.ObjectAck{}), ""},
		"duplicate ack":      {"the second is history", ackOf(2, storedA(), storedA()), ""},
		"status without key": {"INVALID for that item", statusOf(&agentv1.ObjectStatus{}, nil), ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.cfg.Hub.Limits.MaxInventory = 200
			w.hub.put("a", []byte("a"))
			w.connect()
			w.pull(3)
			w.tell(ackOf(2))
			w.step(session.Frame{Message: tc.frame})
			for range 100 {
				w.core.Next(w.now)
			}
			if tc.want == "" {
				require.Nil(t, w.closed, tc.reason)
				return
			}
			require.NotNil(t, w.closed, tc.reason)
			require.Equal(t, tc.want, w.closed.Reason, tc.reason)
			require.Empty(t, w.core.Step(w.now, session.Frame{Message: tc.frame}), "a closed session does nothing")
		})
	}
}

// What an agent says is shown to people, over gRPC and in conditions.
func TestT55_words_of_an_agent_are_cut_between_characters(t *testing.T) {
	at := func(n int) string { return strings.Repeat("A", n-1) + "é" }
	cases := map[string]struct{ says, want string }{
		"a reason":   {"BAD_MANIFEST", "BAD_MANIFEST"},
		"a long one": {at(64), strings.Repeat("A", 63)},
		"none":       {"two words", ""},
		"a number":   {"1", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.hub.put("a", []byte("a"))
			w.connect()
			for {
				m := w.next()
				require.NotNil(t, m)
				if changes := m.GetDelta().GetChanges(); len(changes) == 1 {
					w.tell(ackOf(m.GetSeq(), &agentv1.ObjectAck{
						Key: changes[0].GetKey(), Revision: changes[0].GetRevision(), Code: agentv1.AckCode_ACK_CODE_REJECTED,
						Error: &agentv1.ErrorInfo{Reason: tc.says, Message: at(5000), FieldPaths: []string{at(256)}},
					}))
					break
				}
			}
			said := w.core.State(work("a")).Rejected
			require.NotNil(t, said)
			require.Equal(t, tc.want, said.GetReason())
			_, err := proto.Marshal(said)
			require.NoError(t, err)
		})
	}
}

func storedA() *agentv1.ObjectAck {
	return &agentv1.ObjectAck{Key: work("a").Proto(), Code: agentv1.AckCode_ACK_CODE_STORED}
}

func ackOf(seq uint64, objects ...*agentv1.ObjectAck) *agentv1.SessionRequest {
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: &agentv1.Ack{ProcessedSeq: seq, Objects: objects}}}
}

func inventoryOf(buckets ...*agentv1.Bucket) *agentv1.SessionRequest {
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Inventory{Inventory: &agentv1.InventoryReply{Buckets: buckets, Last: true}}}
}

func statusOf(items ...*agentv1.ObjectStatus) *agentv1.SessionRequest {
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Status{Status: &agentv1.StatusBatch{SessionEpoch: 7, Items: items}}}
}
