// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
)

func TestPlacement_life(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"PL-52_frozen":                     frozen,
		"PL-53_reacts":                     reacts,
		"PL-54_a_new_binding":              newBinding,
		"PL-55_events":                     eventsOfPlacement,
		"PL-56_deleted":                    deleted,
		"PL-62_sets_of_others":             setsOfOthers,
		"PL-45_external_scheduler_is_left": leftToOthers,
		"PL-62_external_scheduler":         boundToSets,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
	}
}

// events are the notes of events of a reason, regarding a Placement.
func (s *scene) events(t *testing.T, c require.TestingT, p *clusterv1beta1.Placement, reason string) []string {
	t.Helper()
	list := &eventsv1.EventList{}
	require.NoError(c, s.kube.List(t.Context(), list, client.InNamespace(p.Namespace)))
	var notes []string
	for i := range list.Items {
		if list.Items[i].Reason == reason && list.Items[i].Regarding.UID == p.UID {
			notes = append(notes, list.Items[i].Note)
		}
	}
	return notes
}

// awaitEvent waits for an event whose note contains a text.
func (s *scene) awaitEvent(t *testing.T, p *clusterv1beta1.Placement, reason, text string) {
	t.Helper()
	eventually(t, func(c *assert.CollectT) { require.Contains(c, joined(s.events(t, c, p, reason)), text) })
}

func joined(notes []string) string { return strings.Join(notes, "\n") + "\n" }

func frozen(t *testing.T) {
	t.Helper()
	s := newScene(t)
	one := s.cluster(t, nil)
	p := s.place(t, nil)
	s.await(t, p, one)
	change(t, s, p, func(p *clusterv1beta1.Placement) {
		p.Annotations = labels{clusterv1beta1.PlacementDisableAnnotation: "true"}
	})
	s.settle(t) // what is decided from now on is decided knowing that
	second := s.cluster(t, nil)
	first := &decision{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: p.Name + "-decision-1"}}
	report(t, s, first, func(d *decision) { d.Status.Decisions[0].Reason = "mine" })
	s.await(t, s.place(t, nil), one, second)
	s.settle(t)
	require.Equal(t, []clusterv1beta1.ClusterDecision{{ClusterName: one, Reason: "mine"}}, s.decisions(t, p)[0].Status.Decisions)
	change(t, s, p, func(p *clusterv1beta1.Placement) {
		p.Annotations[clusterv1beta1.PlacementDisableAnnotation] = "false"
	})
	s.await(t, p, one, second)
}

// reacts to everything that can change a choice.
func reacts(t *testing.T) {
	t.Helper()
	s := newScene(t)
	p := s.place(t, matching(byLabel("in", "1"), byClaim(needs{Key: "in", Operator: "Exists"}), byCEL(`managedCluster.status.version.kubernetes == "v9"`)))
	s.await(t, p)
	one := s.cluster(t, nil)
	s.relabel(t, one, "in", "1")
	s.await(t, p, one)
	s.relabel(t, one, "in", "")
	s.await(t, p)
	report(t, s, named(one), func(c *clusterv1.ManagedCluster) { c.Status.ClusterClaims = claims{{Name: "in", Value: "x"}} })
	s.await(t, p, one)
	s.taint(t, one, taint{Key: "k", Effect: clusterv1.TaintEffectNoSelect})
	s.await(t, p)
	s.taint(t, one)
	s.await(t, p, one)
	report(t, s, named(one), func(c *clusterv1.ManagedCluster) { c.Status.ClusterClaims = nil })
	s.await(t, p)
	report(t, s, named(one), func(c *clusterv1.ManagedCluster) { c.Status.Version.Kubernetes = "v9" })
	s.await(t, p, one)
	set := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: s.set}}
	require.NoError(t, s.kube.Delete(t.Context(), set))
	s.await(t, p)
	set.ObjectMeta = metav1.ObjectMeta{Name: s.set}
	set.Spec.ClusterSelector = clusterv1beta2.ManagedClusterSelector{
		SelectorType: clusterv1beta2.LabelSelector, LabelSelector: &metav1.LabelSelector{MatchLabels: labels{"kubernetes.io/metadata.name": one}},
	}
	s.create(t, set)
	s.awaitSatisfied(t, p, metav1.ConditionFalse, "AllManagedClusterSetsEmpty", "")
	change(t, s, set, func(o *clusterv1beta2.ManagedClusterSet) {
		o.Spec.ClusterSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: labels{clusterv1beta2.ClusterSetLabel: s.set}}
	})
	s.await(t, p, one)
	binding := &clusterv1beta2.ManagedClusterSetBinding{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.set}}
	require.NoError(t, s.kube.Delete(t.Context(), binding))
	s.await(t, p)
	s.bind(t, s.set)
	s.await(t, p, one)
	change(t, s, p, func(p *clusterv1beta1.Placement) { p.Spec.Predicates = []predicate{byLabel("in", "2")} })
	s.await(t, p)
	change(t, s, p, func(p *clusterv1beta1.Placement) { p.Spec.Predicates = nil })
	s.await(t, p, one)
	require.NoError(t, s.kube.Delete(t.Context(), named(one)))
	s.await(t, p)
}

