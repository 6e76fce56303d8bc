// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterprofile

import (
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"

	"fairlead.dev/fairlead/internal/identity"
)

const (
	// managerLabel tells the cluster manager of a profile, managerName is ours.
	managerLabel = "x-k8s.io/cluster-manager"
	managerName  = "open-cluster-management"
)

// shownConditions are conditions of a ManagedCluster, and what they are called in
// a profile.
func shownConditions() map[string]string {
	return map[string]string{
		clusterv1.ManagedClusterConditionAvailable: "ControlPlaneHealthy",
		clusterv1.ManagedClusterConditionJoined:    "Joined",
	}
}

// ours says whether a profile is one of this cluster manager.
func ours(profile *unstructured.Unstructured) bool {
	name, _, _ := unstructured.NestedString(profile.Object, "spec", "clusterManager", "name")
	return name == managerName
}

// describe is the profile of a cluster, without status (RC-59).
func describe(namespace string, cluster *clusterv1.ManagedCluster) *unstructured.Unstructured {
	profile := newProfile()
	profile.SetNamespace(namespace)
	profile.SetName(cluster.Name)
	labels := map[string]string{managerLabel: managerName, identity.ClusterNameLabel: cluster.Name}
	if set, ok := cluster.Labels[clusterv1beta2.ClusterSetLabel]; ok {
		labels[clusterv1beta2.ClusterSetLabel] = set
	}
	profile.SetLabels(labels)
	profile.Object["spec"] = map[string]any{"displayName": cluster.Name, "clusterManager": map[string]any{"name": managerName}}
	return profile
}

// looksLike says whether labels and spec of a profile are as described. Labels of
// others are no concern of ours.
func looksLike(profile *unstructured.Unstructured, cluster *clusterv1.ManagedCluster) bool {
	wanted, labels := describe(profile.GetNamespace(), cluster), profile.GetLabels()
	for _, key := range []string{managerLabel, identity.ClusterNameLabel, clusterv1beta2.ClusterSetLabel} {
		have, is := labels[key]
		want, should := wanted.GetLabels()[key]
		if have != want || is != should {
			return false
		}
	}
	name, _, _ := unstructured.NestedString(profile.Object, "spec", "displayName")
	return name == cluster.Name
}

// status is the part of a profile's status that is written here.
type status struct {
	Version struct {
		Kubernetes string `json:"kubernetes,omitempty"`
	} `json:"version"`
	Properties []property         `json:"properties,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// readStatus is empty where nothing, or nothing that can be read, is.
func readStatus(profile *unstructured.Unstructured) (s status) {
	fields, _, _ := unstructured.NestedMap(profile.Object, "status")
	if runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &s) != nil {
		return status{}
	}
	return s
}

// reports says whether a profile's status is that of its cluster.
func reports(profile *unstructured.Unstructured, cluster *clusterv1.ManagedCluster) bool {
	have := readStatus(profile)
	claims, properties := map[string]string{}, map[string]string{}
	for _, claim := range cluster.Status.ClusterClaims {
		claims[claim.Name] = claim.Value
	}
	for _, p := range have.Properties {
		properties[p.Name] = p.Value
	}
	if have.Version.Kubernetes != cluster.Status.Version.Kubernetes || !maps.Equal(claims, properties) {
		return false
	}
	for source, shown := range shownConditions() {
		want, is := meta.FindStatusCondition(cluster.Status.Conditions, source), meta.FindStatusCondition(have.Conditions, shown)
		if !equality.Semantic.DeepEqual(renamed(want, shown), is) {
			return false
		}
	}
	return true
}

// setStatus writes the cluster's status into a profile. Conditions of others stay.
func setStatus(profile *unstructured.Unstructured, cluster *clusterv1.ManagedCluster) error {
	s := status{Conditions: readStatus(profile).Conditions}
	s.Version.Kubernetes = cluster.Status.Version.Kubernetes
	for _, claim := range cluster.Status.ClusterClaims {
		s.Properties = append(s.Properties, property(claim))
	}
	for source, shown := range shownConditions() {
		meta.RemoveStatusCondition(&s.Conditions, shown)
		if condition := renamed(meta.FindStatusCondition(cluster.Status.Conditions, source), shown); condition != nil {
			s.Conditions = append(s.Conditions, *condition)
		}
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&s)
	if err != nil {
		return fmt.Errorf("encoding the status of ClusterProfile %q: %w", profile.GetName(), err)
	}
	for _, field := range []string{"version", "properties", "conditions"} {
		unstructured.RemoveNestedField(profile.Object, "status", field)
		if value, ok := fields[field]; ok {
			if err := unstructured.SetNestedField(profile.Object, value, "status", field); err != nil {
				return fmt.Errorf("writing the status of ClusterProfile %q: %w", profile.GetName(), err)
			}
		}
	}
	return nil
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
