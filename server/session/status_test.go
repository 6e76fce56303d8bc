// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

func itemOf(name, uid string, seq uint64, text string) *agentv1.ObjectStatus {
	return &agentv1.ObjectStatus{
		Key: work(name).Proto(), Uid: uid, StatusSeq: seq, StatusJson: []byte(text), LastPart: true,
		UncompressedSize: uint64(len(text)), Encoding: agentv1.Encoding_ENCODING_IDENTITY,
	}
}

// results pulls every answer to statuses.
func (w *world) results() []*agentv1.StatusResult {
	var results []*agentv1.StatusResult
	for m := w.core.Next(w.now); m != nil; m = w.core.Next(w.now) {
		results = append(results, m.GetStatusAck().GetResults()...)
	}
	return results
}

func TestStatus_what_is_not_one_is_answered_INVALID(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*agentv1.ObjectStatus)
		want   string
	}{
		"kind":   {"an object without a status", func(s *agentv1.ObjectStatus) { s.Key.Kind = agentv1.ObjectKind_OBJECT_KIND_CLUSTER_CONFIG }, "INVALID_ARGUMENT"},
		"no key": {"nothing to write to", func(s *agentv1.ObjectStatus) { s.Key = nil }, "INVALID_ARGUMENT"},
		"name":   {"no Kubernetes name", func(s *agentv1.ObjectStatus) { s.Key.Name = string(bytes.Repeat([]byte("n"), 300)) }, "INVALID_ARGUMENT"},
		"long":   {"cut within no character", func(s *agentv1.ObjectStatus) { s.Key.Name = strings.Repeat("n", 252) + "é" }, "INVALID_ARGUMENT"},
		"uid":    {"identity is key and UID", func(s *agentv1.ObjectStatus) { s.Uid = "" }, "INVALID_ARGUMENT"},
		"seq":    {"it begins at 1", func(s *agentv1.ObjectStatus) { s.StatusSeq = 0 }, "INVALID_ARGUMENT"},
		"size":   {"decision 14", func(s *agentv1.ObjectStatus) { s.UncompressedSize = wire.MaxStatus + 1 }, "STATUS_TOO_LARGE"},
		"bytes":  {"more than declared may ever be", func(s *agentv1.ObjectStatus) { s.StatusJson = make([]byte, wire.MaxStatus+1) }, "STATUS_TOO_LARGE"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := connected("web")
			w.slowStore = true
			item := itemOf("web", "uid-1", 1, "{}")
			tc.change(item)
			w.tell(statusOf(item, itemOf("web", "uid-1", 2, "{}")))
			results := w.results()
			require.Len(t, results, 1)
			require.Equal(t, agentv1.StatusCode_STATUS_CODE_INVALID, results[0].GetCode(), tc.reason)
			require.Equal(t, tc.want, results[0].GetError().GetReason(), tc.reason)
			_, err := proto.Marshal(results[0])
			require.NoError(t, err, "it can be sent")
			require.Len(t, w.persists, 1, "the others of the batch go on")
		})
	}
}

func TestStatus_parts_become_one_status(t *testing.T) {
	w := connected("web", "db")
	w.slowStore = true
	part := func(name string, seq uint64, index uint32, text string, last bool) *agentv1.ObjectStatus {
		item := itemOf(name, "uid-1", seq, text)
		item.Part, item.LastPart, item.UncompressedSize = index, last, 9
		return item
	}
	w.tell(statusOf(part("web", 1, 0, "one", false)))
	w.tell(statusOf(part("web", 1, 1, "two", false), part("web", 1, 2, "3rd", true)))
	require.Equal(t, "onetwo3rd", string(w.persists[0].Encoded))
	require.Empty(t, w.results())

	// A part that does not belong is answered once, and the next status is fine.
	w.tell(statusOf(part("db", 2, 0, "one", false), part("db", 3, 1, "two", false), part("db", 3, 2, "3rd", true)))
	results := w.results()
	require.Len(t, results, 1)
	require.Equal(t, agentv1.StatusCode_STATUS_CODE_RETRY, results[0].GetCode())
	w.tell(statusOf(part("db", 4, 0, "one", false), part("db", 4, 1, "two", true)))
	require.Equal(t, "onetwo", string(w.persists[1].Encoded))

	// Too many bytes: the size is what is checked, whatever is declared.
	big := string(bytes.Repeat([]byte("x"), 200<<10))
	w.tell(statusOf(part("db", 5, 0, big, false)))
	w.tell(statusOf(part("db", 5, 1, big, false)))
	w.tell(statusOf(part("db", 5, 2, big, true)))
	results = w.results()
	require.Len(t, results, 1)
	require.Equal(t, agentv1.StatusCode_STATUS_CODE_INVALID, results[0].GetCode())
}

