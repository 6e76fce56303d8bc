// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ranks lists the kinds whose place in the order matters, first to last; every other kind comes after them. A kind stands
// after all that it cannot live without: content after its namespace, bindings and accounts before what runs under them,
// configuration before the workloads that mount it, and webhooks after the workloads that serve them.
func ranks() [][]schema.GroupKind {
	return [][]schema.GroupKind{
		{
			{Group: "scheduling.k8s.io", Kind: "PriorityClass"},
			{Kind: "Namespace"},
			{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"},
			{Group: "storage.k8s.io", Kind: "StorageClass"},
			{Kind: "PersistentVolume"},
			{Group: "policy", Kind: "PodSecurityPolicy"},
		},
		{
			{Group: rbac, Kind: "ClusterRole"},
			{Group: rbac, Kind: "ClusterRoleBinding"},
			{Group: rbac, Kind: "Role"},
			{Group: rbac, Kind: "RoleBinding"},
		},
		{
			{Group: "networking.k8s.io", Kind: "NetworkPolicy"},
			{Kind: "ResourceQuota"},
			{Kind: "LimitRange"},
			{Group: "policy", Kind: "PodDisruptionBudget"},
			{Kind: "ServiceAccount"},
		},
		{{Kind: "Secret"}, {Kind: "ConfigMap"}, {Kind: "PersistentVolumeClaim"}},
		{{Kind: "Service"}},
		{
			{Group: "apps", Kind: "DaemonSet"},
			{Kind: "Pod"},
			{Kind: "ReplicationController"},
			{Group: "apps", Kind: "ReplicaSet"},
			{Group: "apps", Kind: "Deployment"},
			{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"},
			{Group: "apps", Kind: "StatefulSet"},
			{Group: "batch", Kind: "Job"},
			{Group: "batch", Kind: "CronJob"},
		},
		{
			{Group: "apiregistration.k8s.io", Kind: "APIService"},
			{Group: admission, Kind: "ValidatingWebhookConfiguration"},
			{Group: admission, Kind: "MutatingWebhookConfiguration"},
			{Group: admission, Kind: "ValidatingAdmissionPolicy"},
			{Group: admission, Kind: "ValidatingAdmissionPolicyBinding"},
		},
	}
}

const (
	rbac      = "rbac.authorization.k8s.io"
	admission = "admissionregistration.k8s.io"
)

// Order returns the indices of kinds in the order in which they are to be applied. Kinds of one rank keep the order in which
// they came.
func Order(kinds []schema.GroupKind) []int {
	rank := map[schema.GroupKind]int{}
	table := ranks()
	for i, row := range table {
		for _, kind := range row {
			rank[kind] = i
		}
	}
	of := func(i int) int {
		if r, ok := rank[kinds[i]]; ok {
			return r
		}
		return len(table)
	}
	order := make([]int, len(kinds))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(of(a), of(b)) })
	return order
}
