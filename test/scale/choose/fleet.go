// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"

	"fairlead.dev/fairlead/server/scheduling"
)

const (
	set        = "fleet"
	namespaces = 4
)

// fleet is a World with clusters and placements.
type fleet struct {
	world      *scheduling.World
	now        time.Time
	clusters   []*clusterv1.ManagedCluster
	placements []*clusterv1beta1.Placement
	objects    uint64 // bytes of the objects, before there is a World
}

func newFleet(clusters, placements int) (*fleet, error) {
	world, err := scheduling.New()
	if err != nil {
		return nil, err
	}
	f := &fleet{world: world, now: time.Now()}
	before := heap()
	for i := range clusters {
		f.clusters = append(f.clusters, newCluster(i))
	}
	f.objects = heap() - before
	for i := range placements {
		f.placements = append(f.placements, newPlacement(i))
	}
	return f, nil
}

func newCluster(i int) *clusterv1.ManagedCluster {
	resources := clusterv1.ResourceList{
		clusterv1.ResourceCPU: *resource.NewQuantity(int64(8+i%64), resource.DecimalSI), clusterv1.ResourceMemory: *resource.NewQuantity(int64(16+i%128)<<30, resource.BinarySI),
	}
	return &clusterv1.ManagedCluster{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("cluster-%05d", i), Labels: map[string]string{
			clusterv1beta2.ClusterSetLabel: set, "region": fmt.Sprintf("region-%d", i%7), "cell": fmt.Sprintf("cell-%d", i%20), "vendor": "any",
		}},
		Spec: clusterv1.ManagedClusterSpec{HubAcceptsClient: true, LeaseDurationSeconds: 60},
		Status: clusterv1.ManagedClusterStatus{
			Allocatable: resources, Capacity: resources,
			ClusterClaims: []clusterv1.ManagedClusterClaim{{Name: "id.k8s.io", Value: strconv.Itoa(i)}, {Name: "stage", Value: fmt.Sprintf("stage-%d", i%10)}},
		},
	}
}

// newPlacement selects in one of four ways; see the head of the figures.
func newPlacement(i int) *clusterv1beta1.Placement {
	p := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("apps-%d", i%namespaces), Name: fmt.Sprintf("placement-%03d", i)}}
	cell, number := fmt.Sprintf("cell-%d", i%20), int32(0)
	var by clusterv1beta1.ClusterSelector
	switch i / namespaces % 4 {
	case 0:
		by.LabelSelector.MatchLabels = map[string]string{"cell": cell}
	case 1:
		number = 50
		by.ClaimSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "stage", Operator: metav1.LabelSelectorOpIn, Values: []string{fmt.Sprintf("stage-%d", i%10)}}}
		p.Spec.PrioritizerPolicy.Configurations = []clusterv1beta1.PrioritizerConfig{
			{ScoreCoordinate: &clusterv1beta1.ScoreCoordinate{BuiltIn: scheduling.PrioritizerResourceAllocatableMemory}, Weight: 1},
			{ScoreCoordinate: &clusterv1beta1.ScoreCoordinate{Type: clusterv1beta1.ScoreCoordinateTypeAddOn, AddOn: &clusterv1beta1.AddOnScore{ResourceName: "load", ScoreName: "free"}}, Weight: 2},
		}
	case 2:
		number = 20
		by.CelSelector.CelExpressions = []string{fmt.Sprintf(`managedCluster.metadata.labels["cell"] == %q && managedCluster.status.clusterClaims.exists(c, c.name == "stage")`, cell)}
	case 3:
		number = 10
		by.LabelSelector.MatchLabels = map[string]string{"cell": cell}
		p.Spec.SpreadPolicy.SpreadConstraints = []clusterv1beta1.SpreadConstraintsTerm{
			{TopologyKey: "region", TopologyKeyType: clusterv1beta1.TopologyKeyTypeLabel, MaxSkew: 1, WhenUnsatisfiable: clusterv1beta1.DoNotSchedule},
		}
	}
	p.Spec.Predicates = []clusterv1beta1.ClusterPredicate{{RequiredClusterSelector: by}}
	if number > 0 {
		p.Spec.NumberOfClusters = &number
	}
	return p
}

// load puts everything but placements.
func (f *fleet) load() {
	f.world.PutSet(&clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: set}})
	for i := range namespaces {
		f.world.PutBinding(&clusterv1beta2.ManagedClusterSetBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("apps-%d", i), Name: set}, Spec: clusterv1beta2.ManagedClusterSetBindingSpec{ClusterSet: set},
		})
	}
	for i, c := range f.clusters {
		f.world.PutCluster(c)
		f.putScore(i, int32(i%200-100))
	}
}

func (f *fleet) putScore(i int, value int32) {
	f.world.PutScore(&clusterv1alpha1.AddOnPlacementScore{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.clusters[i].Name, Name: "load"},
		Status:     clusterv1alpha1.AddOnPlacementScoreStatus{Scores: []clusterv1alpha1.AddOnPlacementScoreItem{{Name: "free", Value: value}}},
	})
}

// decide decides what is dirty, as the loop does, and says how many there were.
func (f *fleet) decide(keep bool) (int, error) {
	dirty := f.world.Dirty()
	for _, key := range dirty {
		outcome, ok := f.world.Decide(key, f.now)
		if !ok {
			return 0, fmt.Errorf("placement %s is dirty and not there", key)
		}
		if keep {
			f.keep(key, outcome.Clusters)
		}
	}
	return len(dirty), nil
}

// keep has the decisions come back, 100 in each object.
func (f *fleet) keep(key types.NamespacedName, clusters []string) {
	for n := 0; n == 0 || len(clusters) > 0; n++ {
		d := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: fmt.Sprintf("%s-decision-%d", key.Name, n+1), Labels: map[string]string{clusterv1beta1.PlacementLabel: key.Name},
		}}
		part := clusters[:min(100, len(clusters))]
		clusters = clusters[len(part):]
		for _, c := range part {
			d.Status.Decisions = append(d.Status.Decisions, clusterv1beta1.ClusterDecision{ClusterName: c})
		}
		f.world.PutDecision(d)
	}
}
