// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
	workv1 "open-cluster-management.io/api/work/v1"
)

// Resource is one entry of an inventory.
type Resource = workv1.AppliedManifestResourceMeta

// Key is what makes an entry the same object as another, whatever version it was applied by.
type Key struct{ Group, Resource, Namespace, Name string }

// KeyOf returns the key of an entry.
func KeyOf(r Resource) Key {
	return Key{Group: r.Group, Resource: r.Resource, Namespace: r.Namespace, Name: r.Name}
}

// GVR returns by which resource an entry was applied.
func GVR(r Resource) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource}
}

// Merge returns before with all of wanted in it, sorted. Where both have an entry the wanted one counts, with the UID of the
// earlier one if it has none.
func Merge(before, wanted []Resource) []Resource {
	merged := make(map[Key]Resource, len(before)+len(wanted))
	for _, r := range before {
		merged[KeyOf(r)] = r
	}
	for _, r := range wanted {
		if known, ok := merged[KeyOf(r)]; ok && r.UID == "" {
			r.UID = known.UID
		}
		merged[KeyOf(r)] = r
	}
	return Sorted(slices.Collect(maps.Values(merged)))
}

// Without returns the entries of all that are not in some.
func Without(all, some []Resource) []Resource {
	drop := make(map[Key]struct{}, len(some))
	for _, r := range some {
		drop[KeyOf(r)] = struct{}{}
	}
	return slices.DeleteFunc(slices.Clone(all), func(r Resource) bool {
		_, found := drop[KeyOf(r)]
		return found
	})
}

// Sorted sorts the entries in place by group, version, resource, namespace and name, and returns them.
func Sorted(list []Resource) []Resource {
	slices.SortFunc(list, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return list
}