func TestStatus_memory_is_bounded_and_nothing_is_lost_by_that(t *testing.T) {
	w := connected()
	w.slowStore = true
	big := string(bytes.Repeat([]byte("x"), 300<<10))
	for i := range 40 {
		w.tell(statusOf(itemOf(string(rune('a'+i)), "uid", 1, big)))
	}
	busy := 0
	for _, r := range w.results() {
		require.Equal(t, agentv1.StatusCode_STATUS_CODE_RETRY, r.GetCode())
		require.Positive(t, r.GetRetryAfter().AsDuration())
		busy++
	}
	require.Equal(t, 40, busy+len(w.persists))
	require.LessOrEqual(t, len(w.persists)*300<<10, 4<<20)

	final := itemOf("final", "uid", 1, "")
	final.Finalized = true
	w.tell(statusOf(final))
	require.True(t, w.persists[len(w.persists)-1].Finalized, "finalized ones always have room")

	// An agent that never reads its answers.
	for range 20_000 {
		w.tell(statusOf(nil))
	}
	require.Equal(t, "SLOW_CONSUMER", w.closed.Reason)
}

// TestStatus_every_report_is_answered_once: whatever the order of reports and
// of the store's answers, each is answered exactly once, those of one object
// are stored in order, the last one wins, and a finalized one is always stored.
func TestStatus_every_report_is_answered_once(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := connected()
		w.slowStore = true
		var seq uint64
		answered := map[uint64]int{}
		stored := map[string][]uint64{}
		finalized := map[uint64]bool{}
		collect := func() {
			for _, r := range w.results() {
				answered[r.GetStatusSeq()]++
			}
		}
		persist := func() {
			if len(w.persists) == 0 {
				return
			}
			p := w.persists[0]
			w.persists = w.persists[1:]
			id := p.Key.Name + p.UID
			stored[id] = append(stored[id], p.Seq)
			delete(finalized, p.Seq)
			w.step(session.StatusDone{Key: p.Key, UID: p.UID, Seq: p.Seq, Code: agentv1.StatusCode_STATUS_CODE_PERSISTED})
		}
		last := map[string]uint64{}
		over := map[string]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"report": func(t *rapid.T) {
				name, uid := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"), rapid.SampledFrom([]string{"1", "2"}).Draw(t, "uid")
				if over[name+uid] {
					return
				}
				seq++
				item := itemOf(name, uid, seq, "{}")
				item.Finalized = rapid.IntRange(0, 4).Draw(t, "final") == 0
				if item.GetFinalized() {
					finalized[seq], over[name+uid] = true, true
				}
				last[name+uid] = seq
				w.tell(statusOf(item))
			},
			"persist": func(*rapid.T) { persist() },
			"":        func(*rapid.T) { collect() },
		})
		for len(w.persists) > 0 {
			persist()
		}
		collect()
		require.Len(t, answered, int(seq))
		for s, n := range answered {
			require.Equal(t, 1, n, "status %d", s)
		}
		for id, seqs := range stored {
			require.IsIncreasing(t, append([]uint64{0}, seqs...), id)
		}
		require.Empty(t, finalized, "finalized and not stored")
		require.Zero(t, w.core.Stats().Statuses)
		require.Equal(t, lastsOf(stored, last), last)
	})
}

// lastsOf is the last status stored of each object; one that a newer object of
// the same name superseded counts as its last.
func lastsOf(stored map[string][]uint64, last map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for id, seq := range last {
		seqs := stored[id]
		other := id[:1] + map[byte]string{'1': "2", '2': "1"}[id[1]]
		if len(seqs) > 0 && seqs[len(seqs)-1] == seq || last[other] > seq {
			out[id] = seq
		}
	}
	return out
}

// requireNoReads: the going of the object was no surprise.
func requireNoReads(t *testing.T, w *world) {
	t.Helper()
	for _, e := range w.effects {
		_, asked := e.(session.ReadQuorum)
		require.False(t, asked)
	}
}

func TestStatus_the_last_word_on_a_delete_ends_everything_about_it(t *testing.T) {
	w := connected("web")
	w.hub.remove("web")
	w.run()
	w.slowStore = true
	w.finalize()
	require.Len(t, w.persists, 1)

	// The index changes while the delete is being concluded: nothing is sent.
	w.hub.put("web", []byte("edited while it goes"), func(o *object) { o.deleting = true })
	w.run()
	require.Zero(t, w.core.Stats().UnackedObjects)

	w.slowStore = false
	w.persistAll()
	w.run()
	require.Empty(t, w.agent.holds)
	require.Equal(t, session.State{}, w.core.State(work("web")))
	requireNoReads(t, w)

	// The index sees it go before the store's answer is known.
	w = connected("web")
	w.hub.remove("web")
	w.run()
	w.slowStore = true
	w.finalize()
	w.hub.purge("web")
	w.run()
	requireNoReads(t, w)
	w.step(session.StatusDone{Key: work("web"), UID: "uid-1", Seq: 1, Code: agentv1.StatusCode_STATUS_CODE_PERSISTED})
	w.run()
	require.Equal(t, session.State{}, w.core.State(work("web")))

	// It stays for another's finalizer: not asked for again.
	w = connected("web")
	w.hub.remove("web")
	w.run()
	w.slowStore = true
	w.finalize()
	w.step(session.StatusDone{Key: work("web"), UID: "uid-1", Seq: 1, Code: agentv1.StatusCode_STATUS_CODE_PERSISTED})
	w.run()
	require.Empty(t, w.agent.holds)
	w.now = w.now.Add(time.Hour)
	w.antiEntropy()
	require.Empty(t, w.agent.holds)
	w.hub.purge("web")
	w.run()
	require.Equal(t, session.State{}, w.core.State(work("web")))
}
