// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/house"
)

func containsAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

func (w *world) sessions(ctx context.Context, cluster string) (string, error) {
	return w.hub.CLI(ctx, "get", "sessions", cluster, "-o", "name")
}

// logged waits until a process has written a text to its log.
func (w *world) logged(p *house.Process, text string) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s to log %q", p.Name, text), func(context.Context) (bool, error) {
		raw, err := os.ReadFile(p.Log)
		return strings.Contains(string(raw), text), err
	})
}

// TestT45_revocation_ends_the_session denies a cluster in the middle of its
// session: the session ends at once, and the agent is told why (one replica).
func TestT45_revocation_ends_the_session(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t)
	agent := w.join("t45")
	w.create("t45", "t45-w", "1")
	w.settled("t45", "t45-w", "1")
	mark := w.journal.Mark()
	began := time.Now()
	_, err := w.clusters.ClusterV1().ManagedClusters().Patch(t.Context(), "t45", types.MergePatchType, []byte(`{"spec":{"hubAcceptsClient":false}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	w.until("the session to end", func(ctx context.Context) (bool, error) {
		out, err := w.sessions(ctx, "t45")
		return err == nil && strings.TrimSpace(out) == "none" || out == "", err
	})
	t.Logf("the session was gone after %s", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), house.Scaled(30*time.Second, 5*time.Second))
	w.logged(agent.Process, reason.NotAccepted)
	require.Empty(t, w.journal.Since(mark, ""), "workloads are untouched")
}

// TestT62_old_certificate_of_a_recreated_cluster deletes a ManagedCluster and
// makes one of the same name: the old certificate is of another cluster.
func TestT62_old_certificate_of_a_recreated_cluster(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t)
	agent := w.join("t62")
	w.create("t62", "t62-w", "1")
	w.settled("t62", "t62-w", "1")
	agent.Kill()
	w.remove("t62")
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: "t62"}, Spec: clusterv1.ManagedClusterSpec{HubAcceptsClient: true}}
	_, err := w.clusters.ClusterV1().ManagedClusters().Create(t.Context(), cluster, metav1.CreateOptions{})
	require.NoError(t, err)
	w.until("the new cluster to be accepted", func(ctx context.Context) (bool, error) {
		c, err := w.clusters.ClusterV1().ManagedClusters().Get(ctx, "t62", metav1.GetOptions{})
		return err == nil && meta.IsStatusConditionTrue(c.Status.Conditions, clusterv1.ManagedClusterConditionHubAccepted), err
	})
	mark := w.journal.Mark()
	require.NoError(t, agent.Launch())
	w.logged(agent.Process, reason.UIDMismatch)
	out, err := w.sessions(t.Context(), "t62")
	require.NoError(t, err)
	require.Empty(t, strings.TrimSpace(out))
	require.Empty(t, w.journal.Since(mark, ""), "nothing is removed because of it")
}

// remove deletes a ManagedCluster and its works, without its agent's help.
func (w *world) remove(name string) {
	w.t.Helper()
	ctx := w.t.Context()
	require.NoError(w.t, w.clusters.ClusterV1().ManagedClusters().Delete(ctx, name, metav1.DeleteOptions{}))
	list, err := w.works.WorkV1().ManifestWorks(name).List(ctx, metav1.ListOptions{})
	require.NoError(w.t, err)
	for _, work := range list.Items {
		require.NoError(w.t, w.works.WorkV1().ManifestWorks(name).Delete(ctx, work.Name, metav1.DeleteOptions{}))
		_, err := w.works.WorkV1().ManifestWorks(name).Patch(ctx, work.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		require.NoError(w.t, err)
	}
	w.until("the cluster to be gone", func(ctx context.Context) (bool, error) {
		_, err := w.clusters.ClusterV1().ManagedClusters().Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
}
