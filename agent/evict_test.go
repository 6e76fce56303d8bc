// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"fairlead.dev/fairlead/agent/work/inventory"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

// evicted returns whether the AppliedManifestWork of a work says since when it
// waits for its eviction.
func (s *scene) evicted(ctx context.Context, t *testing.T, work string) bool {
	t.Helper()
	client, err := dynamic.NewForConfig(s.cfg.REST)
	require.NoError(t, err)
	hash := sha256.Sum256([]byte(hubID))
	name := inventory.Name(hex.EncodeToString(hash[:]), work)
	applied, err := client.Resource(inventory.GVRAppliedManifestWork()).Get(ctx, name, metav1.GetOptions{})
	require.NoError(t, err)
	_, found, err := unstructured.NestedString(applied.Object, "status", "evictionStartTime")
	require.NoError(t, err)
	return found
}

func (s *scene) untilEvicted(t *testing.T, work string, want bool) {
	t.Helper()
	s.until(t, "evictionStartTime", func(ctx context.Context) bool { return s.evicted(ctx, t, work) == want })
}

// TestMW62_store_lost_and_orphaned: an agent that lost its store marks what the
// hub does not have, when it has all that the hub has; the hub's own word counts
// from then on. Nothing is deleted before the grace period is over.
func TestMW62_store_lost_and_orphaned(t *testing.T) {
	t.Parallel()
	h := newFakeHub(t)
	s := newScene(t, h)
	s.cfg.DataDir = t.TempDir()
	w := s.namespace
	content := upsert(w, "u1", 1, s.work(w, "u1", 1, "one", "cm-1"))
	agent := start(t, s.cfg)
	p := h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
	p.delta(content)
	s.untilData(t, "cm-1", "one")
	p.status("Applied", applied)
	agent.stop(t)

	s.cfg.DataDir = t.TempDir()
	agent = start(t, s.cfg)
	p = h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
	other := upsert(w+"-2", "u2", 1, s.work(w+"-2", "u2", 1, "two", "cm-2"))
	p.part(other)
	s.untilData(t, "cm-2", "two") // the controller runs
	require.False(t, s.evicted(t.Context(), t, w), "the hub has not sent all that it has")
	p.delta()
	s.untilEvicted(t, w, true)
	require.False(t, s.evicted(t.Context(), t, w+"-2"))
	s.exists(t, "cm-1")

	p.delta(content)
	s.untilEvicted(t, w, false)
	p.delta(remove(w, "u1", agentv1.DeleteReason_DELETE_REASON_ORPHAN))
	s.untilEvicted(t, w, true)
	p.delta(content)
	s.untilEvicted(t, w, false)
	s.exists(t, "cm-1")
	agent.stop(t)
}
