// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// scheduler decides on a placement as the hub's does: each decision in two writes,
// with the placement as its controller, and the placement's status last.
type scheduler struct {
	*world
	placement *clusterv1beta1.Placement
}

func (w *world) scheduler(groups ...[]string) *scheduler {
	w.t.Helper()
	s := &scheduler{world: w}
	s.recreate()
	for i, clusters := range groups {
		s.make(i)
		s.fill(i, clusters...)
	}
	s.conclude(groups...)
	return s
}

// recreate makes the placement p, or another of that name.
func (s *scheduler) recreate() {
	s.t.Helper()
	if s.placement != nil {
		require.NoError(s.t, s.kube.Delete(s.t.Context(), s.placement))
	}
	s.placement = &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "p"}}
	require.NoError(s.t, s.kube.Create(s.t.Context(), s.placement))
}

func (s *scheduler) decision(group int) *clusterv1beta1.PlacementDecision {
	return &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
		Namespace: s.namespace, Name: fmt.Sprintf("p-decision-%d", group+1),
		Labels:          map[string]string{clusterv1beta1.PlacementLabel: "p", clusterv1beta1.DecisionGroupIndexLabel: strconv.Itoa(group), clusterv1beta1.DecisionGroupNameLabel: ""},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s.placement, schema.GroupVersion(clusterv1beta1.GroupVersion).WithKind("Placement"))},
	}}
}

// make makes the decision on a group, which says nothing yet.
func (s *scheduler) make(group int) {
	s.t.Helper()
	require.NoError(s.t, s.kube.Create(s.t.Context(), s.decision(group)))
}

func (s *scheduler) fill(group int, clusters ...string) {
	s.t.Helper()
	d := s.decision(group)
	require.NoError(s.t, s.kube.Get(s.t.Context(), client.ObjectKeyFromObject(d), d))
	d.Status.Decisions = []clusterv1beta1.ClusterDecision{}
	for _, cluster := range clusters {
		d.Status.Decisions = append(d.Status.Decisions, clusterv1beta1.ClusterDecision{ClusterName: cluster})
	}
	require.NoError(s.t, s.kube.Status().Update(s.t.Context(), d))
}

func (s *scheduler) remove(groups ...int) {
	s.t.Helper()
	for _, group := range groups {
		require.NoError(s.t, s.kube.Delete(s.t.Context(), s.decision(group)))
	}
}

// conclude writes the placement's status.
func (s *scheduler) conclude(groups ...[]string) {
	s.t.Helper()
	require.NoError(s.t, s.kube.Get(s.t.Context(), client.ObjectKeyFromObject(s.placement), s.placement))
	s.placement.Status = clusterv1beta1.PlacementStatus{}
	for i, clusters := range groups {
		s.placement.Status.NumberOfSelectedClusters += int32(len(clusters))
		s.placement.Status.DecisionGroups = append(s.placement.Status.DecisionGroups, clusterv1beta1.DecisionGroupStatus{
			DecisionGroupIndex: int32(i), Decisions: []string{s.decision(i).Name}, ClustersCount: int32(len(clusters)),
		})
	}
	require.NoError(s.t, s.kube.Status().Update(s.t.Context(), s.placement))
}

// keeps waits until a set says why it deletes nothing, and sees that it has its
// works. What it says comes after what it deletes.
func (w *world) keeps(set *workv1alpha1.ManifestWorkReplicaSet, works map[string]workv1.ManifestWork, why string) {
	w.t.Helper()
	w.eventually(func(c *assert.CollectT) {
		require.NoError(c, w.kube.Get(w.t.Context(), client.ObjectKeyFromObject(set), set))
		require.NotEmpty(c, set.Status.Conditions)
		require.Contains(c, set.Status.Conditions[0].Message, why)
	})
	w.same(set, works)
}

func (w *world) same(set *workv1alpha1.ManifestWorkReplicaSet, works map[string]workv1.ManifestWork) {
	w.t.Helper()
	have := w.works(w.t, set)
	for cluster, work := range works {
		require.Equal(w.t, work.UID, have[cluster].UID, cluster)
	}
}

