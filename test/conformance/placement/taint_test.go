// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

type (
	taint      = clusterv1.Taint
	toleration = clusterv1beta1.Toleration
)

func tolerating(tolerations ...toleration) func(*spec) {
	return func(s *spec) { s.Tolerations = tolerations }
}

func TestPlacement_taints(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"PL-22_effects":                 effects,
		"PL-23_tolerations":             tolerations,
		"PL-24_wrong_tolerations":       wrongTolerations,
		"PL-25_seconds":                 tolerationSeconds,
		"PL-25_no_seconds_are_for_ever": forEver,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
	}
}

func effects(t *testing.T) {
	t.Helper()
	s := newScene(t)
	all := s.clusters(t, 4)
	before := s.place(t, nil)
	s.await(t, before, all...)
	s.taint(t, all[0], taint{Key: "k", Effect: clusterv1.TaintEffectNoSelect})
	s.taint(t, all[1], taint{Key: "k", Effect: clusterv1.TaintEffectNoSelectIfNew})
	s.taint(t, all[2], taint{Key: "k", Effect: clusterv1.TaintEffectPreferNoSelect})
	s.await(t, before, all[1:]...)
	s.await(t, s.place(t, nil), all[2:]...)
	change(t, s, before, func(p *clusterv1beta1.Placement) { p.Spec.Predicates = []predicate{byLabel("a", "b")} })
	s.await(t, before)
	change(t, s, before, func(p *clusterv1beta1.Placement) { p.Spec.Predicates = nil })
	s.await(t, before, all[2:]...)
}

func tolerations(t *testing.T) {
	t.Helper()
	s := newScene(t)
	plain, valued, newOnly := s.cluster(t, nil), s.cluster(t, nil), s.cluster(t, nil)
	s.taint(t, plain, taint{Key: "k", Effect: clusterv1.TaintEffectNoSelect})
	s.taint(t, valued, taint{Key: "k", Value: "v", Effect: clusterv1.TaintEffectNoSelect})
	s.taint(t, newOnly, taint{Key: "other", Value: "v", Effect: clusterv1.TaintEffectNoSelectIfNew})
	for name, tc := range map[string]struct {
		toleration toleration
		want       []string
	}{
		"equal":           {toleration{Key: "k", Value: "v"}, []string{valued}},
		"equal, no value": {toleration{Key: "k"}, []string{plain}},
		"exists":          {toleration{Key: "k", Operator: "Exists"}, []string{plain, valued}},
		"everything":      {toleration{Operator: "Exists"}, []string{plain, valued, newOnly}},
		"an effect":       {toleration{Operator: "Exists", Effect: clusterv1.TaintEffectNoSelectIfNew}, []string{newOnly}},
		"another effect":  {toleration{Key: "other", Operator: "Exists", Effect: clusterv1.TaintEffectNoSelect}, nil},
		"another key":     {toleration{Key: "x", Operator: "Exists"}, nil},
	} {
		t.Run(name, func(t *testing.T) { s.await(t, s.place(t, tolerating(tc.toleration)), tc.want...) })
	}
}

func wrongTolerations(t *testing.T) {
	t.Helper()
	s := newScene(t)
	one := s.cluster(t, nil)
	for name, wrong := range map[string]toleration{
		"exists with a value": {Key: "k", Operator: "Exists", Value: "v"},
		"equal without a key": {Operator: "Equal", Value: "v"},
	} {
		t.Run(name, func(t *testing.T) {
			p := s.place(t, tolerating(wrong))
			s.awaitMisconfigured(t, p, "TaintToleration:")
			s.await(t, p)
			change(t, s, p, func(p *clusterv1beta1.Placement) { p.Spec.Tolerations = nil })
			s.await(t, p, one)
			s.awaitCondition(t, p, "PlacementMisconfigured", metav1.ConditionFalse, "Succeedconfigured", "Placement configurations check pass")
		})
	}
}

// tolerationSeconds end without anything else that happens.
func tolerationSeconds(t *testing.T) {
	t.Helper()
	s := newScene(t)
	soon, later := s.cluster(t, nil), s.cluster(t, nil)
	added := time.Now()
	s.taint(t, soon, taint{Key: "k", Effect: clusterv1.TaintEffectNoSelect, TimeAdded: metav1.NewTime(added.Add(-40 * time.Second))})
	s.taint(t, later, taint{Key: "k", Effect: clusterv1.TaintEffectNoSelect, TimeAdded: metav1.NewTime(added)})
	p := s.place(t, tolerating(toleration{Key: "k", Operator: "Exists", TolerationSeconds: new(int64(60))}))
	s.await(t, p, soon, later)
	s.await(t, p, later)
	require.WithinDuration(t, added.Add(20*time.Second), time.Now(), 15*time.Second)
	require.GreaterOrEqual(t, time.Since(added), 19*time.Second, "a timeAdded has whole seconds")
}

func forEver(t *testing.T) {
	t.Helper()
	s := newScene(t)
	one := s.cluster(t, nil)
	s.taint(t, one, taint{Key: "k", Effect: clusterv1.TaintEffectNoSelect, TimeAdded: metav1.NewTime(time.Now().Add(-1000 * time.Hour))})
	s.await(t, s.place(t, tolerating(toleration{Key: "k", Operator: "Exists"})), one)
	s.await(t, s.place(t, tolerating(toleration{Key: "k", Operator: "Exists", TolerationSeconds: new(int64(60))})))
}

// TestPlacement_health runs the controller of taints, which would taint clusters
// of other tests too.
func TestPlacement_health(t *testing.T) {
	t.Run("PL-26_unhealthy_clusters", func(t *testing.T) {
		s := newScene(t)
		well, ill, unknown := s.cluster(t, nil), s.cluster(t, nil), s.cluster(t, nil)
		taints, err := startHub(context.WithoutCancel(t.Context()), s.plane, "taint")
		require.NoError(t, err)
		defer taints.stop()
		p := s.place(t, nil)
		s.await(t, p, well, ill, unknown)
		available := func(name string, status metav1.ConditionStatus) {
			report(t, s, named(name), func(c *clusterv1.ManagedCluster) { c.Status.Conditions[0].Status = status })
		}
		available(ill, metav1.ConditionFalse)
		available(unknown, metav1.ConditionUnknown)
		s.await(t, p, well)
		s.await(t, s.place(t, tolerating(toleration{Key: clusterv1.ManagedClusterTaintUnreachable, Operator: "Exists"})), well, unknown)
		s.await(t, s.place(t, tolerating(toleration{Key: clusterv1.ManagedClusterTaintUnavailable, Operator: "Exists"})), well, ill)
		available(ill, metav1.ConditionTrue)
		s.await(t, p, well, ill)
	})
}
