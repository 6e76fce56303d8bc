// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clusterset says which clusters are in a ManagedClusterSet (RC-44 to
// RC-46), for all who ask: its status, its bindings' profiles, managed namespaces
// and placement. A set comes in and a selector of clusters' labels goes out.
package clusterset

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
)

// Names of the sets that the hub keeps in being (RC-48).
const (
	// Default has the clusters that nobody put into a set.
	Default = "default"
	// Global has every cluster.
	Global = "global"
)

// Selector selects, by their labels, the clusters of a set: those labelled with
// its name, or those that its labelSelector selects, of which nil selects none and
// an empty one all. A selector that cannot be read selects none, and is an error.
func Selector(set *clusterv1beta2.ManagedClusterSet) (labels.Selector, error) {
	switch by := set.Spec.ClusterSelector; by.SelectorType {
	case clusterv1beta2.ExclusiveClusterSetLabel, "":
		return labels.SelectorFromSet(labels.Set{clusterv1beta2.ClusterSetLabel: set.Name}), nil
	case clusterv1beta2.LabelSelector:
		selector, err := metav1.LabelSelectorAsSelector(by.LabelSelector)
		if err != nil {
			return labels.Nothing(), fmt.Errorf("spec.clusterSelector.labelSelector of ManagedClusterSet %q: %w", set.Name, err)
		}
		return selector, nil
	default:
		return labels.Nothing(), fmt.Errorf("spec.clusterSelector.selectorType of ManagedClusterSet %q is %q: want %s or %s",
			set.Name, by.SelectorType, clusterv1beta2.ExclusiveClusterSetLabel, clusterv1beta2.LabelSelector)
	}
}

// Has says whether a cluster with these labels is in the set. Nobody is in one
// whose selector cannot be read.
func Has(set *clusterv1beta2.ManagedClusterSet, cluster map[string]string) bool {
	selector, err := Selector(set)
	return err == nil && selector.Matches(labels.Set(cluster))
}
