// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func statusOf(name string, generation int64, text string) Status {
	raw := fmt.Appendf(nil, `{"conditions":[{"message":%q,"type":"Applied"}]}`, text)
	return Status{Key: work1(name), UID: "uid-" + name, ObservedGeneration: generation, ObservedDigest: wire.Digest{1}, JSON: raw}
}

func TestStatusIsSentUntilPersisted(t *testing.T) {
	inBubble(t, func(b *bench) {
		h, p := b.connected()
		stop := p.heartbeats()
		b.link.Report(statusOf("a", 1, "one"))
		item := p.status().GetItems()[0]
		require.Equal(t, "uid-a", item.GetUid())
		require.EqualValues(t, 1, item.GetObservedGeneration())
		require.True(t, item.GetLastPart())

		began := time.Now()
		p.answer(item, agentv1.StatusCode_STATUS_CODE_RETRY, 7*time.Second)
		again := p.status().GetItems()[0]
		require.Equal(t, 7*time.Second, time.Since(began), "RETRY keeps it, and names the wait")
		require.Greater(t, again.GetStatusSeq(), item.GetStatusSeq())

		b.link.Report(statusOf("a", 1, "two"))
		newer := p.status().GetItems()[0]
		require.Contains(t, string(newer.GetStatusJson()), "two")
		p.answer(again, agentv1.StatusCode_STATUS_CODE_PERSISTED, 0)
		synctest.Wait()
		require.Equal(t, 1, b.link.statuses.unanswered(), "an answer to the older one does not settle the newer one")
		p.answer(newer, agentv1.StatusCode_STATUS_CODE_PERSISTED, 0)
		synctest.Wait()
		require.Zero(t, b.link.statuses.unanswered())

		b.link.Report(statusOf("a", 1, "two"))
		require.Zero(t, b.link.statuses.unanswered(), "equal to the last persisted one: nothing to send")
		b.link.Report(statusOf("b", 1, "three"))
		p.status()
		stop()
		b.store.hold("a")
		time.Sleep(11 * time.Second)
		p.end <- nil

		p = h.accept()
		want := wire.Summarize([]wire.Entry{{Key: work1("a"), Revision: wire.Revision{UID: "uid-a", Digest: mustDigest(t, statusOf("a", 1, "two").JSON)}}}).Root()
		require.Equal(t, want[:], p.hello.GetResume().GetStatusRoot())
		p.welcome()
		require.Equal(t, "b", p.status().GetItems()[0].GetKey().GetName(), "what was not answered is sent again")
	})
}

func mustDigest(t *testing.T, raw []byte) wire.Digest {
	t.Helper()
	digest, err := wire.StatusDigest(raw)
	require.NoError(t, err)
	return digest
}

func TestResendStatuses(t *testing.T) {
	inBubble(t, func(b *bench) {
		h, p := b.connected()
		b.link.Report(statusOf("a", 1, "one"))
		p.answer(p.status().GetItems()[0], agentv1.StatusCode_STATUS_CODE_PERSISTED, 0)
		time.Sleep(11 * time.Second)
		p.end <- nil
		p = h.accept()
		p.welcome(func(w *agentv1.Welcome) { w.ResendStatuses = true })
		synctest.Wait()
		require.Equal(t, 1, b.resends)
		b.link.Report(statusOf("a", 1, "one"))
		require.Equal(t, "a", p.status().GetItems()[0].GetKey().GetName(), "nothing counts as persisted any more")
	})
}

func TestStatusAnswers(t *testing.T) {
	tests := map[string]struct {
		reason string
		code   agentv1.StatusCode
		again  bool // in this session
		next   bool // in the next one
	}{
		"superseded": {reason: "the hub has a newer one", code: agentv1.StatusCode_STATUS_CODE_SUPERSEDED},
		"stale":      {reason: "the object is another one now, until a restore", code: agentv1.StatusCode_STATUS_CODE_STALE_UID, next: true},
		"invalid":    {reason: "not again before something changes", code: agentv1.StatusCode_STATUS_CODE_INVALID, next: true},
		"retry":      {reason: "later", code: agentv1.StatusCode_STATUS_CODE_RETRY, again: true, next: true},
		"unknown":    {reason: "a code of a later protocol is taken as later", code: 99, again: true, next: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStatuses()
			status := statusOf("a", 1, "one")
			require.True(t, s.report(status, mustDigest(t, status.JSON)))
			now := time.Unix(1000, 0)
			items, _ := s.take(now, false)
			require.Len(t, items, 1)
			require.Nil(t, s.answer(&agentv1.StatusResult{Key: items[0].GetKey(), StatusSeq: items[0].GetStatusSeq(), Code: tc.code}, now))
			items, wait := s.take(now.Add(time.Hour), false)
			require.Equal(t, tc.again, len(items) == 1, tc.reason)
			require.Zero(t, wait)
			s.begin(false)
			items, _ = s.take(now, false)
			require.Equal(t, tc.next, len(items) == 1, tc.reason)
		})
	}
}

