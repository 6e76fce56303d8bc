// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

type config = clusterv1beta1.PrioritizerConfig

func builtIn(name string, weight int32) config {
	return config{Weight: weight, ScoreCoordinate: &clusterv1beta1.ScoreCoordinate{Type: "BuiltIn", BuiltIn: name}}
}

func addOn(resource, score string, weight int32) config {
	return config{Weight: weight, ScoreCoordinate: &clusterv1beta1.ScoreCoordinate{
		Type: "AddOn", AddOn: &clusterv1beta1.AddOnScore{ResourceName: resource, ScoreName: score},
	}}
}

// best selects that many clusters by these prioritizers alone.
func best(number int32, configs ...config) func(*spec) {
	return func(s *spec) {
		s.NumberOfClusters = &number
		s.PrioritizerPolicy = clusterv1beta1.PrioritizerPolicy{Mode: clusterv1beta1.PrioritizerPolicyModeExact, Configurations: configs}
	}
}

func TestPlacement_scores(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"PL-27_order":                    order,
		"PL-28_modes":                    modes,
		"PL-29_weights":                  weights,
		"PL-30_kinds_of_prioritizers":    coordinates,
		"PL-31_PL-32_Balance":            balance,
		"PL-33_PL-40_Steady":             steady,
		"PL-34_allocatable":              allocatable,
		"PL-35_PL-37_AddOn":              addOnScores,
		"PL-36_scores_end":               scoresEnd,
		"PL-38_no_such_prioritizer":      noSuchPrioritizer,
		"PL-39_fields_without_an_effect": noEffect,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
	}
}

func order(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 4)
	s.await(t, s.place(t, best(2)), all[:2]...) // equal: by name
	for i, value := range []int32{10, 30, 20, 30} {
		s.score(t, all[i], "s", time.Time{}, map[string]int32{"x": value})
	}
	s.await(t, s.place(t, best(1, addOn("s", "x", 1))), all[1])
	s.await(t, s.place(t, best(2, addOn("s", "x", 1))), all[1], all[3])
	s.await(t, s.place(t, best(3, addOn("s", "x", 1))), all[1], all[3], all[2])
}

// modes: what another Placement decided on is worse by Balance, unless the mode is
// Exact.
func modes(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 2)
	s.await(t, s.place(t, best(1)), all[0])
	number := func(mode clusterv1beta1.PrioritizerPolicyModeType, configs ...config) func(*spec) {
		return func(spec *spec) {
			best(1, configs...)(spec)
			spec.PrioritizerPolicy.Mode = mode
		}
	}
	s.settle(t)
	additive := s.place(t, number(""))
	s.await(t, additive, all[1])
	require.Equal(t, clusterv1beta1.PrioritizerPolicyModeAdditive, additive.Spec.PrioritizerPolicy.Mode)
	s.await(t, s.place(t, number(clusterv1beta1.PrioritizerPolicyModeExact)), all[0])
	s.score(t, all[0], "s", time.Time{}, map[string]int32{"x": 100})
	s.settle(t)
	s.await(t, s.place(t, number(clusterv1beta1.PrioritizerPolicyModeAdditive, addOn("s", "x", 5))), all[0])
}

func weights(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 2)
	s.score(t, all[1], "s", time.Time{}, map[string]int32{"x": 50})
	s.await(t, s.place(t, best(1, addOn("s", "x", 2))), all[1])
	s.await(t, s.place(t, best(1, addOn("s", "x", -1))), all[0])
	zero := s.place(t, func(spec *spec) {
		best(1, builtIn("Balance", 0), builtIn("Steady", 0))(spec)
		spec.PrioritizerPolicy.Mode = clusterv1beta1.PrioritizerPolicyModeAdditive
	})
	s.await(t, zero, all[0])
	bad := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "bad"}}
	best(1, addOn("s", "x", 11))(&bad.Spec)
	require.True(t, apierrors.IsInvalid(s.kube.Create(t.Context(), bad)))
}

