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
	return keyedDiffers(want, live, owned, keyed, path)
}

// keyedDiffers compares lists that are merged by key: each wanted item must be in live, and in the same order.
func keyedDiffers(want, live []any, owned *fieldpath.Set, keyed []fieldpath.PathElement, path string) string {
	last := -1
	elements := assign(want, keyed)
	for i, w := range want {
		here := fmt.Sprintf("%s[%d]", path, i)
		if elements[i].Key == nil {
			return here
		}
		at := itemOf(live, elements[i])
		if at < last || at < 0 {
			return here
		}
		last = at
		if found := differs(w, live[at], child(owned, elements[i]), here); found != "" {
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

// assign finds for each item the owned element that is its own; an item without one gets an element without a key. Items that
// have all key fields choose first, those that left one to be defaulted take what remains.
func assign(items []any, keyed []fieldpath.PathElement) []fieldpath.PathElement {
	chosen := make([]fieldpath.PathElement, len(items))
	taken := make([]bool, len(keyed))
	for _, wanted := range []fit{exact, partial} {
		for i, item := range items {
			at := slices.IndexFunc(keyed, func(element fieldpath.PathElement) bool { return fits(item, element) == wanted })
			for at >= 0 && at < len(keyed) && (taken[at] || fits(item, keyed[at]) != wanted) {
				at++
			}
			if chosen[i].Key == nil && at >= 0 && at < len(keyed) {
				chosen[i], taken[at] = keyed[at], true
			}
		}
	}
	return chosen
}

// itemOf returns the index of the list item that element names, -1 if there is none.
func itemOf(items []any, element fieldpath.PathElement) int {
	for _, wanted := range []fit{exact, partial} {
		at := slices.IndexFunc(items, func(item any) bool { return fits(item, element) == wanted })
		if at >= 0 {
			return at
		}
	}
	return -1
}

// fit says how well a list item fits a key.
type fit int

// The fits. An item fits partially if it has some of the key fields and none that differs: the others were defaulted.
const (
	none fit = iota
	partial
	exact
)

// fits compares a list item with the key of element.
func fits(item any, element fieldpath.PathElement) fit {
	fields, ok := item.(map[string]any)
	if !ok || element.Key == nil {
		return none
	}
	found := 0
	for _, key := range *element.Key {
		got, ok := fields[key.Name]
		if ok && !sameScalar(got, key.Value.Unstructured()) {
			return none
		}
		if ok {
			found++
		}
	}
	switch found {
	case 0:
		return none
	case len(*element.Key):
		return exact
	}
	return partial
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