func TestT19_finalized_goes_first_and_is_forgotten_after_PERSISTED(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.store.forgets = 1
		_, p := b.connected()
		stop := p.heartbeats()
		defer stop()
		p.directive(&agentv1.Directive{Directive: &agentv1.Directive_Throttle{Throttle: &agentv1.Throttle{StatusInterval: durationpb.New(30 * time.Second)}}})
		synctest.Wait()
		b.link.Report(statusOf("other", 1, "one"))
		p.status()
		for i := range 200 {
			b.link.Report(statusOf(fmt.Sprintf("w%d", i), 1, "waits"))
		}
		began := time.Now()
		b.link.Report(Status{Key: work1("a"), UID: "uid-a", Finalized: true})
		batch := p.status()
		require.Zero(t, time.Since(began), "never throttled")
		require.True(t, batch.GetItems()[0].GetFinalized())
		require.Len(t, batch.GetItems(), 1)
		late := statusOf("a", 1, "of an object before")
		late.UID = "uid-before"
		b.link.Report(late) // does not take its place
		require.Empty(t, b.store.forgot, "not before PERSISTED")
		p.answer(batch.GetItems()[0], agentv1.StatusCode_STATUS_CODE_RETRY, 0)
		var final *agentv1.ObjectStatus
		for final == nil {
			for _, item := range p.status().GetItems() {
				if item.GetFinalized() {
					final = item
				}
			}
		}
		p.answer(final, agentv1.StatusCode_STATUS_CODE_PERSISTED, 0)
		synctest.Wait()
		require.Empty(t, b.store.forgot, "the first try fails")
		for final = nil; final == nil; {
			for _, item := range p.status().GetItems() {
				if item.GetFinalized() {
					final = item
				}
			}
		}
		p.answer(final, agentv1.StatusCode_STATUS_CODE_STALE_UID, 0)
		synctest.Wait()
		require.Equal(t, []string{"a/uid-a"}, b.store.forgot, "reported again until it is forgotten durably")
	})
}

// Two objects of one name may go at once: a new one came and went before it was held.
func TestEachObjectOfANameIsFinalized(t *testing.T) {
	s, now := newStatuses(), time.Unix(1000, 0)
	for _, uid := range []string{"uid-1", "uid-2", "uid-1"} {
		s.report(Status{Key: work1("a"), UID: uid, Finalized: true}, wire.Digest{})
	}
	var done []string
	for range 2 {
		items, _ := s.take(now, true)
		require.Len(t, items, 1, "one of a name in a frame")
		of := s.answer(&agentv1.StatusResult{Key: items[0].GetKey(), StatusSeq: items[0].GetStatusSeq(), Code: agentv1.StatusCode_STATUS_CODE_PERSISTED}, now)
		done = append(done, of.uid)
	}
	require.ElementsMatch(t, []string{"uid-1", "uid-2"}, done)
	require.Zero(t, s.unanswered())
	require.Empty(t, s.under)
}

func TestWantedAgainIsNotFinalized(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, p := b.connected()
		stop := p.heartbeats()
		defer stop()
		b.link.Report(Status{Key: work1("a"), UID: "uid-a", Finalized: true})
		b.link.Report(Status{Key: work1("b"), UID: "uid-b", Finalized: true})
		sent := map[string]*agentv1.ObjectStatus{}
		for len(sent) < 2 {
			for _, item := range p.status().GetItems() {
				sent[item.GetUid()] = item
			}
		}
		p.delta(upsert("a", 1, []byte("restored")))
		require.Equal(t, agentv1.AckCode_ACK_CODE_STORED, p.ack().GetObjects()[0].GetCode())
		p.answer(sent["uid-a"], agentv1.StatusCode_STATUS_CODE_RETRY, time.Second)
		p.answer(sent["uid-b"], agentv1.StatusCode_STATUS_CODE_RETRY, time.Second)
		again := p.status()
		require.Len(t, again.GetItems(), 1)
		require.Equal(t, "uid-b", again.GetItems()[0].GetUid(), "what the hub sent again is not deleted")
		p.answer(sent["uid-a"], agentv1.StatusCode_STATUS_CODE_PERSISTED, 0)
		p.answer(again.GetItems()[0], agentv1.StatusCode_STATUS_CODE_PERSISTED, 0)
		synctest.Wait()
		require.Equal(t, []string{"b/uid-b"}, b.store.forgot)
	})
}

