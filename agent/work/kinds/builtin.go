// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// BuiltIn reports whether kind is one of Kubernetes' own, whose Go type the agent has.
func BuiltIn(kind schema.GroupVersionKind) bool {
	return scheme.Scheme.Recognizes(kind)
}

// Canonical returns obj as the apiserver would write it: quantities in their shortest form, zero values that are not stored
// left out, fields that the type does not have dropped. Kinds that are not built in come back as they are. obj is not changed;
// the result may share memory with it and must not be changed either.
func Canonical(obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	kind := obj.GroupVersionKind()
	if !BuiltIn(kind) {
		return obj, nil
	}
	typed, err := scheme.Scheme.New(kind)
	if err != nil {
		return nil, fmt.Errorf("making a %s: %w", kind, err)
	}
	converter := runtime.DefaultUnstructuredConverter
	if err := converter.FromUnstructured(obj.Object, typed); err != nil {
		return nil, fmt.Errorf("%s %q is not a valid %s: %w", kind.Kind, obj.GetName(), kind, err)
	}
	content, err := converter.ToUnstructured(typed)
	if err != nil {
		return nil, fmt.Errorf("encoding %s %q: %w", kind.Kind, obj.GetName(), err)
	}
	withoutAdditions(content, obj.Object)
	canonical := &unstructured.Unstructured{Object: content}
	canonical.SetGroupVersionKind(kind)
	return canonical, nil
}

// withoutAdditions takes out of canonical what original does not have: zero values that the Go type cannot leave out.
func withoutAdditions(canonical, original any) {
	switch c := canonical.(type) {
	case map[string]any:
		o, _ := original.(map[string]any)
		for key, value := range c {
			if written, ok := o[key]; ok {
				withoutAdditions(value, written)
			} else {
				delete(c, key)
			}
		}
	case []any:
		o, ok := original.([]any)
		for i := range c {
			if ok && i < len(o) {
				withoutAdditions(c[i], o[i])
			}
		}
	}
}
