// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
)

// defaultLease is what the CRD puts into leaseDurationSeconds.
const defaultLease = 60

// UntouchedManagedCluster says whether a ManagedCluster is still exactly what
// the hub made for that enrollment: nobody accepted it, labelled it or changed
// its spec; the taints by health are the hub's own. Only such a one may be deleted when the enrollment is denied or
// expires; delete it with its UID and resourceVersion as preconditions.
func UntouchedManagedCluster(cluster *clusterv1.ManagedCluster, enrollment string) bool {
	made := map[string]string{v1alpha1.AnnotationMadeBy: enrollment}
	if given, ok := cluster.Annotations[v1alpha1.AnnotationMadeWithLabels]; ok {
		made[v1alpha1.AnnotationMadeWithLabels] = given
	}
	if !maps.Equal(cluster.Annotations, made) {
		return false
	}
	for _, finalizer := range cluster.Finalizers {
		if finalizer != identity.ResourceCleanupFinalizer { // every cluster has that one from the hub
			return false
		}
	}
	own := maps.Clone(cluster.Labels)
	delete(own, clusterv1beta2.ClusterSetLabel) // admission gives it to every cluster
	if labels.Set(own).String() != made[v1alpha1.AnnotationMadeWithLabels] {
		return false
	}
	spec := cluster.Spec
	return !spec.HubAcceptsClient && spec.LeaseDurationSeconds == defaultLease && !slices.ContainsFunc(spec.Taints, byPerson) &&
		len(spec.ManagedClusterClientConfigs) == 0 && len(cluster.OwnerReferences) == 0
}

func byPerson(t clusterv1.Taint) bool { return !HealthTaint(t) }

// HealthTaint tells whether a taint is one that the hub gives by a cluster's health (RC-41).
func HealthTaint(t clusterv1.Taint) bool {
	return t.Key == clusterv1.ManagedClusterTaintUnreachable || t.Key == clusterv1.ManagedClusterTaintUnavailable
}
