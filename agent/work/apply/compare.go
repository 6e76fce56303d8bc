// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Difference returns the path of the first field of want that live does not have with the same value, or "" if there is none.
// Fields of live that want does not have are ignored. owned is the set of fields that want's manager applied to live, from its
// managedFields: it tells which lists are merged by key, which are sets, and that all others are one value. Of the metadata only
// labels, annotations and finalizers are compared.
func Difference(want, live *unstructured.Unstructured, owned *fieldpath.Set) string {
	for _, key := range slices.Sorted(maps.Keys(want.Object)) {
		switch key {
		case "apiVersion", "kind", "status":
			continue
		case "metadata":
			if path := metadataDifference(want, live); path != "" {
				return path
			}
		default:
			if path := differs(want.Object[key], live.Object[key], child(owned, fieldpath.FieldNameElement(key)), key); path != "" {
				return path
			}
		}
	}
	return ""
}

func metadataDifference(want, live *unstructured.Unstructured) string {
	for _, part := range []struct {
		name       string
		want, live map[string]string
	}{
		{"metadata.labels", want.GetLabels(), live.GetLabels()},
		{"metadata.annotations", want.GetAnnotations(), live.GetAnnotations()},
	} {
		for key, value := range part.want {
			if got, ok := part.live[key]; !ok || got != value {
				return part.name + "." + key
			}
		}
	}
	for _, finalizer := range want.GetFinalizers() {
		if !slices.Contains(live.GetFinalizers(), finalizer) {
			return "metadata.finalizers"
		}
	}
	return ""
}

// differs compares one value; path is its place, for the answer.
func differs(want, live any, owned *fieldpath.Set, path string) string {
	if want == nil || live == nil && isEmpty(want) {
		return ""
	}
	switch w := want.(type) {
	case map[string]any:
		l, ok := live.(map[string]any)
		if !ok {
			return path
		}
		for _, key := range slices.Sorted(maps.Keys(w)) {
			if at := differs(w[key], l[key], child(owned, fieldpath.FieldNameElement(key)), path+"."+key); at != "" {
				return at
			}
		}
		return ""
	case []any:
		l, ok := live.([]any)
		if !ok {
			return path
		}
		return listDiffers(w, l, owned, path)
	default:
		if !sameScalar(want, live) {
			return path
		}
		return ""
	}
}

// listDiffers compares lists as the apiserver merges them: by key, as a set, or as one value.
func listDiffers(want, live []any, owned *fieldpath.Set, path string) string {
	keyed, isSet := listType(owned)
	if isSet {
		for _, w := range want {
			if !slices.ContainsFunc(live, func(l any) bool { return sameScalar(w, l) }) {
				return path
			}
		}
		return ""
	}
	if len(keyed) == 0 {
		if len(want) != len(live) {
			return path
		}
		for i := range want {
			if at := differs(want[i], live[i], nil, fmt.Sprintf("%s[%d]", path, i)); at != "" {
				return at
			}
		}
		return ""
	}
	last := -1
	for i, w := range want {
		element, ok := elementOf(w, keyed)
		at := -1
		if ok {
			at = slices.IndexFunc(live, func(l any) bool { return hasKey(l, element) })
		}
		if at < 0 || at < last {
			return fmt.Sprintf("%s[%d]", path, i)
		}
		last = at
		if found := differs(w, live[at], child(owned, element), fmt.Sprintf("%s[%d]", path, i)); found != "" {
			return found
		}
	}
	return ""
}

// listType reads from an owned set whether its list is merged by key (and then the elements owned in it) or is a set.
func listType(owned *fieldpath.Set) (keyed []fieldpath.PathElement, isSet bool) {
	if owned == nil {
		return nil, false
	}
	visit := func(element fieldpath.PathElement) {
		if element.Key != nil {
			keyed = append(keyed, element)
		}
		isSet = isSet || element.Value != nil
	}
	owned.Members.Iterate(visit)
	owned.Children.Iterate(visit)
	return keyed, isSet
}

// elementOf returns the owned element whose key item has.
func elementOf(item any, keyed []fieldpath.PathElement) (fieldpath.PathElement, bool) {
	for _, element := range keyed {
		if hasKey(item, element) {
			return element, true
		}
	}
	return fieldpath.PathElement{}, false
}

// hasKey reports whether a list item is the one that element names. A key field that the item leaves out was defaulted by the
// apiserver, so it fits, as long as one field is there.
func hasKey(item any, element fieldpath.PathElement) bool {
	fields, ok := item.(map[string]any)
	if !ok || element.Key == nil {
		return false
	}
	found := false
	for _, key := range *element.Key {
		got, ok := fields[key.Name]
		if !ok {
			continue
		}
		if !sameScalar(got, key.Value.Unstructured()) {
			return false
		}
		found = true
	}
	return found
}

// child returns what is owned below element, or nil.
func child(owned *fieldpath.Set, element fieldpath.PathElement) *fieldpath.Set {
	if owned == nil {
		return nil
	}
	below, ok := owned.Children.Get(element)
	if !ok {
		return nil
	}
	return below
}

// isEmpty reports whether v says nothing: the apiserver stores no empty maps and lists where it can leave them out.
func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, below := range v {
			if !isEmpty(below) {
				return false
			}
		}
		return true
	case []any:
		return len(v) == 0
	}
	return false
}

// sameScalar compares values that are no maps or lists, numbers by what they count.
func sameScalar(a, b any) bool {
	x, aNumber := number(a)
	y, bNumber := number(b)
	if aNumber && bNumber {
		return x == y
	}
	return reflect.DeepEqual(a, b)
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case int:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}
