// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// OwnedBy returns the fields of live that manager applied, or nil if it never did.
func OwnedBy(live *unstructured.Unstructured, manager string) (*fieldpath.Set, error) {
	for _, entry := range live.GetManagedFields() {
		if entry.Manager == manager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" {
			return fieldsOf(entry)
		}
	}
	return nil, nil //nolint:nilnil // to own nothing is no error
}

func fieldsOf(entry metav1.ManagedFieldsEntry) (*fieldpath.Set, error) {
	set := &fieldpath.Set{}
	if entry.FieldsV1 == nil {
		return set, nil
	}
	if err := set.FromJSON(entry.FieldsV1.GetRawReader()); err != nil {
		return nil, fmt.Errorf("reading the managed fields of %q: %w", entry.Manager, err)
	}
	return set, nil
}

// Dropped returns a field that is in owned but not in the manifest any more, or "" if there is none. Owner references are left
// to owner.go.
func Dropped(manifest *unstructured.Unstructured, owned *fieldpath.Set) string {
	dropped := ""
	owned.Leaves().Iterate(func(path fieldpath.Path) {
		if dropped == "" && !isOwnerReference(path) && uncovered(manifest.Object, path) >= 0 {
			dropped = path.String()
		}
	})
	return dropped
}

func isOwnerReference(path fieldpath.Path) bool {
	return len(path) > 1 && isField(path[0], "metadata") && isField(path[1], "ownerReferences")
}

func isField(element fieldpath.PathElement, name string) bool {
	return element.FieldName != nil && *element.FieldName == name
}

// uncovered returns the index of the first element of path that object does not have, or -1 if it has them all.
func uncovered(object any, path fieldpath.Path) int {
	for i, element := range path {
		below, ok := descend(object, element)
		if !ok {
			return i
		}
		object = below
	}
	return -1
}

// descend returns what is in object at element.
func descend(object any, element fieldpath.PathElement) (any, bool) {
	if element.FieldName != nil {
		fields, ok := object.(map[string]any)
		if !ok {
			return nil, false
		}
		below, ok := fields[*element.FieldName]
		return below, ok
	}
	items, ok := object.([]any)
	if !ok {
		return nil, false
	}
	at := -1
	switch {
	case element.Key != nil:
		at = itemOf(items, element)
	case element.Value != nil:
		want := (*element.Value).Unstructured()
		at = slices.IndexFunc(items, func(item any) bool { return sameScalar(item, want) })
	case element.Index != nil && *element.Index < len(items):
		at = *element.Index
	}
	if at < 0 {
		return nil, false
	}
	return items[at], true
}
