// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/sha256"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/store"
	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/internal/wire"
)

// TestOutbound_what_is_wanted_again_is_not_finalized: the hub is restored to before a
// work was deleted while the spoke still takes it away. That nothing is left is not
// true any more, and would let the hub forget the work at its next deletion.
func TestOutbound_what_is_wanted_again_is_not_finalized(t *testing.T) {
	s, log := openStore(t)
	content := []byte(`{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"w","uid":"u"}}`)
	revision := wire.Revision{UID: "u", Generation: 1, Digest: sha256.Sum256(content), Size: uint64(len(content))}
	out := newOutbound(s, log)
	var told []link.Status
	out.report = func(status link.Status) { told = append(told, status) }
	final := work.Report{Name: "w", UID: "u", Finalized: true}

	require.NoError(t, s.Put(t.Context(), workKey("w"), revision, content))
	_, err := s.Request(t.Context(), workKey("w"), "u", 2)
	require.NoError(t, err)
	out.Report(final)
	require.Len(t, told, 1, "it was to be deleted")
	require.NoError(t, s.Put(t.Context(), workKey("w"), revision, content))
	out.Report(final)
	require.Len(t, told, 1, "it is wanted again")
	require.NoError(t, s.Drop(t.Context(), workKey("w"), revision))
	out.Report(final)
	require.Len(t, told, 2, "what is not held is for the hub to say")
}

func openStore(t *testing.T) (*store.Store, *slog.Logger) {
	t.Helper()
	backend, err := store.NewFiles(t.TempDir())
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	s, err := store.Open(t.Context(), store.Config{Backend: backend, Log: log, Clock: clock.RealClock{}})
	require.NoError(t, err)
	require.NoError(t, s.Welcomed(t.Context(), store.Hub{ID: "hub-1", Epoch: "e1"}))
	return s, log
}

// TestT61_a_superseded_instance_leaves_the_spoke_alone: while another instance
// has the session there is nothing to apply, and with the next session there is
// again.
func TestT61_a_superseded_instance_leaves_the_spoke_alone(t *testing.T) {
	s, log := openStore(t)
	content := []byte(`{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"w","uid":"u"}}`)
	revision := wire.Revision{UID: "u", Generation: 1, Digest: sha256.Sum256(content), Size: uint64(len(content))}
	require.NoError(t, s.Put(t.Context(), workKey("w"), revision, content))

	out, superseded := newOutbound(s, log), false
	out.superseded = func() bool { return superseded }
	_, ok := out.Get("w")
	require.True(t, ok)
	require.False(t, out.resumed(), "nothing was left alone")

	superseded = true
	_, ok = out.Get("w")
	require.False(t, ok, "it is the other one's to apply")

	superseded = false
	require.True(t, out.resumed(), "so that everything is looked at")
	require.False(t, out.resumed(), "once")
	_, ok = out.Get("w")
	require.True(t, ok)
}
