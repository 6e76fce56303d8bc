// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"maps"

	"k8s.io/apimachinery/pkg/labels"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
)

// clusterSetLabel is given to every cluster by OCM's admission, not by a person.
const clusterSetLabel = "cluster.open-cluster-management.io/clusterset"

// UntouchedManagedCluster says whether a ManagedCluster is still exactly what
// the hub made for that enrollment: nobody accepted it, labelled it or changed
// its spec. Only such a one may be deleted when the enrollment is denied or
// expires; delete it with its UID and resourceVersion as preconditions.
func UntouchedManagedCluster(cluster *clusterv1.ManagedCluster, enrollment string) bool {
	made := map[string]string{v1alpha1.AnnotationMadeBy: enrollment}
	if given, ok := cluster.Annotations[v1alpha1.AnnotationMadeWithLabels]; ok {
		made[v1alpha1.AnnotationMadeWithLabels] = given
	}
	if !maps.Equal(cluster.Annotations, made) {
		return false
	}
	own := maps.Clone(cluster.Labels)
	delete(own, clusterSetLabel)
	if labels.Set(own).String() != made[v1alpha1.AnnotationMadeWithLabels] {
		return false
	}
	spec := cluster.Spec
	return cluster.Generation <= 1 && !spec.HubAcceptsClient && len(spec.Taints) == 0 &&
		len(spec.ManagedClusterClientConfigs) == 0 && len(cluster.Finalizers) == 0 && len(cluster.OwnerReferences) == 0
}
