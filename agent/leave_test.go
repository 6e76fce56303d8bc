// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// TestLeaving_and_back: what works applied goes when the hub has removed the
// cluster, with no report of it; once the cluster is back the hub hears of every
// work that is gone, or it would wait for ever.
func TestLeaving_and_back(t *testing.T) {
	t.Parallel()
	h := newFakeHub(t)
	s := newScene(t, h)
	s.cfg.DataDir, s.cfg.OnDetach = t.TempDir(), OnDetachDelete
	w := s.namespace
	a, err := New(s.cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- a.Run(ctx) }()
	p := h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
	p.delta(upsert(w, "u1", 1, s.work(w, "u1", 1, "one", "cm-1")))
	s.untilData(t, "cm-1", "one")
	a.ended(reason.Kicked)
	a.ended(reason.ClusterRemoved)
	s.untilGone(t, "cm-1")
	s.until(t, "the store to be empty", func(context.Context) bool { return len(a.store.Snapshot().Entries) == 0 })

	again := w + "-2"
	p.delta(upsert(again, "u2", 1, s.work(again, "u2", 1, "two", "cm-2")))
	s.untilData(t, "cm-2", "two")
	p.delta(remove(again, "u2", agentv1.DeleteReason_DELETE_REASON_REQUESTED))
	p.status("finalized", func(item *agentv1.ObjectStatus) bool { return item.GetFinalized() && item.GetUid() == "u2" })
	r.stop(t)
}
