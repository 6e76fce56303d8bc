// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/store"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/agent"
	"fairlead.dev/fairlead/server/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fill delivers n works and forgets that they were.
func fill(t *testing.T, h *hub, s *spoke, n int) {
	t.Helper()
	for _, name := range names("w", n) {
		h.put(name, "content of "+name)
	}
	s.settle()
	require.Len(t, s.delivered(), n)
}

// TestT03_many_edits_are_one_delivery edits works again and again while the
// agent is away; what comes back is each one's newest, once.
func TestT03_many_edits_are_one_delivery(t *testing.T) {
	bubble(t, func(t *testing.T, h *hub, s *spoke) {
		fill(t, h, s, 5)
		s.stop()
		for round := range 1000 {
			for _, name := range names("w", 5) {
				h.put(name, fmt.Sprint(name, round))
			}
		}
		s.start()
		s.settle()
		require.ElementsMatch(t, names("w", 5), s.delivered())
		object, _, err := s.store.Get(work("w-3"))
		require.NoError(t, err)
		require.Equal(t, "w-3999", string(object.Content))
	})
}

// TestReconnectInSync: what is held is not sent again, whoever restarts.
func TestReconnectInSync(t *testing.T) {
	bubble(t, func(t *testing.T, h *hub, s *spoke) {
		fill(t, h, s, 200)
		s.stop()
		s.start()
		s.settle()
		require.Empty(t, s.delivered(), "the agent restarted")
		h.service.Sessions().EndAll(reason.HubOverloaded, "again", 0)
		s.until("a new session", func() bool { return s.link.State().Connected && s.link.State().Epoch > 2 })
		s.settle()
		require.Empty(t, s.delivered(), "the session was cut")
		h.put("w-7", "changed")
		s.settle()
		require.Equal(t, []string{"w-7"}, s.delivered())
	})
}

// TestOrphanWaitsItsGrace: one object that vanished from the hub is deleted
// after an hour, and not at all if it comes back.
func TestOrphanWaitsItsGrace(t *testing.T) {
	bubble(t, func(t *testing.T, h *hub, s *spoke) {
		fill(t, h, s, 20)
		h.lose("w-1")
		h.lose("w-2")
		s.wait(50 * time.Minute)
		h.put("w-2", "back again")
		s.settle()
		_, deletion := s.has("w-1")
		require.Equal(t, store.DeleteNone, deletion, "not before its time")
		began := time.Now()
		s.until("the grace to end", func() bool { _, d := s.has("w-1"); return d == store.DeleteOrphaned })
		require.InDelta(t, (9 * time.Minute).Seconds(), time.Since(began).Seconds(), 90)
		s.wait(2 * time.Hour)
		_, deletion = s.has("w-2")
		require.Equal(t, store.DeleteNone, deletion, "it came back, so it stays")
	})
}

// TestManyOrphansAreHeld: more than a fifth of what the agent has vanishes at
// once; it is held, shown at the hub, and released by the batch's id alone.
func TestManyOrphansAreHeld(t *testing.T) {
	bubble(t, func(t *testing.T, h *hub, s *spoke) {
		fill(t, h, s, 20)
		s.stop()
		for _, name := range names("w", 6) {
			h.lose(name)
		}
		s.start()
		s.settle()
		s.wait(48 * time.Hour)
		for _, name := range names("w", 6) {
			held, deletion := s.has(name)
			require.True(t, held)
			require.Equal(t, store.DeleteHeld, deletion, name)
		}
		batches, known := h.service.Sessions().Held("c1")
		require.True(t, known)
		require.Len(t, batches, 1)
		require.Len(t, batches[0].GetEntries(), 6)
		h.see(func() { require.Equal(t, 6, h.held[len(h.held)-1].Objects) })

		require.NoError(t, h.service.Sessions().ReleaseHold("c1", "another"))
		s.settle()
		_, deletion := s.has("w-0")
		require.Equal(t, store.DeleteHeld, deletion, "another id releases nothing")
		require.NoError(t, h.service.Sessions().ReleaseHold("c1", batches[0].GetBatchId()))
		s.until("the release to be acted on", func() bool { _, d := s.has("w-0"); return d == store.DeleteOrphaned })
		_, deletion = s.has("w-10")
		require.Equal(t, store.DeleteNone, deletion, "nothing else goes")
	})
}

