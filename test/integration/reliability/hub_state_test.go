// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/test/env"
)

// throughProxy puts a fault proxy between the hub and its apiserver.
func throughProxy(t *testing.T, proxy **env.Proxy) func(*env.Plane) string {
	t.Helper()
	return func(plane *env.Plane) string {
		*proxy = env.StartProxy(t, plane.RESTConfig())
		file := filepath.Join(t.TempDir(), "proxy.kubeconfig")
		require.NoError(t, env.WriteKubeconfig(file, (*proxy).RESTConfig()))
		return file
	}
}

var works = env.Match{Verbs: []string{"list"}, Resources: []string{"manifestworks"}}

// TestT05_slow_LIST_deletes_nothing restarts the hub with an apiserver that
// answers its LIST late (scaled down: 10 s, 1 agent, 20 works). Until then no
// session is taken, which the agent is told, and nothing is deleted.
func TestT05_slow_LIST_deletes_nothing(t *testing.T) {
	t.Parallel()
	var proxy *env.Proxy
	w := newWorld(t, throughProxy(t, &proxy))
	agent := w.join("t5")
	for _, name := range names("t5", 20) {
		w.create("t5", name, "1")
	}
	for _, name := range names("t5", 20) {
		w.settled("t5", name, "1")
	}
	mark := w.journal.Mark()
	w.hub.Kill()
	remove := proxy.Inject(env.Fault{Match: works, Delay: 10 * time.Second})
	defer remove()
	require.NoError(t, w.hub.Launch())
	w.logged(agent.Process, "works index: not synced yet")
	require.NoError(t, w.hub.Ready(t.Context()))
	w.available("t5")
	w.create("t5", "t5-after", "1")
	w.settled("t5", "t5-after", "1")
	w.nothingGone(agent, "t5", mark)
}

// TestT06_empty_LIST_deletes_nothing has the apiserver answer the hub's first
// LIST without one of the works, and then with none: quorum reads contradict it.
func TestT06_empty_LIST_deletes_nothing(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]env.Fault{
		"one":   {Lose: []string{"t6-one-3"}}, // few enough for the agent to believe it
		"empty": {EmptyList: true},
	} {
		t.Run(name, func(t *testing.T) {
			var proxy *env.Proxy
			w := newWorld(t, throughProxy(t, &proxy))
			cluster := "t6-" + name
			agent := w.join(cluster)
			for _, name := range names(cluster, 10) {
				w.create(cluster, name, "1")
			}
			for _, name := range names(cluster, 10) {
				w.settled(cluster, name, "1")
			}
			mark := w.journal.Mark()
			w.hub.Kill()
			fault.Match, fault.Times = works, 3
			remove := proxy.Inject(fault)
			defer remove()
			require.NoError(t, w.hub.Launch())
			require.NoError(t, w.hub.Ready(t.Context()))
			w.available(cluster)
			w.create(cluster, cluster+"-after", "1")
			w.settled(cluster, cluster+"-after", "1")
			w.nothingGone(agent, cluster, mark)
		})
	}
}

// TestT07_restored_hub_holds_deletes restores the hub's etcd from a backup in
// which 4 of 10 works did not exist. The restore is noticed, the orphans are
// held, shown, and released by their batch's id.
func TestT07_restored_hub_holds_deletes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join("t7")
	for _, name := range names("t7-old", 6) {
		w.create("t7", name, "1")
		w.settled("t7", name, "1")
	}
	backup, err := w.hubPlane.Snapshot(t.Context())
	require.NoError(t, err)
	epoch := w.hubEpoch()
	for _, name := range names("t7-new", 4) {
		w.create("t7", name, "1")
		w.settled("t7", name, "1")
	}
	mark := w.journal.Mark()
	require.NoError(t, w.hubPlane.Restore(t.Context(), backup))

	w.until("a new hub epoch", func(context.Context) (bool, error) { return w.hubEpoch() != epoch, nil })
	var message string
	w.until("condition DeletesHeld", func(ctx context.Context) (bool, error) {
		cluster, err := w.clusters.ClusterV1().ManagedClusters().Get(ctx, "t7", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		c := meta.FindStatusCondition(cluster.Status.Conditions, "DeletesHeld")
		if c == nil || c.Status != metav1.ConditionTrue {
			return false, fmt.Errorf("conditions %+v", cluster.Status.Conditions)
		}
		message = c.Message
		return true, nil
	})
	t.Logf("DeletesHeld: %s", message)
	require.Empty(t, w.journal.Deletions(mark), "everything is held")

	var out string
	w.until("all four to be held as one batch", func(ctx context.Context) (bool, error) {
		out, err = w.hub.CLI(ctx, "release", "t7")
		return err == nil && containsAll(out, names("t7-new", 4)...), fmt.Errorf("release says %q (%v)", out, err) //nolint:errorlint // it may be nil
	})
	t.Logf("release t7:\n%s", out)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2, "one batch")
	for _, name := range names("t7-new", 4) {
		require.Contains(t, lines[1], name)
	}
	require.NotContains(t, lines[1], "t7-old")
	batch := strings.Fields(lines[1])[0]
	w.explained(t, "t7/t7-new-0", "its agent holds batch "+batch+", of 4 works, because ", "«fairlead release t7 "+batch+"»")
	_, err = w.hub.CLI(t.Context(), "release", "t7", batch)
	require.NoError(t, err)
	w.until("the released works to be gone", func(context.Context) (bool, error) {
		gone := w.journal.Deletions(mark)
		return len(gone) == 4, fmt.Errorf("deleted: %v", gone)
	})
	for _, e := range w.journal.Deletions(mark) {
		require.Contains(t, e, "t7-new", "exactly its keys")
	}
	for _, name := range names("t7-old", 6) {
		w.settled("t7", name, "1")
	}
}

func (w *world) hubEpoch() string {
	w.t.Helper()
	client, err := kubernetes.NewForConfig(w.hubPlane.RESTConfig())
	require.NoError(w.t, err)
	config, err := client.CoreV1().ConfigMaps(identity.HubNamespace).Get(w.t.Context(), "fairlead-hub", metav1.GetOptions{})
	require.NoError(w.t, err)
	return config.Data["hub-epoch"]
}
