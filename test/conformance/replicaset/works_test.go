// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestReplicaSet(t *testing.T) {
	t.Run("MH-04_the_schema", schemaRow)
	t.Run("MH-05_MH-25_the_end", theEnd)
	t.Run("MH-06_MH-07_a_work_per_cluster", workPerCluster)
	t.Run("MH-08_a_long_name", longName)
	t.Run("MH-09_deleted_or_edited_works_come_back", comeBack)
	t.Run("MH-09_one_that_goes_without_its_label", goesUnlabelled)
	t.Run("MH-10_clusters_that_leave", clustersLeave)
	t.Run("MH-10_nobody_decides", nobodyDecides)
	t.Run("MH-10_decisions_are_made_one_by_one", oneByOne)
	t.Run("MH-10_another_placement_of_the_name", anotherPlacement)
	t.Run("MH-10_decisions_against_the_status", contradiction)
	t.Run("MH-10_a_decision_without_status", withoutStatus)
	t.Run("MH-11_two_placements_choose_one_cluster", overlap)
	t.Run("MH-12_MH-14_conditions_of_placements", placementConditions)
	t.Run("MH-13_MH-14_MH-15_counts", counts)
	t.Run("MH-14_a_cluster_without_namespace", withoutNamespace)
	t.Run("MH-14_MH-17_who_cannot_have_it_holds_up_nobody", blocked)
	t.Run("MH-14_MH-20_who_cannot_have_it_times_out", blockedTooLong)
	t.Run("MH-16_all_at_once", allAtOnce)
	t.Run("MH-17_progressive", progressive)
	t.Run("MH-17_mandatory_groups_are_first", mandatory)
	t.Run("MH-18_group_by_group", groupByGroup)
	t.Run("MH-19_soak", soak)
	t.Run("MH-20_deadline", deadlineRow)
	t.Run("MH-21_failures", failures)
	t.Run("MH-22_MH-23_the_state_of_a_work", stateOfAWork)
	t.Run("MH-24_a_new_template", newTemplate)
	t.Run("MH-26_found_by_label", byLabel)
	t.Run("each_cluster_is_explained", explained)
	t.Run("a_spec_with_everything_is_written_once", everything)
	t.Run("a_burst_of_statuses_is_few_writes_of_set", burst)
}

func schemaRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	s := w.set("defaults", nil, "p")
	require.Equal(t, workv1alpha1.Background, s.Spec.CascadeDeletionPolicy, "MH-05")
	none := &workv1alpha1.ManifestWorkReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "none"}}
	none.Spec.PlacementRefs = []workv1alpha1.LocalPlacementReference{}
	require.True(t, apierrors.IsInvalid(w.kube.Create(t.Context(), none)))
	w.clusters = []string{w.cluster(w.plane.Unique("c"))}
	w.placement("twice", w.clusters)
	twice := w.set("twice", nil, "twice", "twice")
	w.await(twice, "1", w.clusters...)
	w.awaitCondition(twice, "PlacementVerified", "True", "AsExpected")
	require.Len(t, twice.Status.PlacementsSummary, 1, "each counts once")
}

func theEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.placement("p", w.clusters)
	for name, policy := range map[string]workv1alpha1.CascadeDeletionPolicy{"back": workv1alpha1.Background, "fore": workv1alpha1.Foreground} {
		s := w.set(name, func(s *workv1alpha1.ManifestWorkReplicaSet) { s.Spec.CascadeDeletionPolicy = policy }, "p")
		works := w.await(s, "1", w.clusters...)
		held := works[w.clusters[0]]
		patch(w, &held, func(work *workv1.ManifestWork) { work.Finalizers = []string{"example.com/agent"} })
		other := w.await(w.set(name+"-other", nil, "p"), "1", w.clusters...)
		require.NoError(t, w.kube.Delete(t.Context(), s))
		gone := func(o client.Object) func(*assert.CollectT) {
			return func(c *assert.CollectT) {
				require.True(c, apierrors.IsNotFound(w.kube.Get(t.Context(), client.ObjectKeyFromObject(o), o)))
			}
		}
		free := works[w.clusters[1]]
		w.eventually(gone(&free))
		w.eventually(func(c *assert.CollectT) {
			require.NoError(c, w.kube.Get(t.Context(), client.ObjectKeyFromObject(&held), &held))
			require.NotNil(c, held.DeletionTimestamp)
		})
		if policy == workv1alpha1.Foreground {
			later := w.set(name+"-later", nil, "p") // has a whole life meanwhile
			w.await(later, "1", w.clusters...)
			require.NoError(t, w.kube.Delete(t.Context(), later))
			w.eventually(gone(later))
			require.NoError(t, w.kube.Get(t.Context(), client.ObjectKeyFromObject(s), s), "it waits")
			require.Contains(t, s.Finalizers, finalizer)
		} else {
			w.eventually(gone(s))
		}
		patch(w, &held, func(work *workv1.ManifestWork) { work.Finalizers = nil })
		w.eventually(gone(&held))
		w.eventually(gone(s))
		for _, work := range other {
			require.NoError(t, w.kube.Get(t.Context(), client.ObjectKeyFromObject(&work), &work), "another set's works stay")
			require.Nil(t, work.DeletionTimestamp)
		}
	}
}

func workPerCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.placement("p", w.clusters[:2], w.clusters[2:])
	s := w.set("web", func(s *workv1alpha1.ManifestWorkReplicaSet) { s.Labels = map[string]string{"app": "web"} }, "p")
	works := w.await(s, "1", w.clusters...)
	for _, work := range works {
		require.Equal(t, "web-", work.GenerateName)
		require.True(t, strings.HasPrefix(work.Name, "web-") && len(work.Name) > len("web-"), work.Name)
		require.Equal(t, map[string]string{"app": "web", setLabel: w.namespace + ".web", placementLabel: "p"}, work.Labels)
	}
	require.NoError(t, w.kube.Get(t.Context(), client.ObjectKeyFromObject(s), s))
	require.Equal(t, []string{finalizer}, s.Finalizers)

	patch(w, s, func(s *workv1alpha1.ManifestWorkReplicaSet) {
		s.Labels = map[string]string{"app": "web", "tier": "front"}
	})
	w.eventually(func(c *assert.CollectT) {
		for _, work := range w.works(c, s) {
			require.Equal(c, "front", work.Labels["tier"])
			require.EqualValues(c, 1, work.Generation, "its spec is left alone")
		}
	})
	leaves := w.cluster(w.plane.Unique("leaves"))
	patch(w, &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: leaves}}, func(c *clusterv1.ManagedCluster) { c.Finalizers = []string{"example.com/x"} })
	require.NoError(t, w.kube.Delete(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: leaves}}))
	more := slices.Concat(w.clusters[:3], []string{w.cluster(w.plane.Unique("z"))})
	w.decide("p", more, []string{leaves})
	w.await(s, "1", more...)
	patch(w, &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: leaves}}, func(c *clusterv1.ManagedCluster) { c.Finalizers = nil })
}

func longName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.placement("p", w.clusters)
	first, second := w.set(strings.Repeat("long.", 30)+"a", nil, "p"), w.set(strings.Repeat("long.", 30)+"b", nil, "p")
	list := &workv1.ManifestWorkList{}
	labels := map[string]bool{}
	w.eventually(func(c *assert.CollectT) {
		labels = map[string]bool{}
		for _, cluster := range w.clusters {
			require.NoError(c, w.kube.List(t.Context(), list, client.InNamespace(cluster)))
			require.Len(c, list.Items, 2)
			for _, work := range list.Items {
				labels[work.Labels[setLabel]] = true
				require.LessOrEqual(c, len(work.Name), 63)
			}
		}
		require.Len(c, labels, 2, "no set has another's works")
	})
	for label := range labels {
		require.True(t, strings.HasPrefix(label, "sha256-") && len(label) == 63, label)
	}
	for _, s := range []*workv1alpha1.ManifestWorkReplicaSet{first, second} {
		w.eventually(func(c *assert.CollectT) {
			require.NoError(c, w.kube.Get(t.Context(), client.ObjectKeyFromObject(s), s))
			require.Equal(c, 2, s.Status.Summary.Total, "they are found again")
		})
	}
	require.NoError(t, w.kube.Delete(t.Context(), first))
	w.eventually(func(c *assert.CollectT) {
		require.NoError(c, w.kube.List(t.Context(), list, client.InNamespace(w.clusters[0])))
		require.Len(c, list.Items, 1)
	})
}

func comeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.placement("p", w.clusters)
	s := w.set("web", nil, "p")
	works := w.await(s, "1", w.clusters...)
	deleted := works[w.clusters[0]]
	require.NoError(t, w.kube.Delete(t.Context(), &deleted))
	w.eventually(func(c *assert.CollectT) {
		again, ok := w.works(c, s)[w.clusters[0]]
		require.True(c, ok)
		require.NotEqual(c, deleted.UID, again.UID)
	})
	edited := works[w.clusters[1]]
	patch(w, &edited, func(work *workv1.ManifestWork) {
		work.Spec.Workload.Manifests = []workv1.Manifest{configMap("mine")}
		work.Labels["somebody"], work.Annotations = "else", map[string]string{"some": "body"}
	})
	again := w.await(s, "1", w.clusters...)[w.clusters[1]]
	require.Equal(t, edited.UID, again.UID, "it is not made anew")
	require.Equal(t, "else", again.Labels["somebody"], "what the set does not say is left alone")
	require.Equal(t, "body", again.Annotations["some"])
	patch(w, &again, func(work *workv1.ManifestWork) {
		work.Labels[placementLabel] = "other"
		delete(work.Labels, setLabel)
	})
	w.eventually(func(c *assert.CollectT) {
		back, ok := w.works(c, s)[w.clusters[1]]
		require.True(c, ok)
		require.Equal(c, edited.UID, back.UID, "its label comes back")
		require.Equal(c, "p", back.Labels[placementLabel])
	})
}

// goesUnlabelled: when a work without the label is gone, nobody hears of it, and the
// next one is made all the same.
func goesUnlabelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.placement("p", w.clusters)
	s := w.set("web", nil, "p")
	old := w.await(s, "1", w.clusters...)[w.clusters[0]]
	patch(w, &old, func(work *workv1.ManifestWork) { work.Finalizers = []string{"example.com/agent"} })
	require.NoError(t, w.kube.Delete(t.Context(), &old))
	patch(w, &old, func(work *workv1.ManifestWork) { delete(work.Labels, setLabel) })
	said := w.awaitCondition(s, "ManifestworkApplied", "False", "NotAsExpected")
	require.Contains(t, said.Message, "is being deleted first")
	patch(w, &old, func(work *workv1.ManifestWork) { work.Finalizers = nil })
	again := w.await(s, "1", w.clusters...)[w.clusters[0]]
	require.NotEqual(t, old.UID, again.UID)
}

func clustersLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	w.placement("p", w.clusters[:2])
	w.placement("q", w.clusters[2:])
	s := w.set("web", nil, "p", "q")
	before := w.await(s, "1", w.clusters...)
	w.decide("p", w.clusters[:1])
	w.await(s, "1", w.clusters[0], w.clusters[2], w.clusters[3])
	patch(w, s, func(s *workv1alpha1.ManifestWorkReplicaSet) { s.Spec.PlacementRefs = s.Spec.PlacementRefs[:1] })
	after := w.await(s, "1", w.clusters[0])
	require.Equal(t, before[w.clusters[0]].UID, after[w.clusters[0]].UID)
}

// nobodyDecides: that a placement or its decisions are not there is no decision.
func nobodyDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.placement("p", w.clusters)
	s := w.set("web", nil, "p")
	before := w.await(s, "1", w.clusters...)
	require.NoError(t, w.kube.DeleteAllOf(t.Context(), &clusterv1beta1.PlacementDecision{}, client.InNamespace(w.namespace)))
	w.awaitCondition(s, "PlacementVerified", "False", "PlacementDecisionNotFound")
	require.NoError(t, w.kube.Delete(t.Context(), &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "p"}}))
	w.eventually(func(c *assert.CollectT) {
		said := w.awaitCondition(s, "PlacementVerified", "False", "PlacementDecisionNotFound")
		require.Contains(c, said.Message, `there is no Placement "p"`)
	})
	after := w.works(t, s)
	for _, cluster := range w.clusters {
		require.Equal(t, before[cluster].UID, after[cluster].UID)
	}
	require.Equal(t, 2, s.Status.Summary.Total)
	w.placement("p", w.clusters[:1])
	w.await(s, "1", w.clusters[0])
}

func overlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.placement("p", w.clusters[:2])
	w.placement("q", w.clusters[1:])
	s := w.set("web", nil, "p", "q")
	before := w.await(s, "1", w.clusters...)
	shared := before[w.clusters[1]]
	require.Equal(t, "p", shared.Labels[placementLabel], "the first ref has it")
	w.eventually(func(c *assert.CollectT) {
		require.NoError(c, w.kube.Get(t.Context(), client.ObjectKeyFromObject(s), s))
		require.Equal(c, 3, s.Status.Summary.DesiredTotal)
	})
	require.Equal(t, 1, s.Status.PlacementsSummary[1].Summary.DesiredTotal)
	w.decide("p", w.clusters[:1])
	w.eventually(func(c *assert.CollectT) {
		work := w.works(c, s)[w.clusters[1]]
		require.Equal(c, "q", work.Labels[placementLabel])
		require.Equal(c, shared.UID, work.UID, "the second takes it over")
		require.EqualValues(c, 1, work.Generation)
	})
	old := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Namespace: w.clusters[1], Name: "web-of-p", Labels: map[string]string{setLabel: w.namespace + ".web", placementLabel: "p"}}}
	old.Spec.Workload.Manifests = []workv1.Manifest{configMap("1")}
	require.NoError(t, w.kube.Create(t.Context(), old), "OCM made one for each placement")
	w.eventually(func(c *assert.CollectT) {
		require.True(c, apierrors.IsNotFound(w.kube.Get(t.Context(), client.ObjectKeyFromObject(old), old)))
	})
	require.Equal(t, shared.UID, w.works(t, s)[w.clusters[1]].UID)
}

func byLabel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	foreign := func(cluster, name string, labels map[string]string) *workv1.ManifestWork {
		work := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Namespace: cluster, Name: name, Labels: labels}}
		work.Spec.Workload.Manifests = []workv1.Manifest{configMap("mine")}
		require.NoError(t, w.kube.Create(t.Context(), work))
		return work
	}
	label := w.namespace + ".web"
	adopted := foreign(w.clusters[0], "some-name", map[string]string{setLabel: label, placementLabel: "p"})
	stranger := foreign(w.clusters[0], "stranger", map[string]string{"app": "x"})
	another := foreign(w.clusters[1], "another", map[string]string{setLabel: label + "2", placementLabel: "p"})
	nameless := foreign(w.clusters[1], "nameless", map[string]string{setLabel: label})
	w.placement("p", w.clusters)
	s := w.set("web", nil, "p")
	w.eventually(func(c *assert.CollectT) {
		require.True(c, apierrors.IsNotFound(w.kube.Get(t.Context(), client.ObjectKeyFromObject(nameless), nameless)))
	})
	works := w.await(s, "1", w.clusters...)
	require.Equal(t, adopted.UID, works[w.clusters[0]].UID, "one that OCM made goes on")
	for _, work := range []*workv1.ManifestWork{stranger, another} {
		was := work.ResourceVersion
		require.NoError(t, w.kube.Get(t.Context(), client.ObjectKeyFromObject(work), work))
		require.Equal(t, was, work.ResourceVersion, work.Name)
	}

	w2 := newWorld(t, 1)
	taken := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Namespace: w2.clusters[0], Name: works[w.clusters[1]].Name}}
	taken.Spec = stranger.Spec
	require.NoError(t, w.kube.Create(t.Context(), taken))
	w.decide("p", append(w.clusters[:2:2], w2.clusters[0]))
	said := w.awaitCondition(s, "ManifestworkApplied", "False", "NotAsExpected")
	require.Contains(t, said.Message, w2.clusters[0])
	require.Contains(t, said.Message, taken.Name)
	was := taken.ResourceVersion
	require.NoError(t, w.kube.Get(t.Context(), client.ObjectKeyFromObject(taken), taken))
	require.Equal(t, was, taken.ResourceVersion, "a user's work of that name is left alone")
}

func withoutNamespace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	nowhere := w.plane.Unique("a-nowhere")
	w.placement("p", []string{nowhere, w.clusters[0], w.clusters[1]})
	s := w.set("web", nil, "p")
	w.await(s, "1", w.clusters...)
	said := w.awaitCondition(s, "ManifestworkApplied", "False", "NotAsExpected")
	require.Contains(t, said.Message, fmt.Sprintf("cluster %q", nowhere))
	require.NoError(t, w.kube.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: nowhere}}))
	patch(w, s, func(s *workv1alpha1.ManifestWorkReplicaSet) { s.Spec.CascadeDeletionPolicy = workv1alpha1.Foreground })
	w.await(s, "1", nowhere, w.clusters[0], w.clusters[1])
}
