// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/clock"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/controller/replicaset"
)

// explained follows a rollout that goes on, stops, loses a cluster, and loses its
// decisions.
func explained(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.placement("p", w.clusters)
	s := w.set("s", func(s *workv1alpha1.ManifestWorkReplicaSet) {
		s.Spec.PlacementRefs[0].RolloutStrategy = clusterv1alpha1.RolloutStrategy{
			Type: clusterv1alpha1.Progressive, Progressive: &clusterv1alpha1.RolloutProgressive{MaxConcurrency: intstr.FromInt32(1)},
		}
	}, "p")
	first, second, third := w.clusters[0], w.clusters[1], w.clusters[2]
	const full = "ToApply: 1 clusters are in progress, which is maxConcurrency"
	w.explains(s, `placement "p": 0 of 3 clusters succeeded, 1 in progress, 2 wait`, first+" Applying: its agent has yet to say how the current content does", second+" "+full, third+" "+full)
	w.say(s, succeeded, first)
	w.await(s, "1", first, second)
	w.say(s, failed, second)
	const stopped = "1 of the clusters failed or timed out, 0 may: "
	w.explains(s, stopped+second, first+" Succeeded: ", second+" Failed: conditions Progressing and Degraded of its work are True", third+" ToApply: the rollout is stopped: "+stopped+second)

	work := w.works(t, s)[first]
	patch(w, &work, func(work *workv1.ManifestWork) { work.Finalizers = append(work.Finalizers, finalizer) })
	w.decide("p", []string{second, third})
	w.explains(s, stopped+second, second+" Failed: conditions Progressing and Degraded of its work are True", third+" ToApply: the rollout is stopped: "+stopped+second,
		first+" Leaving: its agent has yet to remove what the work applied")
	patch(w, &work, func(work *workv1.ManifestWork) { work.Finalizers = nil })

	w.decide("p")
	nobody := `nobody has decided on Placement "p" in namespace "` + w.namespace + `" yet`
	w.explains(s, `placement "p": `+nobody, second+" Kept: "+nobody)
}

// explains waits until a set is explained with these words, and clusters with
// «name state: why».
func (w *world) explains(s *workv1alpha1.ManifestWorkReplicaSet, words string, clusters ...string) {
	w.t.Helper()
	config := replicaset.Config{Works: server.ReplicaSetWorks{Index: w.index}, Clock: clock.RealClock{}}
	w.eventually(func(c *assert.CollectT) {
		require.NoError(c, w.kube.Get(w.t.Context(), client.ObjectKeyFromObject(s), s))
		explained, known, err := replicaset.Explain(w.t.Context(), config, w.kube, s)
		require.NoError(c, err)
		require.True(c, known)
		require.Contains(c, explained.Verdict, words)
		require.False(c, explained.Done)
		var lines []string
		for _, one := range explained.Clusters {
			require.Equal(c, "p", one.Placement)
			require.Equal(c, one.State == "ToApply", one.Work == "")
			lines = append(lines, one.Cluster+" "+one.State+": "+one.Why)
		}
		require.Equal(c, strings.Join(clusters, "\n"), strings.Join(lines, "\n"))
	})
}