func TestThrottle(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, p := b.connected()
		stop := p.heartbeats()
		defer stop()
		p.directive(&agentv1.Directive{Directive: &agentv1.Directive_Throttle{Throttle: &agentv1.Throttle{StatusInterval: durationpb.New(10 * time.Second)}}})
		synctest.Wait()
		b.link.Report(statusOf("a", 1, "one"))
		p.status()
		began := time.Now()
		for i := range 50 {
			b.link.Report(statusOf("a", 1, strconv.Itoa(i)))
		}
		require.Contains(t, string(p.status().GetItems()[0].GetStatusJson()), "49", "only the newest")
		require.Equal(t, 10*time.Second, time.Since(began))
	})
}

func TestBigStatusComesInParts(t *testing.T) {
	inBubble(t, func(b *bench) {
		c, err := codec.New(wire.MaxStatus)
		require.NoError(t, err)
		_, p := b.connected()
		text := make([]byte, 0, wire.MaxStatus/2)
		for _, v := range noise(wire.MaxStatus * 3 / 8) {
			text = fmt.Appendf(text, "%02x", v)
		}
		big := statusOf("big", 1, string(text))
		b.link.Report(big)
		b.link.Report(statusOf("small", 1, "one"))
		var packed []byte
		var last *agentv1.ObjectStatus
		for small := false; last == nil || !small; {
			batch := p.status()
			require.LessOrEqual(t, len(batch.GetItems()[0].GetStatusJson()), wire.MaxPart)
			for _, item := range batch.GetItems() {
				if item.GetKey().GetName() == "small" {
					small = true
					continue
				}
				packed = append(packed, item.GetStatusJson()...)
				if item.GetLastPart() {
					last = item
				}
			}
		}
		whole := packed
		if last.GetEncoding() == agentv1.Encoding_ENCODING_ZSTD {
			whole, err = c.Decompress(packed, last.GetUncompressedSize())
			require.NoError(t, err)
		}
		require.EqualValues(t, len(big.JSON), last.GetUncompressedSize())
		require.True(t, bytes.Equal(big.JSON, whole))

		b.link.Report(Status{Key: work1("huge"), UID: "u", JSON: fmt.Appendf(nil, "{\"a\":%q}", make([]byte, wire.MaxStatus))})
		require.Equal(t, 2, b.link.statuses.unanswered(), "more than a status may have is refused here")
	})
}

func TestT14_hub_that_does_not_read_is_left(t *testing.T) {
	inBubble(t, func(b *bench) {
		h := b.hub("hub-0:443")
		h.deaf = true
		b.start()
		p := h.accept()
		p.welcome()
		stop := p.heartbeats()
		began := time.Now()
		for i := range 40 {
			b.link.Report(statusOf(fmt.Sprintf("w%d", i), 1, string(bytes.Repeat([]byte("m"), 100_000))))
		}
		p.gone()
		stop()
		require.GreaterOrEqual(t, time.Since(began), sendStall)
		require.Less(t, time.Since(began), sendStall+time.Minute)
		h.setRefuse(nil)
		h.mu.Lock()
		h.deaf = false
		h.mu.Unlock()
		p = h.accept()
		p.welcome()
		for seen := map[string]bool{}; len(seen) < 40; {
			for _, item := range p.status().GetItems() {
				seen[item.GetKey().GetName()] = true
			}
		}
	})
}

func TestManyStatusesFillFrames(t *testing.T) {
	inBubble(t, func(b *bench) {
		h := b.hub("hub-0:443")
		b.start()
		for i := range 2000 {
			b.link.Report(statusOf(fmt.Sprintf("w%d", i), 1, string(bytes.Repeat([]byte("m"), 1000))))
		}
		p := h.accept()
		p.welcome()
		frames := 0
		for seen := map[string]bool{}; len(seen) < 2000; frames++ {
			for _, item := range p.status().GetItems() {
				require.False(t, seen[item.GetKey().GetName()], "each once")
				seen[item.GetKey().GetName()] = true
			}
		}
		require.Less(t, frames, 40)
	})
}

func TestT83_requested_delete_of_an_object_never_held_is_finalized(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.store.held[work1("a")] = revision("uid-1", 1, []byte("held"))
		_, p := b.connected()
		p.delta(remove("a", "uid-2", agentv1.DeleteReason_DELETE_REASON_REQUESTED))
		final := p.status().GetItems()[0]
		require.Equal(t, "uid-2", final.GetUid())
		require.True(t, final.GetFinalized(), "nothing of it was ever applied: the hub need not wait")
		require.Empty(t, b.store.deletes, "and what is held under that name stays")
	})
}