func newBinding(t *testing.T) {
	t.Helper()
	s := newScene(t)
	p := s.place(t, nil)
	other := s.newSet(t)
	one := s.clusterIn(t, other, nil)
	s.await(t, p)
	generation := p.Generation
	s.bind(t, other)
	s.await(t, p, one)
	require.Equal(t, generation, p.Generation)
}

func eventsOfPlacement(t *testing.T) {
	t.Helper()
	s := newScene(t)
	p := s.place(t, grouped("1"))
	s.awaitEvent(t, p, "DecisionCreate", p.Name+"-decision-1")
	all := s.clusters(t, 2)
	s.awaitEvent(t, p, "DecisionCreate", p.Name+"-decision-2")
	s.awaitEvent(t, p, "DecisionUpdate", p.Name+"-decision-1")
	s.awaitEvent(t, p, "ScoreUpdate", all[0]+":")
	require.NoError(t, s.kube.Delete(t.Context(), named(all[1])))
	s.awaitEvent(t, p, "DecisionDelete", p.Name+"-decision-2")
	// a fleet's scores are cut
	many := newScene(t)
	names := many.clusters(t, 150)
	big := many.place(t, nil)
	many.await(t, big, names...)
	eventually(t, func(c *assert.CollectT) {
		notes := many.events(t, c, big, "ScoreUpdate")
		require.NotEmpty(c, notes)
		require.Len(c, notes[0], 1000)
	})
}

func deleted(t *testing.T) {
	t.Helper()
	s := newScene(t)
	one := s.cluster(t, nil)
	p := s.place(t, nil)
	s.await(t, p, one)
	require.Empty(t, p.Finalizers)
	require.NoError(t, s.kube.Delete(t.Context(), p))
	require.True(t, apierrors.IsNotFound(s.kube.Get(t.Context(), client.ObjectKeyFromObject(p), p)))
	s.settle(t)
	left := s.decisions(t, p) // this plane has no garbage collector
	require.Len(t, left, 1)
	require.Empty(t, left[0].Finalizers)
	require.Equal(t, p.UID, left[0].OwnerReferences[0].UID)
	require.Equal(t, []string{one}, chosen(left))
}

// setsOfOthers: no predicate, toleration or label gets at a cluster of a set that
// is not bound.
func setsOfOthers(t *testing.T) {
	t.Helper()
	s, theirs := newScene(t), newScene(t)
	other := theirs.cluster(t, labels{"a": "b"})
	mine := s.cluster(t, labels{"a": "b"})
	p := s.place(t, func(spec *spec) {
		spec.ClusterSets = []string{theirs.set, s.set}
		spec.Predicates = []predicate{byLabel("a", "b"), byCEL(`managedCluster.metadata.name == "` + other + `"`)}
		spec.Tolerations = []toleration{{Operator: "Exists"}}
	})
	s.await(t, p, mine)
	s.settle(t)
	require.Equal(t, []string{mine}, chosen(s.decisions(t, p)))
	theirs.await(t, theirs.place(t, nil), other)
}

