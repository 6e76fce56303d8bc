// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the one kind that Fairlead adds to Kubernetes:
// ClusterEnrollment, the hub's lasting record of one enrolled key of one
// cluster (what asked to join, who accepted it, which certificates it got).
//
// In and out go plain API objects; read and write them with a
// controller-runtime client or the dynamic client. No agent message may ever
// name one, and nothing in here talks to an apiserver.
//
// +kubebuilder:object:generate=true
// +groupName=fairlead.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of every kind of Fairlead's own.
const GroupName = "fairlead.dev"

// Version is the version of the kinds in this package.
const Version = "v1alpha1"

// Resource is the plural resource name of ClusterEnrollment.
const Resource = "clusterenrollments"

// GroupVersion returns the group and version of this package's kinds.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: GroupName, Version: Version}
}

// ClusterEnrollmentResource returns the resource under which the apiserver
// serves ClusterEnrollments, for dynamic and metadata clients.
func ClusterEnrollmentResource() schema.GroupVersionResource {
	return GroupVersion().WithResource(Resource)
}

// AddToScheme makes this package's kinds known to s.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &ClusterEnrollment{}, &ClusterEnrollmentList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
