// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
)

// clusterSetLabel is given to every cluster by OCM's admission, not by a person.
const clusterSetLabel = "cluster.open-cluster-management.io/clusterset"

// UntouchedManagedCluster says whether a ManagedCluster is still exactly what
// the hub made for that enrollment: nobody accepted it, labelled it or changed
// its spec. Only such a one may be deleted when the enrollment is denied or
// expires; delete it with its UID and resourceVersion as preconditions.
func UntouchedManagedCluster(cluster *clusterv1.ManagedCluster, enrollment string) bool {
	if cluster.Annotations[v1alpha1.AnnotationMadeBy] != enrollment || len(cluster.Annotations) != 1 {
		return false
	}
	for _, finalizer := range cluster.Finalizers {
		if finalizer != identity.ResourceCleanupFinalizer { // every cluster has that one from the hub
			return false
		}
	}
	for label := range cluster.Labels {
		if label != clusterSetLabel {
			return false
		}
	}
	spec := cluster.Spec
	return cluster.Generation <= 1 && !spec.HubAcceptsClient && len(spec.Taints) == 0 &&
		len(spec.ManagedClusterClientConfigs) == 0 && len(cluster.OwnerReferences) == 0
}
