// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package condition writes status conditions of objects that several writers
// share. Each writer has its own field manager and applies all of its conditions
// at once by server-side apply, so that nobody overwrites another's.
//
// An object as last read and the conditions that its writer wants come in; an
// apiserver write goes out if, and only if, they differ.
package condition

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Writer applies the conditions of one writer. It may be used concurrently.
type Writer struct {
	// Client writes; its scheme knows the objects.
	Client client.Client
	// FieldManager is this writer's own and no other's.
	FieldManager string
	// Clock gives lastTransitionTime.
	Clock clock.PassiveClock
}

// Apply makes the writer's conditions of obj be wanted, and reports whether it
// wrote. existing are all conditions of obj as it was read. A condition that the
// writer applied before and that is not wanted any more is removed.
//
// The write carries obj's resourceVersion: if obj has changed since it was read,
// or is another object by now, the error is a conflict, and the caller reads it
// again. After a write obj has the new resourceVersion.
func (w Writer) Apply(ctx context.Context, obj client.Object, existing []metav1.Condition, wanted ...metav1.Condition) (bool, error) {
	changed := false
	now := metav1.NewTime(w.Clock.Now())
	for i := range wanted {
		have := meta.FindStatusCondition(existing, wanted[i].Type)
		changed = changed || !same(have, &wanted[i])
		wanted[i].LastTransitionTime = now
		if have != nil && have.Status == wanted[i].Status {
			wanted[i].LastTransitionTime = have.LastTransitionTime
		}
	}
	if !changed {
		return false, nil
	}
	patch, err := w.patch(obj, wanted)
	if err != nil {
		return false, err
	}
	if err := w.Client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(patch),
		client.FieldOwner(w.FieldManager), client.ForceOwnership); err != nil {
		return false, fmt.Errorf("writing conditions of %s %q: %w", patch.GetKind(), obj.GetName(), err)
	}
	obj.SetResourceVersion(patch.GetResourceVersion())
	return true, nil
}

// same says whether writing want would change nothing that a reader sees.
func same(have, want *metav1.Condition) bool {
	return have != nil && have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message &&
		have.ObservedGeneration == want.ObservedGeneration
}

// patch has conditions and what identifies this very revision of obj.
func (w Writer) patch(obj client.Object, conditions []metav1.Condition) (*unstructured.Unstructured, error) {
	gvk, err := w.Client.GroupVersionKindFor(obj)
	if err != nil {
		return nil, fmt.Errorf("writing conditions of %q: %w", obj.GetName(), err)
	}
	list := make([]any, 0, len(conditions))
	for i := range conditions {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&conditions[i])
		if err != nil {
			return nil, fmt.Errorf("encoding condition %q of %q: %w", conditions[i].Type, obj.GetName(), err)
		}
		list = append(list, fields)
	}
	patch := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": list}}}
	patch.SetGroupVersionKind(gvk)
	patch.SetName(obj.GetName())
	patch.SetNamespace(obj.GetNamespace())
	patch.SetResourceVersion(obj.GetResourceVersion())
	return patch, nil
}
