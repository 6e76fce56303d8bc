// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sigdecision

import (
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	inventoryv1alpha1 "sigs.k8s.io/cluster-inventory-api/apis/v1alpha1"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
)

const (
	// builtIn is the hub's own scheduler.
	builtIn = "fairlead"

	sourceKind = "PlacementDecision"
)

// ours says whether a mirror is of the decision of its name, be it there or not.
func ours(mirror *inventoryv1alpha1.PlacementDecision) bool {
	owner := metav1.GetControllerOf(mirror)
	return owner != nil && owner.APIVersion == clusterv1beta1.GroupVersion.String() && owner.Kind == sourceKind && owner.Name == mirror.Name
}

// describe puts into a mirror what its source says. Labels of others stay.
func describe(mirror *inventoryv1alpha1.PlacementDecision, source *clusterv1beta1.PlacementDecision) {
	if mirror.Labels == nil {
		mirror.Labels = map[string]string{}
	}
	placement := source.Labels[clusterv1beta1.PlacementLabel]
	mirror.Labels[inventoryv1alpha1.DecisionKeyLabel] = placement
	delete(mirror.Labels, inventoryv1alpha1.DecisionIndexLabel)
	if number, err := strconv.Atoi(strings.TrimPrefix(source.Name, placement+"-decision-")); err == nil && number > 0 {
		mirror.Labels[inventoryv1alpha1.DecisionIndexLabel] = strconv.Itoa(number - 1)
	}
	mirror.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: clusterv1beta1.GroupVersion.String(), Kind: sourceKind, Name: source.Name, UID: source.UID, Controller: new(true),
	}}
	mirror.SchedulerName, _, _ = strings.Cut(source.Annotations[v1alpha1.AnnotationTerm], ":")
	if mirror.SchedulerName == "" {
		mirror.SchedulerName = builtIn
	}
	mirror.Decisions = []inventoryv1alpha1.ClusterDecision{} // a list, if an empty one
	for _, d := range source.Status.Decisions {
		if d.ClusterName == "" {
			continue
		}
		mirror.Decisions = append(mirror.Decisions, inventoryv1alpha1.ClusterDecision{
			ClusterProfileRef: inventoryv1alpha1.ClusterProfileReference{Name: d.ClusterName, Namespace: source.Namespace}, Reason: d.Reason,
		})
	}
}
