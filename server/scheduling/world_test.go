// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/server/scheduling"
)

// start is when tests begin.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// tester is what both testing and rapid have.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// hub is a World with a clock, and a short language for its objects.
type hub struct {
	*scheduling.World
	t   tester
	now time.Time
}

func newHub(t tester) *hub {
	t.Helper()
	world, err := scheduling.New()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return &hub{World: world, t: t, now: start}
}

func key(name string) types.NamespacedName {
	namespace, name, _ := strings.Cut(name, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// cluster puts a ManagedCluster; its traits are set=NAME, claim:NAME=VALUE,
// taint:KEY[=VALUE]:EFFECT[@AGE], cpu=ALLOCATABLE, memory=ALLOCATABLE, deleting,
// and labels as NAME=VALUE.
func (h *hub) cluster(name string, traits ...string) {
	h.t.Helper()
	c := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, trait := range traits {
		h.trait(c, trait)
	}
	h.PutCluster(c)
}

func (h *hub) trait(c *clusterv1.ManagedCluster, trait string) {
	h.t.Helper()
	if trait == "deleting" {
		c.DeletionTimestamp = &metav1.Time{Time: h.now}
		return
	}
	if taint, ok := strings.CutPrefix(trait, "taint:"); ok {
		c.Spec.Taints = append(c.Spec.Taints, h.taint(taint))
		return
	}
	name, value, _ := strings.Cut(trait, "=")
	switch claim, isClaim := strings.CutPrefix(name, "claim:"); {
	case isClaim:
		c.Status.ClusterClaims = append(c.Status.ClusterClaims, clusterv1.ManagedClusterClaim{Name: claim, Value: value})
	case name == "set":
		c.Labels[clusterv1beta2.ClusterSetLabel] = value
	case name == "cpu", name == "memory":
		if c.Status.Allocatable == nil {
			c.Status.Allocatable, c.Status.Capacity = clusterv1.ResourceList{}, clusterv1.ResourceList{}
		}
		c.Status.Allocatable[clusterv1.ResourceName(name)] = resource.MustParse(value)
		c.Status.Capacity[clusterv1.ResourceName(name)] = resource.MustParse(value)
	default:
		c.Labels[name] = value
	}
}

func (h *hub) taint(text string) clusterv1.Taint {
	h.t.Helper()
	text, age, _ := strings.Cut(text, "@")
	id, effect, _ := strings.Cut(text, ":")
	name, value, _ := strings.Cut(id, "=")
	added := h.now
	if age != "" {
		added = added.Add(-h.duration(age))
	}
	return clusterv1.Taint{Key: name, Value: value, Effect: clusterv1.TaintEffect(effect), TimeAdded: metav1.NewTime(added)}
}

func (h *hub) duration(text string) time.Duration {
	h.t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	return d
}

// set puts a ManagedClusterSet: of clusters labelled with its name, or, with
// labels NAME=VALUE, of those that have all of them; "all" is of all.
func (h *hub) set(name string, match ...string) {
	s := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, m := range match {
		by := &s.Spec.ClusterSelector
		if by.LabelSelector == nil {
			by.SelectorType, by.LabelSelector = clusterv1beta2.LabelSelector, &metav1.LabelSelector{MatchLabels: map[string]string{}}
		}
		if label, value, ok := strings.Cut(m, "="); ok {
			by.LabelSelector.MatchLabels[label] = value
		}
	}
	h.PutSet(s)
}

func (h *hub) bind(namespace, set string) {
	h.PutBinding(&clusterv1beta2.ManagedClusterSetBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: set},
		Spec:       clusterv1beta2.ManagedClusterSetBindingSpec{ClusterSet: set},
	})
}

// score puts an AddOnPlacementScore with scores NAME=VALUE; until=IN is when it
// stops to be valid.
func (h *hub) score(cluster, name string, scores ...string) {
	h.t.Helper()
	s := &clusterv1alpha1.AddOnPlacementScore{ObjectMeta: metav1.ObjectMeta{Namespace: cluster, Name: name}}
	for _, score := range scores {
		name, value, _ := strings.Cut(score, "=")
		if name == "until" {
			s.Status.ValidUntil = &metav1.Time{Time: h.now.Add(h.duration(value))}
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			h.t.Fatalf("%v", err)
		}
		s.Status.Scores = append(s.Status.Scores, clusterv1alpha1.AddOnPlacementScoreItem{Name: name, Value: int32(n)})
	}
	h.PutScore(s)
}

// placement puts a Placement with a spec in YAML.
func (h *hub) placement(name, spec string) {
	h.t.Helper()
	p := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: key(name).Namespace, Name: key(name).Name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		h.t.Fatalf("%v", err)
	}
	for i, c := range p.Spec.PrioritizerPolicy.Configurations {
		if c.Weight == 0 && !strings.Contains(spec, "weight: 0") { // the CRD's default
			p.Spec.PrioritizerPolicy.Configurations[i].Weight = 1
		}
	}
	h.PutPlacement(p)
}

// decided puts the only PlacementDecision of a placement.
func (h *hub) decided(placement string, clusters ...string) {
	h.PutDecision(decision(placement, 1, clusters...))
}

func decision(placement string, number int, clusters ...string) *clusterv1beta1.PlacementDecision {
	d := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
		Namespace: key(placement).Namespace, Name: fmt.Sprintf("%s-decision-%d", key(placement).Name, number),
		Labels: map[string]string{clusterv1beta1.PlacementLabel: key(placement).Name},
	}}
	for _, cluster := range clusters {
		d.Status.Decisions = append(d.Status.Decisions, clusterv1beta1.ClusterDecision{ClusterName: cluster})
	}
	return d
}

// decide decides a placement that is there.
func (h *hub) decide(placement string) scheduling.Outcome {
	h.t.Helper()
	outcome, ok := h.Decide(key(placement), h.now)
	if !ok {
		h.t.Fatalf("there is no placement %s", placement)
	}
	return outcome
}

// keep decides a placement and puts its decision, as its loop does.
func (h *hub) keep(placement string) []string {
	h.t.Helper()
	clusters := h.decide(placement).Clusters
	h.decided(placement, clusters...)
	return clusters
}
