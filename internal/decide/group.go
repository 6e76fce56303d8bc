// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package decide

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// MaxClusters is how many clusters one PlacementDecision has at most (PL-41).
const MaxClusters = 100

// group is the clusters of a decision group, sorted.
type group struct {
	name     string
	clusters []string
}

// namedGroup is one of spec.decisionStrategy.groupStrategy.decisionGroups.
type namedGroup struct {
	name           string
	labels, claims labels.Selector
}

// group parts clusters, which are best first, into decision groups: the named
// ones, then the rest, none longer than the Placement says (PL-46 to PL-49). There
// is always one (PL-43).
func (s Submitter) group(ctx context.Context, placement *clusterv1beta1.Placement, clusters []string) ([]group, error) {
	if problems := validation.IsValidLabelValue(placement.Name); len(problems) > 0 {
		return nil, invalid("the name %q cannot be the value of label %s of PlacementDecisions (%s): use a shorter one",
			placement.Name, clusterv1beta1.PlacementLabel, problems[0])
	}
	strategy := placement.Spec.DecisionStrategy.GroupStrategy
	named, err := namedGroups(strategy.DecisionGroups)
	if err != nil {
		return nil, err
	}
	members, err := s.members(ctx, named, clusters)
	if err != nil {
		return nil, err
	}
	length := groupLength(strategy.ClustersPerDecisionGroup, len(clusters))
	var groups []group
	for i, of := range members {
		name := ""
		if i < len(named) {
			name = named[i].name
		}
		for part := range slices.Chunk(of, length) {
			groups = append(groups, group{name: name, clusters: slices.Sorted(slices.Values(part))})
		}
	}
	if len(groups) == 0 {
		groups = append(groups, group{})
	}
	return groups, nil
}

func namedGroups(specified []clusterv1beta1.DecisionGroup) ([]namedGroup, error) {
	named := make([]namedGroup, 0, len(specified))
	for i := range specified {
		g := &specified[i]
		byLabel, err := metav1.LabelSelectorAsSelector(&g.ClusterSelector.LabelSelector)
		if err != nil {
			return nil, invalid("decisionGroups[%d] %q: groupClusterSelector.labelSelector: %v", i, g.GroupName, err)
		}
		byClaim, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: g.ClusterSelector.ClaimSelector.MatchExpressions})
		if err != nil {
			return nil, invalid("decisionGroups[%d] %q: groupClusterSelector.claimSelector: %v", i, g.GroupName, err)
		}
		named = append(named, namedGroup{name: g.GroupName, labels: byLabel, claims: byClaim})
	}
	return named, nil
}

// members are the clusters of each named group, in their order, and then the rest.
func (s Submitter) members(ctx context.Context, named []namedGroup, clusters []string) ([][]string, error) {
	members := make([][]string, len(named)+1)
	if len(named) == 0 {
		members[0] = clusters
		return members, nil
	}
	for _, name := range clusters {
		cluster := &clusterv1.ManagedCluster{}
		err := s.Reader.Get(ctx, client.ObjectKey{Name: name}, cluster, client.UnsafeDisableDeepCopy)
		if err != nil && !apierrors.IsNotFound(err) { // one that has gone meanwhile is in no named group
			return nil, fmt.Errorf("reading cluster %q: %w", name, err)
		}
		claims := labels.Set{}
		for _, claim := range cluster.Status.ClusterClaims {
			claims[claim.Name] = claim.Value
		}
		i := slices.IndexFunc(named, func(g namedGroup) bool {
			return err == nil && g.labels.Matches(labels.Set(cluster.Labels)) && g.claims.Matches(claims)
		})
		if i < 0 {
			i = len(named)
		}
		members[i] = append(members[i], name)
	}
	return members, nil
}

// groupLength is the most that a group may have of that many clusters (PL-46,
// PL-49).
func groupLength(per intstr.IntOrString, clusters int) int {
	length, err := intstr.GetScaledValueFromIntOrPercent(&per, clusters, true)
	if err != nil || length <= 0 {
		return max(clusters, 1)
	}
	return length
}
