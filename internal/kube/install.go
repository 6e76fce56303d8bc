// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/internal/identity"
)

// FieldManager owns what the hub itself applies.
const FieldManager = "fairlead-hub"

// ApplyManifests applies YAML documents, one object each, by server-side apply.
// Where a document names the hub's default namespace (in its metadata or as the
// namespace of an RBAC subject), namespace takes its place.
func ApplyManifests(ctx context.Context, c client.Client, namespace string, docs [][]byte) error {
	for i, doc := range docs {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &obj.Object); err != nil {
			return fmt.Errorf("manifest number %d is not YAML: %w", i+1, err)
		}
		moveNamespace(obj, namespace)
		if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(obj), client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
			return fmt.Errorf("applying %s %q: %w", obj.GetKind(), obj.GetName(), err)
		}
	}
	return nil
}

func moveNamespace(obj *unstructured.Unstructured, namespace string) {
	if obj.GetNamespace() == identity.HubNamespace {
		obj.SetNamespace(namespace)
	}
	subjects, _, _ := unstructured.NestedSlice(obj.Object, "subjects")
	for _, subject := range subjects {
		if fields, ok := subject.(map[string]any); ok && fields["namespace"] == identity.HubNamespace {
			fields["namespace"] = namespace
		}
	}
	if len(subjects) > 0 {
		obj.Object["subjects"] = subjects
	}
}

// EnsureNamespace creates a namespace if it does not exist.
func EnsureNamespace(ctx context.Context, c client.Client, name string) error {
	obj := &unstructured.Unstructured{}
	obj.SetAPIVersion("v1")
	obj.SetKind("Namespace")
	obj.SetName(name)
	if err := c.Create(ctx, obj); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating namespace %q: %w", name, err)
	}
	return nil
}