func coordinates(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 2)
	s.score(t, all[1], "s", time.Time{}, map[string]int32{"x": 50})
	p := s.place(t, best(1, addOn("s", "x", 1)))
	s.await(t, p, all[1])
	change(t, s, p, func(p *clusterv1beta1.Placement) {
		p.Spec.PrioritizerPolicy.Configurations = []config{{ScoreCoordinate: &clusterv1beta1.ScoreCoordinate{BuiltIn: "Steady"}}}
	})
	s.await(t, p, all[1])
	require.Equal(t, "BuiltIn", p.Spec.PrioritizerPolicy.Configurations[0].ScoreCoordinate.Type, "by default")
	require.Equal(t, int32(1), p.Spec.PrioritizerPolicy.Configurations[0].Weight, "by default")
}

func balance(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 3)
	pick := func(name string) func(*spec) {
		return matching(byCEL(`managedCluster.metadata.name == "` + name + `"`))
	}
	// The most that anybody has counts, so be more than all other tests here: 20
	// decide on the first, half of them in another namespace, and 10 on the second.
	other := &scene{hub: s.hub, namespace: s.plane.Namespace(t, "place"), set: s.set}
	other.bind(t, s.set)
	t.Cleanup(func() { // when it runs again, these would be the most that anybody has
		for _, namespace := range []string{s.namespace, other.namespace} {
			for _, kind := range []client.Object{&clusterv1beta1.Placement{}, &clusterv1beta1.PlacementDecision{}} {
				require.NoError(t, s.kube.DeleteAllOf(context.WithoutCancel(t.Context()), kind, client.InNamespace(namespace)))
			}
		}
	})
	for range 10 {
		s.await(t, s.place(t, pick(all[0])), all[0])
		s.await(t, s.place(t, pick(all[1])), all[1])
		other.await(t, other.place(t, pick(all[0])), all[0])
	}
	s.settle(t)
	p := s.place(t, best(1, builtIn("Balance", 1)))
	s.await(t, p, all[2])
	s.awaitEvent(t, p, "ScoreUpdate", all[2]+":100 "+all[1]+":0 "+all[0]+":-100")
	// its own decision does not count against it
	change(t, s, p, func(p *clusterv1beta1.Placement) { p.Spec.NumberOfClusters = new(int32(2)) })
	s.await(t, p, all[2], all[1])
	reversed := s.place(t, best(1, builtIn("Balance", -1)))
	s.await(t, reversed, all[0])
}

func steady(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 1)
	better := func(weight int32) func(*spec) { return best(1, builtIn("Steady", weight), addOn("s", "x", 1)) }
	p, held := s.place(t, better(1)), s.place(t, better(2))
	s.await(t, p, all[0])
	s.await(t, held, all[0])
	second := s.cluster(t, nil)
	s.score(t, all[0], "s", time.Time{}, map[string]int32{"x": -50})
	s.score(t, second, "s", time.Time{}, map[string]int32{"x": 40})
	s.settle(t)
	s.await(t, p, all[0]) // 100 - 50 > 40
	s.score(t, second, "s", time.Time{}, map[string]int32{"x": 60})
	s.await(t, p, second)
	s.await(t, held, all[0]) // 200 - 50 > 60
}

