// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"fairlead.dev/fairlead/agent/work/ignore"
)

// on returns the request for an object as it is now, nil if there is none: what is to be ignored there is not in the manifest
// any more, and the manifest has the annotation by which a later look knows whether it is the one sent last.
func (r Request) on(live *unstructured.Unstructured) Request {
	if !r.Ignore.Ruled() {
		return r
	}
	full := r.Manifest.Object
	sum := specHash(full)
	kept := full.Object
	if live != nil {
		unchanged := live.GetAnnotations()[workv1.ManifestConfigSpecHashAnnotationKey] == sum
		kept = ignore.Without(kept, r.Ignore.Paths(unchanged))
	}
	metadata, _ := kept["metadata"].(map[string]any) // a manifest has a name, so it has metadata
	annotations, _ := metadata["annotations"].(map[string]any)
	kept, metadata, annotations = maps.Clone(kept), maps.Clone(metadata), maps.Clone(annotations)
	if annotations == nil {
		annotations = map[string]any{}
	}
	annotations[workv1.ManifestConfigSpecHashAnnotationKey] = sum
	metadata["annotations"], kept["metadata"] = annotations, metadata
	r.Manifest.Object = &unstructured.Unstructured{Object: kept}
	return r
}

// specHash digests what a manifest says.
func specHash(manifest *unstructured.Unstructured) string {
	encoded, err := json.Marshal(manifest.Object)
	if err != nil {
		encoded = nil // it was decoded from JSON
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:])
}

// surrendered returns the fields of live that are to be ignored and that the manager still owns, because it had to send them
// once. As long as it does, applying without them would delete them, and whoever else applies them would get a conflict.
func surrendered(req Request, live *unstructured.Unstructured) (*fieldpath.Set, error) {
	given := &fieldpath.Set{}
	if !req.Ignore.Ruled() {
		return given, nil
	}
	owned, err := OwnedBy(live, req.Manager)
	if err != nil || owned == nil {
		return given, err
	}
	seen := req.on(live).Manifest.Object
	owned.Iterate(func(path fieldpath.Path) {
		if uncovered(seen.Object, path) >= 0 && uncovered(req.Manifest.Object.Object, path) < 0 {
			given.Insert(path.Copy())
		}
	})
	return given, nil
}

// surrender takes the ignored fields out of what the manager owns, without touching their values. It does nothing if there are
// none.
func (a *Applier) surrender(ctx context.Context, object dynamic.ResourceInterface, req Request, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	given, err := surrendered(req, live)
	if err != nil || given.Empty() {
		return live, err
	}
	entries := slices.Clone(live.GetManagedFields())
	for i, entry := range entries {
		if entry.Manager != req.Manager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.Subresource != "" {
			continue
		}
		owned, err := fieldsOf(entry)
		if err != nil {
			return nil, err
		}
		left, err := owned.Difference(given).ToJSON()
		if err != nil {
			return nil, fmt.Errorf("writing the managed fields of %q: %w", entry.Manager, err)
		}
		entries[i].FieldsV1 = metav1.NewFieldsV1(string(left))
	}
	return a.patch(ctx, object, live, map[string]any{"metadata": map[string]any{"managedFields": entries}})
}

// indivisible returns an error if something is to be ignored that is only part of what the apiserver keeps as one value, such
// as an item of a list without keys: without it, what is sent would be another value, and not one without an opinion.
func indivisible(req Request, live *unstructured.Unstructured) error {
	paths := req.Ignore.Paths(true)
	if len(paths) == 0 {
		return nil
	}
	known := &fieldpath.Set{}
	for _, entry := range live.GetManagedFields() {
		set, err := fieldsOf(entry)
		if err != nil {
			return err
		}
		known = known.Union(set)
	}
	for _, path := range paths {
		if at := wholeAbove(known, req.Manifest.Object.Object, path); at != nil {
			why := fmt.Errorf("%s is part of %s, which the apiserver keeps as one value; ignore that instead", path, at)
			return ignore.Wrap(req.Manifest.Object, why)
		}
	}
	return nil
}

// wholeAbove returns the part of path that is one value although the path goes on below it, or nil.
func wholeAbove(known *fieldpath.Set, value any, path ignore.Path) ignore.Path {
	at := ownership{set: known}
	for i, element := range path {
		if at.whole {
			return path[:i]
		}
		switch key := element.(type) {
		case string:
			fields, _ := value.(map[string]any)
			value, at = fields[key], at.child(fieldpath.FieldNameElement(key))
		case int:
			items, _ := value.([]any)
			keys, _ := at.elements()
			chosen := assign(items, keys)
			if key >= len(items) || chosen[key].Key == nil {
				return nil
			}
			value, at = items[key], at.child(chosen[key])
		}
	}
	return nil
}
