// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterprofile

import (
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	inventoryv1alpha1 "sigs.k8s.io/cluster-inventory-api/apis/v1alpha1"

	"fairlead.dev/fairlead/internal/identity"
)

// managerName is this cluster manager's, in field and label.
const managerName = "open-cluster-management"

// shownConditions are conditions of a ManagedCluster, and what they are called in
// a profile.
func shownConditions() map[string]string {
	return map[string]string{
		clusterv1.ManagedClusterConditionAvailable: inventoryv1alpha1.ClusterConditionControlPlaneHealthy,
		clusterv1.ManagedClusterConditionJoined:    "Joined",
	}
}

// ours says whether a profile is one of this cluster manager.
func ours(profile *inventoryv1alpha1.ClusterProfile) bool {
	return profile.Spec.ClusterManager.Name == managerName
}

// describe is the profile of a cluster, without status (RC-59).
func describe(namespace string, cluster *clusterv1.ManagedCluster) *inventoryv1alpha1.ClusterProfile {
	profile := &inventoryv1alpha1.ClusterProfile{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: cluster.Name,
		Labels: map[string]string{inventoryv1alpha1.LabelClusterManagerKey: managerName, identity.ClusterNameLabel: cluster.Name},
	}}
	if set, ok := cluster.Labels[clusterv1beta2.ClusterSetLabel]; ok {
		profile.Labels[clusterv1beta2.ClusterSetLabel] = set
	}
	profile.Spec.DisplayName, profile.Spec.ClusterManager.Name = cluster.Name, managerName
	return profile
}

// looksLike says whether labels and spec of a profile are as described. Labels of
// others are no concern of ours.
func looksLike(profile *inventoryv1alpha1.ClusterProfile, cluster *clusterv1.ManagedCluster) bool {
	wanted := describe(profile.Namespace, cluster)
	for _, key := range []string{inventoryv1alpha1.LabelClusterManagerKey, identity.ClusterNameLabel, clusterv1beta2.ClusterSetLabel} {
		have, is := profile.Labels[key]
		want, should := wanted.Labels[key]
		if have != want || is != should {
			return false
		}
	}
	return profile.Spec.DisplayName == cluster.Name
}

// propertiesOf are a cluster's claims as a profile can hold them: none without name
// or value, and each name once, for the apiserver refuses the whole status else.
func propertiesOf(cluster *clusterv1.ManagedCluster) []inventoryv1alpha1.Property {
	var properties []inventoryv1alpha1.Property
	seen := map[string]bool{}
	for _, claim := range cluster.Status.ClusterClaims {
		if claim.Name != "" && claim.Value != "" && !seen[claim.Name] {
			seen[claim.Name] = true
			properties = append(properties, inventoryv1alpha1.Property{Name: claim.Name, Value: claim.Value})
		}
	}
	return properties
}

// values are properties by name.
func values(properties []inventoryv1alpha1.Property) map[string]string {
	found := make(map[string]string, len(properties))
	for _, p := range properties {
		found[p.Name] = p.Value
	}
	return found
}

// reports says whether a profile's status is that of its cluster. The order of
// properties says nothing.
func reports(profile *inventoryv1alpha1.ClusterProfile, cluster *clusterv1.ManagedCluster) bool {
	if profile.Status.Version.Kubernetes != cluster.Status.Version.Kubernetes ||
		!maps.Equal(values(profile.Status.Properties), values(propertiesOf(cluster))) {
		return false
	}
	for source, shown := range shownConditions() {
		want, is := meta.FindStatusCondition(cluster.Status.Conditions, source), meta.FindStatusCondition(profile.Status.Conditions, shown)
		if !equality.Semantic.DeepEqual(renamed(want, shown), is) {
			return false
		}
	}
	return true
}

// setStatus writes the cluster's status into a profile. Conditions of others, and
// how the cluster can be reached, stay.
func setStatus(profile *inventoryv1alpha1.ClusterProfile, cluster *clusterv1.ManagedCluster) {
	profile.Status.Version.Kubernetes, profile.Status.Properties = cluster.Status.Version.Kubernetes, propertiesOf(cluster)
	for source, shown := range shownConditions() {
		meta.RemoveStatusCondition(&profile.Status.Conditions, shown)
		if condition := renamed(meta.FindStatusCondition(cluster.Status.Conditions, source), shown); condition != nil {
			profile.Status.Conditions = append(profile.Status.Conditions, *condition)
		}
	}
}

// renamed is a condition under another type; observedGeneration is the cluster's
// own and left out.
func renamed(condition *metav1.Condition, as string) *metav1.Condition {
	if condition == nil {
		return nil
	}
	c := *condition
	c.Type, c.ObservedGeneration = as, 0
	return &c
}