// oneByOne: decisions that are all made anew, one by one, cost no cluster its work.
func oneByOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	groups := [][]string{w.clusters[:2], w.clusters[2:3], w.clusters[3:]}
	p := w.scheduler(groups...)
	set := w.set("web", nil, "p")
	before := w.await(set, "1", w.clusters...)
	w.awaitCondition(set, "PlacementVerified", "True", "AsExpected")
	p.remove(0, 1, 2)
	w.keeps(set, before, "nobody has decided")
	for i, clusters := range groups {
		p.make(i)
		w.keeps(set, before, fmt.Sprintf(`"p-decision-%d" has no status yet`, i+1))
		p.fill(i, clusters...)
		if i < 2 {
			w.keeps(set, before, fmt.Sprintf(`there is no PlacementDecision "p-decision-%d"`, i+2))
		}
	}
	w.awaitCondition(set, "PlacementVerified", "True", "AsExpected")
	p.remove(1)
	w.keeps(set, before, `there is no PlacementDecision "p-decision-2"`)
	p.make(1)
	p.fill(1, groups[1]...)
	w.awaitCondition(set, "PlacementVerified", "True", "AsExpected")
	w.same(set, before)

	p.remove(2)
	w.keeps(set, before, `there is no PlacementDecision "p-decision-3"`)
	p.conclude(groups[:2]...)
	w.same(set, w.await(set, "1", w.clusters[:3]...)) // it was decided, and takes effect
}

// anotherPlacement: a placement of the same name has decided when its status says so.
func anotherPlacement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	p := w.scheduler(w.clusters[:2], w.clusters[2:])
	set := w.set("web", nil, "p")
	before := w.await(set, "1", w.clusters...)
	p.remove(0, 1)
	p.recreate()
	w.keeps(set, before, "nobody has decided")
	p.make(0)
	p.fill(0, w.clusters[0])
	w.keeps(set, before, "they choose 1 clusters, and its status says 0")
	w.awaitCondition(set, "PlacementVerified", "False", "PlacementDecisionNotFound")
	p.make(1)
	p.fill(1, w.clusters[1])
	w.keeps(set, before, "they choose 2 clusters, and its status says 0")
	p.conclude(w.clusters[:1], w.clusters[1:2])
	w.await(set, "1", w.clusters[:2]...)
}

// contradiction: clusters that a decision has lost, and not the placement's status,
// keep their works, and new ones get theirs.
func contradiction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	p := w.scheduler(w.clusters[:2])
	w.placement("q", w.clusters[3:])
	set := w.set("web", nil, "p", "q")
	before := w.await(set, "1", w.clusters[0], w.clusters[1], w.clusters[3])
	p.fill(0, w.clusters[2])
	w.decide("q", []string{})
	w.keeps(set, before, "they choose 1 clusters, and its status says 2: no work is deleted until then")
	w.await(set, "1", w.clusters...)
	p.conclude(w.clusters[2:3])
	w.await(set, "1", w.clusters[2])

	p.fill(0, w.clusters[:2]...)
	p.conclude(w.clusters[:2])
	w.await(set, "1", w.clusters[:2]...)
	patch(w, p.placement, func(p *clusterv1beta1.Placement) {
		p.Annotations = map[string]string{clusterv1beta1.PlacementDisableAnnotation: "true"}
	})
	p.fill(0, w.clusters[0])
	w.await(set, "1", w.clusters[0]) // nobody writes the status of a frozen placement
}

// withoutStatus: decisions that were restored without their status choose nobody
// yet, and one with an empty list does.
func withoutStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.placement("p", w.clusters[:1], w.clusters[1:])
	set := w.set("web", nil, "p")
	before := w.await(set, "1", w.clusters...)
	w.awaitCondition(set, "PlacementVerified", "True", "AsExpected")
	list := &clusterv1beta1.PlacementDecisionList{}
	require.NoError(t, w.kube.List(t.Context(), list, client.InNamespace(w.namespace)))
	// Never is there only one that is complete: that would be a choice.
	unwritten := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "p-decision-9", Labels: list.Items[0].Labels}}
	require.NoError(t, w.kube.Create(t.Context(), unwritten))
	for _, d := range list.Items {
		require.NoError(t, w.kube.Delete(t.Context(), &d))
		require.NoError(t, w.kube.Create(t.Context(), &clusterv1beta1.PlacementDecision{
			ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: d.Name, Labels: d.Labels},
		}))
	}
	require.NoError(t, w.kube.Delete(t.Context(), unwritten))
	w.keeps(set, before, `"p-decision-1" has no status yet`)
	w.decide("p", []string{}, w.clusters[1:])
	w.same(set, w.await(set, "1", w.clusters[1]))
	w.decide("p", []string{}, []string{})
	w.await(set, "1")
}