func leftToOthers(t *testing.T) {
	t.Helper()
	s := newScene(t)
	one := s.cluster(t, nil)
	p := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{
		Namespace: s.namespace, Name: "theirs", Annotations: labels{v1alpha1.AnnotationScheduler: "test.example/other"},
	}}
	s.create(t, p)
	s.await(t, s.place(t, nil), one)
	s.settle(t)
	require.Empty(t, s.decisions(t, p))
	change(t, s, p, func(p *clusterv1beta1.Placement) { p.Annotations = nil })
	s.await(t, p, one)
}

// boundToSets takes the binding of clusters away that somebody else has decided on.
func boundToSets(t *testing.T) {
	t.Helper()
	s := newScene(t)
	names := s.clusters(t, 2)
	foreign := s.clusterIn(t, s.newSet(t), nil)
	p := s.place(t, nil)
	s.await(t, p, names...)
	change(t, s, p, func(p *clusterv1beta1.Placement) { p.Annotations = labels{v1alpha1.AnnotationScheduler: "gone"} })
	decision := s.decisions(t, p)[0]
	decision.Status.Decisions = append(decision.Status.Decisions, clusterv1beta1.ClusterDecision{ClusterName: foreign})
	require.NoError(t, s.kube.Status().Update(t.Context(), &decision))
	s.await(t, p, names...)
	s.relabel(t, names[0], clusterv1beta2.ClusterSetLabel, "another")
	s.await(t, p, names[1])
	require.NoError(t, s.kube.DeleteAllOf(t.Context(), &clusterv1beta2.ManagedClusterSetBinding{}, client.InNamespace(s.namespace)))
	s.await(t, p)
}

// TestPlacement_leader has a second scheduler begin where the first has decided.
func TestPlacement_leader(t *testing.T) {
	t.Run("PL-45_a_new_leader_writes_nothing", func(t *testing.T) {
		s := newScene(t)
		s.clusters(t, 5)
		var placements []*clusterv1beta1.Placement
		for _, how := range []func(*spec){nil, grouped("2"), best(2, builtIn("Balance", 1), builtIn("Steady", 3)), matching(byLabel("a", "b"))} {
			placements = append(placements, s.place(t, how))
		}
		for _, p := range placements {
			s.awaitCondition(t, p, "PlacementMisconfigured", metav1.ConditionFalse, "Succeedconfigured", "")
		}
		s.settle(t)
		state := func() (versions []string) {
			for _, p := range placements {
				require.NoError(t, s.kube.Get(t.Context(), client.ObjectKeyFromObject(p), p))
				require.NotEmpty(t, p.Status.Conditions)
				versions = append(versions, p.ResourceVersion)
				for _, d := range s.decisions(t, p) {
					versions = append(versions, d.Name+" "+d.ResourceVersion+" "+strings.Join(chosen([]decision{d}), ","))
				}
			}
			return versions
		}
		before := state()
		next, err := startHub(context.WithoutCancel(t.Context()), s.plane, "placement", s.namespace)
		require.NoError(t, err)
		defer next.stop()
		s.await(t, placements[0], chosen(s.decisions(t, placements[0]))...)
		eventually(t, func(c *assert.CollectT) {
			require.GreaterOrEqual(c, next.count(t, "scheduling_scheduling_duration_seconds"), uint64(5))
		})
		require.Equal(t, before, state())
		require.Zero(t, next.count(t, "scheduling_bind_duration_seconds"))
	})
}

// count is how often a histogram was observed.
func (h *hub) count(t *testing.T, name string) (count uint64) {
	t.Helper()
	families, err := h.metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name {
				count += m.GetHistogram().GetSampleCount()
			}
		}
	}
	return count
}
