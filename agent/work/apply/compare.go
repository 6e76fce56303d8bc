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

// Difference returns the path of the first field of want that live does not have with the same value, or that want's manager
// does not own any more, or "" if there is none. Fields of live that want does not have are ignored. owned is the set of fields
// that the manager applied to live, from its managedFields. It tells which lists are merged by key, which are sets, and that
// all others are one value. What it does not contain somebody else has written since: that matters even where the value is the
// same now, and where somebody added to a map that is one value. Of the metadata only labels, annotations and finalizers are
// compared.
func Difference(want, live *unstructured.Unstructured, owned *fieldpath.Set) string {
	root := ownership{set: owned}
	for _, key := range slices.Sorted(maps.Keys(want.Object)) {
		below := root.child(fieldpath.FieldNameElement(key))
		path := ""
		switch key {
		case "apiVersion", "kind", "status":
		case "metadata":
			path = metadataDifference(want, live, below)
		default:
			path = differs(want.Object[key], live.Object[key], below, key)
		}
		if path != "" {
			return path
		}
	}
	return ""
}

func metadataDifference(want, live *unstructured.Unstructured, owned ownership) string {
	wanted, _ := want.Object["metadata"].(map[string]any)
	is, _ := live.Object["metadata"].(map[string]any)
	for _, part := range []string{"labels", "annotations", "finalizers"} {
		if path := differs(wanted[part], is[part], owned.child(fieldpath.FieldNameElement(part)), "metadata."+part); path != "" {
			return path
		}
	}
	return ""
}

// ownership is what a manager owns of one value: some of what is below it, all of it as one, or, by default, nothing.
type ownership struct {
	set   *fieldpath.Set
	whole bool
}

// child returns what is owned of the value at element.
func (o ownership) child(element fieldpath.PathElement) ownership {
	if o.whole || o.set == nil {
		return o
	}
	if below, ok := o.set.Children.Get(element); ok {
		return ownership{set: below}
	}
	return ownership{whole: o.set.Members.Has(element)}
}

// elements lists what is owned of a list that is merged: its keys, or the members of a set.
func (o ownership) elements() (keys []fieldpath.PathElement, members []any) {
	if o.whole || o.set == nil {
		return nil, nil
	}
	visit := func(element fieldpath.PathElement) {
		switch {
		case element.Key != nil:
			keys = append(keys, element)
		case element.Value != nil:
			members = append(members, (*element.Value).Unstructured())
		}
	}
	o.set.Members.Iterate(visit)
	o.set.Children.Iterate(visit)
	return keys, members
}

// differs compares one value; path is its place, for the answer.
func differs(want, live any, owned ownership, path string) string {
	if want == nil || live == nil && isEmpty(want) {
		return ""
	}
	switch w := want.(type) {
	case map[string]any:
		if l, ok := live.(map[string]any); ok {
			return mapDiffers(w, l, owned, path)
		}
	case []any:
		if l, ok := live.([]any); ok {
			return listDiffers(w, l, owned, path)
		}
	case omitted:
		if live == nil || live == false {
			return ""
		}
	default:
		if owned.whole && sameScalar(want, live) {
			return ""
		}
	}
	return path
}

// omitted is a false that a manifest of a built-in kind spells out and the apiserver leaves out when it stores the object.
type omitted struct{}

// withOmitted returns canonical with every false that only the manifest itself has.
func withOmitted(canonical, manifest any) any {
	switch c := canonical.(type) {
	case map[string]any:
		m, _ := manifest.(map[string]any)
		c = maps.Clone(c)
		for key, value := range m {
			below, stays := c[key]
			switch {
			case stays:
				c[key] = withOmitted(below, value)
			case value == false:
				c[key] = omitted{}
			}
		}
		return c
	case []any:
		m, _ := manifest.([]any)
		c = slices.Clone(c)
		for i := range min(len(c), len(m)) {
			c[i] = withOmitted(c[i], m[i])
		}
		return c
	}
	return canonical
}

func mapDiffers(want, live map[string]any, owned ownership, path string) string {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if at := differs(want[key], live[key], owned.child(fieldpath.FieldNameElement(key)), path+"."+key); at != "" {
			return at
		}
	}
	return ""
}

// listDiffers compares lists as the apiserver merges them: by key, as a set, or as one value.
func listDiffers(want, live []any, owned ownership, path string) string {
	keys, members := owned.elements()
	switch {
	case len(keys) > 0:
		return keyedDiffers(want, live, owned, keys, path)
	case len(members) > 0:
		for _, w := range want {
			same := func(v any) bool { return sameScalar(w, v) }
			if !slices.ContainsFunc(live, same) || !slices.ContainsFunc(members, same) {
				return path
			}
		}
		return ""
	case len(want) != len(live), !owned.whole && len(want) > 0:
		return path
	}
	for i := range want {
		if at := differs(want[i], live[i], owned, fmt.Sprintf("%s[%d]", path, i)); at != "" {
			return at
		}
	}
	return ""
}

// keyedDiffers compares lists that are merged by key: each wanted item must be in live, and in the same order.
func keyedDiffers(want, live []any, owned ownership, keys []fieldpath.PathElement, path string) string {
	last := -1
	elements := assign(want, keys)
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
		if found := differs(w, live[at], owned.child(elements[i]), here); found != "" {
			return found
		}
	}
	return ""
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
