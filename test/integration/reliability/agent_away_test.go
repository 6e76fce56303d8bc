// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"fairlead.dev/fairlead/test/netfault/check"
)

// TestT13_metadata_only_changes_arrive changes a label, an annotation and a
// finalizer of a work while the agent is away. They do not raise the generation,
// and still have to be delivered: the digest covers the whole content.
func TestT13_metadata_only_changes_arrive(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t)
	agent := w.join("t13")
	changes := map[string]string{
		"t13-label":      `{"metadata":{"labels":{"team":"blue"}}}`,
		"t13-annotation": `{"metadata":{"annotations":{"note":"changed"}}}`,
		"t13-finalizer":  `{"metadata":{"finalizers":["cluster.open-cluster-management.io/manifest-work-cleanup","example.com/other"]}}`,
	}
	for name := range changes {
		w.create("t13", name, "1")
		w.settled("t13", name, "1")
	}
	agent.Kill()
	mark := w.journal.Mark()
	for name, patch := range changes {
		work, err := w.works.WorkV1().ManifestWorks("t13").Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		require.NoError(t, err)
		require.EqualValues(t, 1, work.Generation, "the generation does not tell")
	}
	require.NoError(t, agent.Launch())
	w.until("each of them to be stored by the new process", func(ctx context.Context) (bool, error) {
		stored, err := agent.Metric(ctx, "fairlead_agent_objects_total", `code="STORED"`)
		if err != nil {
			return false, err
		}
		return stored >= float64(len(changes)), fmt.Errorf("it has stored %v", stored)
	})
	require.Empty(t, w.journal.Since(mark, ""), "what was applied is the same, so nothing is written on the spoke")
}

// TestT09_recreated_names deletes and recreates one name again and again while
// the agent is killed and the hub restarted at random (scaled down: 25 rounds).
func TestT09_recreated_names(t *testing.T) {
	t.Parallel()
	const rounds = 25
	w := sharedWorld(t)
	agent := w.join("t9")
	dice := rand.New(rand.NewPCG(9, 9))
	mark := w.journal.Mark()
	for round := range rounds {
		value := strconv.Itoa(round)
		w.create("t9", "t9-same", value)
		if dice.IntN(4) == 0 {
			w.settled("t9", "t9-same", value)
		}
		switch dice.IntN(6) {
		case 0:
			agent.Kill()
			require.NoError(t, agent.Launch())
		case 1:
			_, err := w.hub.CLI(t.Context(), "kick", "t9")
			t.Logf("round %d: kick: %v", round, err) // there may be no session at this moment
		}
		require.NoError(t, w.works.WorkV1().ManifestWorks("t9").Delete(t.Context(), "t9-same", metav1.DeleteOptions{}))
		w.until("the work to be gone", func(ctx context.Context) (bool, error) {
			_, err := w.works.WorkV1().ManifestWorks("t9").Get(ctx, "t9-same", metav1.GetOptions{})
			return apierrors.IsNotFound(err), err
		})
	}
	w.create("t9", "t9-same", "last")
	w.settled("t9", "t9-same", "last")
	requireNoResurrection(t, w.journal.Since(mark, "t9-same"))
}

// requireNoResurrection checks the journal of one name: values only rise, and
// each object is deleted at most once and never after its successor came.
func requireNoResurrection(t *testing.T, entries []check.Entry) {
	t.Helper()
	var alive types.UID
	last := -1
	for i, e := range entries {
		switch e.What { //nolint:exhaustive // only what appears or goes counts
		case watch.Added:
			require.Empty(t, alive, "entry %d: %+v came while another was there", i, e)
			alive = e.UID
		case watch.Deleted:
			require.Equal(t, alive, e.UID, "entry %d: a delete hit another object", i)
			alive = ""
			continue
		}
		value := last
		if e.Value != "last" {
			_, err := fmt.Sscan(e.Value, &value)
			require.NoError(t, err)
		}
		require.GreaterOrEqual(t, value, last, "entry %d: an older work came back", i)
		last = value
	}
	require.NotEmpty(t, alive)
}

// TestSIGKILL_under_load kills hub and agent at random while works change:
// nothing is deleted, everything arrives, and it comes back without a human.
func TestSIGKILL_under_load(t *testing.T) {
	t.Parallel()
	const count, rounds = 15, 8
	w := newWorld(t, nil)
	agent := w.join("kill")
	for _, name := range names("kill", count) {
		w.create("kill", name, "0")
	}
	for _, name := range names("kill", count) {
		w.settled("kill", name, "0")
	}
	mark := w.journal.Mark()
	dice := rand.New(rand.NewPCG(7, 7))
	last := map[string]string{}
	for round := range rounds {
		for _, name := range names("kill", count) {
			if dice.IntN(2) == 0 {
				last[name] = strconv.Itoa(round + 1)
				w.update("kill", name, last[name])
			}
		}
		if dice.IntN(2) == 0 {
			agent.Kill()
			require.NoError(t, agent.Launch())
		} else {
			w.hub.Kill()
			require.NoError(t, w.hub.Launch())
		}
	}
	require.NoError(t, w.hub.Ready(t.Context()))
	for name, value := range last {
		w.settled("kill", name, value)
	}
	requireAppliedOnce(t, w.journal.Since(mark, ""))
	w.nothingGone(agent, "kill", mark)
}

// requireAppliedOnce checks that no value was written twice or went back.
func requireAppliedOnce(t *testing.T, entries []check.Entry) {
	t.Helper()
	seen := map[string]int{}
	for i, e := range entries {
		require.Equal(t, watch.Modified, e.What, "entry %d: %+v", i, e)
		var value int
		_, err := fmt.Sscan(e.Value, &value)
		require.NoError(t, err)
		require.Greater(t, value, seen[e.Name], "entry %d: %s was written again or went back", i, e.Name)
		seen[e.Name] = value
	}
}

func (w *world) update(cluster, name, value string) {
	w.t.Helper()
	w.until("the update of "+name, func(ctx context.Context) (bool, error) {
		work, err := w.works.WorkV1().ManifestWorks(cluster).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		work.Spec = newWork(name, value).Spec
		_, err = w.works.WorkV1().ManifestWorks(cluster).Update(ctx, work, metav1.UpdateOptions{})
		return err == nil, err
	})
}

// TestDriftIsHealedWithTheHubGone kills the hub, restarts the agent, and sees
// drift corrected from what the agent had stored.
func TestDriftIsHealedWithTheHubGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	agent := w.join("drift")
	w.create("drift", "drift-w", "right")
	w.settled("drift", "drift-w", "right")
	w.hub.Kill()
	change := func(value string) {
		began := time.Now()
		patch := fmt.Appendf(nil, `{"data":{"value":%q}}`, value)
		_, err := w.kube.CoreV1().ConfigMaps("default").Patch(t.Context(), "drift-w", types.MergePatchType, patch, metav1.PatchOptions{})
		require.NoError(t, err)
		w.until("the drift to be healed", func(ctx context.Context) (bool, error) {
			object, err := w.kube.CoreV1().ConfigMaps("default").Get(ctx, "drift-w", metav1.GetOptions{})
			return err == nil && object.Data["value"] == "right", err
		})
		t.Logf("%q healed in %s", value, time.Since(began).Round(time.Millisecond))
	}
	change("wrong")
	agent.Kill()
	require.NoError(t, agent.Launch())
	change("wrong after a restart")
	t.Run("RQ-11_converges_when_the_hub_is_back", func(t *testing.T) {
		require.NoError(t, w.hub.Launch())
		require.NoError(t, w.hub.Ready(t.Context()))
		w.available("drift")
	})
}