// TestRestoredHubHoldsEvenOne: after a new hub epoch a single orphan is held.
func TestRestoredHubHoldsEvenOne(t *testing.T) {
	bubble(t, func(t *testing.T, h *hub, s *spoke) {
		fill(t, h, s, 20)
		h.see(func() {
			delete(h.objects, work("w-4"))
			restored := *h.hub
			restored.Epoch = "epoch-2"
			h.hub = &restored
		})
		h.service.Sessions().EndAll(reason.HubRestored, "the hub went back in time", 0)
		s.until("the orphan to be held", func() bool { _, d := s.has("w-4"); return d == store.DeleteHeld })
		require.Empty(t, s.delivered(), "what is equal is not sent again")
		require.Equal(t, "epoch-2", s.store.Snapshot().HubEpoch, "what was confirmed takes the new epoch")
	})
}

// TestRequestedDeleteSurvivesARestart: the delete that the agent acknowledged is
// there after SIGKILL, and the hub sends nothing again in the meantime.
func TestRequestedDeleteSurvivesARestart(t *testing.T) {
	bubble(t, func(t *testing.T, h *hub, s *spoke) {
		fill(t, h, s, 3)
		h.change("w-0", func(objects map[wire.Key]session.Content, key wire.Key) {
			c := objects[key]
			c.Deleting, c.Bytes, c.Revision.Digest = true, nil, wire.DeletingDigest(c.Revision.UID)
			c.Revision.Generation++
			objects[key] = c
		})
		s.until("the delete to be stored", func() bool { _, d := s.has("w-0"); return d == store.DeleteRequested })
		s.stop()
		s.start()
		_, deletion := s.has("w-0")
		require.Equal(t, store.DeleteRequested, deletion)
		s.link.Report(link.Status{Key: work("w-0"), UID: "uid-w-0", Finalized: true})
		s.until("the hub to hear of it", func() bool {
			finalized := false
			h.see(func() { finalized = len(h.statuses) == 1 && h.statuses[0].Finalized && h.statuses[0].UID == "uid-w-0" })
			return finalized
		})
		s.until("the agent to forget", func() bool { held, _ := s.has("w-0"); return !held })
	})
}

// TestStatusIsKeptUntilPersisted: an answer RETRY keeps the status; the newest
// one is what arrives.
func TestStatusIsKeptUntilPersisted(t *testing.T) {
	bubble(t, func(t *testing.T, h *hub, s *spoke) {
		fill(t, h, s, 1)
		retry := agent.Answer{Code: agentv1.StatusCode_STATUS_CODE_RETRY, Reason: reason.HubOverloaded, RetryAfter: 5 * time.Second}
		h.see(func() { h.answers = []agent.Answer{retry, retry} })
		report := func(value string) {
			s.link.Report(link.Status{Key: work("w-0"), UID: "uid-w-0", ObservedGeneration: 1, JSON: fmt.Appendf(nil, `{"v":%q}`, value)})
		}
		report("old")
		s.wait(time.Second)
		report("new")
		s.settle()
		h.see(func() {
			require.JSONEq(t, `{"v":"new"}`, string(h.statuses[len(h.statuses)-1].JSON))
			require.LessOrEqual(t, len(h.statuses), 4)
			h.statuses = nil
		})
		report("new")
		s.settle()
		h.see(func() { require.Empty(t, h.statuses, "what was persisted is not sent again") })
	})
}

// TestLargeObjectArrivesWhole: parts travel and come together, byte for byte.
func TestLargeObjectArrivesWhole(t *testing.T) {
	bubble(t, func(t *testing.T, h *hub, s *spoke) {
		large := make([]byte, 900<<10)
		for i := range large {
			large[i] = byte(i * 7)
		}
		h.put("large", string(large))
		h.put("small", "x")
		s.until("both to arrive", func() bool {
			l, _ := s.has("large")
			m, _ := s.has("small")
			return l && m
		})
		object, _, err := s.store.Get(work("large"))
		require.NoError(t, err)
		require.Equal(t, large, object.Content)
	})
}
