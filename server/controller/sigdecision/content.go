// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sigdecision

import (
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
)

const (
	// keyLabel is the same on all parts of a choice, indexLabel counts them from 0.
	keyLabel   = "multicluster.x-k8s.io/decision-key"
	indexLabel = "multicluster.x-k8s.io/decision-index"

	// builtIn is the hub's own scheduler.
	builtIn = "fairlead"

	sourceKind = "PlacementDecision"
)

// ours says whether a mirror is of the decision of its name, be it there or not.
func ours(mirror *unstructured.Unstructured) bool {
	owner := metav1.GetControllerOf(mirror)
	return owner != nil && owner.APIVersion == clusterv1beta1.GroupVersion.String() && owner.Kind == sourceKind && owner.Name == mirror.GetName()
}

// describe puts into a mirror what its source says. Labels of others stay.
func describe(mirror *unstructured.Unstructured, source *clusterv1beta1.PlacementDecision) {
	labels := mirror.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	placement := source.Labels[clusterv1beta1.PlacementLabel]
	labels[keyLabel] = placement
	delete(labels, indexLabel)
	if number, err := strconv.Atoi(strings.TrimPrefix(source.Name, placement+"-decision-")); err == nil && number > 0 {
		labels[indexLabel] = strconv.Itoa(number - 1)
	}
	mirror.SetLabels(labels)
	mirror.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: clusterv1beta1.GroupVersion.String(), Kind: sourceKind, Name: source.Name, UID: source.UID, Controller: new(true),
	}})
	scheduler, _, _ := strings.Cut(source.Annotations[v1alpha1.AnnotationTerm], ":")
	if scheduler == "" {
		scheduler = builtIn
	}
	mirror.Object["schedulerName"] = scheduler
	decisions := make([]any, 0, len(source.Status.Decisions)) // a list, if an empty one
	for _, d := range source.Status.Decisions {
		if d.ClusterName == "" {
			continue
		}
		decision := map[string]any{"clusterProfileRef": map[string]any{"name": d.ClusterName, "namespace": source.Namespace}}
		if d.Reason != "" {
			decision["reason"] = d.Reason
		}
		decisions = append(decisions, decision)
	}
	mirror.Object["decisions"] = decisions
}