func allocatable(t *testing.T) {
	t.Helper()
	s := newScene(t)
	sized := func(cpu, memory string) func(*clusterv1.ManagedCluster) {
		return func(c *clusterv1.ManagedCluster) {
			c.Status.Allocatable = clusterv1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)}
			c.Status.Capacity = c.Status.Allocatable
		}
	}
	few, most, some := s.cluster(t, nil, sized("2", "30Gi")), s.cluster(t, nil, sized("10", "20Gi")), s.cluster(t, nil, sized("4", "10Gi"))
	silent := s.cluster(t, nil)
	cpu := s.place(t, best(1, builtIn("ResourceAllocatableCPU", 1)))
	s.await(t, cpu, most)
	s.awaitEvent(t, cpu, "ScoreUpdate", most+":100 "+silent+":0 "+some+":-50 "+few+":-100")
	memory := s.place(t, best(1, builtIn("ResourceAllocatableMemory", 1)))
	s.await(t, memory, few)
	s.awaitEvent(t, memory, "ScoreUpdate", few+":100 "+most+":0 "+silent+":0 "+some+":-100")
	report(t, s, named(some), func(c *clusterv1.ManagedCluster) { c.Status.Allocatable["cpu"] = resource.MustParse("20") })
	s.await(t, cpu, some)
	equal := newScene(t)
	a, b := equal.cluster(t, nil, sized("2", "1Gi")), equal.cluster(t, nil, sized("2", "2Gi"))
	p := equal.place(t, best(1, builtIn("ResourceAllocatableCPU", 1)))
	equal.await(t, p, a)
	equal.awaitEvent(t, p, "ScoreUpdate", a+":100 "+b+":100")
}

func addOnScores(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 3)
	s.score(t, all[0], "s", time.Time{}, map[string]int32{"x": -10, "y": 99})
	s.score(t, all[1], "other", time.Time{}, map[string]int32{"x": 99})
	p := s.place(t, best(1, addOn("s", "x", 1)))
	s.await(t, p, all[1]) // none is 0
	s.score(t, all[2], "s", time.Time{}, map[string]int32{"x": 5})
	s.await(t, p, all[2])
	s.score(t, all[0], "s", time.Time{}, map[string]int32{"x": 100})
	s.await(t, p, all[0])
	score := &clusterv1alpha1.AddOnPlacementScore{ObjectMeta: metav1.ObjectMeta{Namespace: all[0], Name: "s"}}
	require.NoError(t, s.kube.Delete(t.Context(), score))
	s.await(t, p, all[2])
}

func scoresEnd(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 2)
	s.score(t, all[1], "s", time.Now().Add(20*time.Second), map[string]int32{"x": 100})
	p := s.place(t, best(1, addOn("s", "x", 1)))
	s.await(t, p, all[1])
	require.Empty(t, s.events(t, t, p, "ScoreExpired"))
	s.await(t, p, all[0]) // nothing else happens meanwhile
	s.awaitEvent(t, p, "ScoreExpired", all[1]+"/s")
	s.score(t, all[1], "s", time.Now().Add(time.Hour), map[string]int32{"x": 100})
	s.await(t, p, all[1])
}

func noSuchPrioritizer(t *testing.T) {
	t.Helper()
	s := newScene(t)
	one := s.cluster(t, nil)
	for _, name := range []string{"Spread", "Nonsense"} {
		p := s.place(t, best(1, builtIn(name, 1)))
		s.awaitMisconfigured(t, p, "incorrect builtin prioritizer: "+name)
		s.await(t, p)
		change(t, s, p, func(p *clusterv1beta1.Placement) { p.Spec.PrioritizerPolicy.Configurations = nil })
		s.await(t, p, one)
	}
}

// noEffect: sorting and scores in decisions are fields only. The spread policy is
// one that works here, see docs/placement.md.
func noEffect(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 2)
	s.score(t, all[1], "s", time.Time{}, map[string]int32{"x": 100})
	p := s.place(t, func(spec *spec) {
		best(2, addOn("s", "x", 1))(spec)
		spec.SortBy, spec.ScoreRateLimit = clusterv1beta1.PlacementSortByScore, "1s"
	})
	s.await(t, p, all...)
	found := s.decisions(t, p)[0].Status.Decisions
	require.Equal(t, []clusterv1beta1.ClusterDecision{{ClusterName: all[0]}, {ClusterName: all[1]}}, found)
	require.Nil(t, p.Status.LastScoreUpdateTime)
}
