// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// resources sums up what all nodes have, and what the schedulable ones can give
// (RA-32).
func (w *Watcher) resources() (capacity, allocatable map[string]string) {
	total, free := corev1.ResourceList{}, corev1.ResourceList{}
	for _, obj := range w.nodes.GetStore().List() {
		node, ok := obj.(*corev1.Node)
		if !ok {
			continue
		}
		add(total, node.Status.Capacity)
		if !node.Spec.Unschedulable {
			add(free, node.Status.Allocatable)
		}
	}
	return text(total), text(free)
}

func add(sum, more corev1.ResourceList) {
	for name, quantity := range more {
		value := sum[name]
		value.Add(quantity)
		sum[name] = value
	}
}

func text(list corev1.ResourceList) map[string]string {
	out := make(map[string]string, len(list))
	for name, quantity := range list {
		out[string(name)] = quantity.String()
	}
	return out
}

func resourcesDiffer(before, after any) bool {
	a, okA := before.(*corev1.Node)
	b, okB := after.(*corev1.Node)
	if !okA || !okB {
		return true
	}
	return a.Spec.Unschedulable != b.Spec.Unschedulable ||
		!equality.Semantic.DeepEqual(a.Status.Capacity, b.Status.Capacity) ||
		!equality.Semantic.DeepEqual(a.Status.Allocatable, b.Status.Allocatable)
}
