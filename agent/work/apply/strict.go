// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"fairlead.dev/fairlead/agent/work/kinds"
)

// strict reports whether fields that others put into objects of this kind are removed: in ConfigMaps, Secrets, and custom
// resources. Of Kubernetes' other kinds many fields are filled in by controllers, which own them as any other client does.
func strict(kind schema.GroupVersionKind) bool {
	if kind.Group == "" && (kind.Kind == "ConfigMap" || kind.Kind == "Secret") {
		return true
	}
	return !kinds.BuiltIn(kind)
}

// foreignFields returns a JSON merge patch that removes from live what others than manager put beside the fields of the
// manifest, empty if there is nothing. Metadata, status, what came through a subresource, and top-level fields that the
// manifest leaves out altogether are theirs; so is what nobody owns, the apiserver's defaults.
func foreignFields(manifest, live *unstructured.Unstructured, manager string) (map[string]any, error) {
	patch := map[string]any{}
	if !strict(manifest.GroupVersionKind()) {
		return patch, nil
	}
	for _, entry := range live.GetManagedFields() {
		ours := entry.Manager == manager && entry.Operation == metav1.ManagedFieldsOperationApply
		if ours || entry.Subresource != "" {
			continue
		}
		set, err := fieldsOf(entry)
		if err != nil {
			return nil, err
		}
		set.Leaves().Iterate(func(path fieldpath.Path) { removeForeign(patch, manifest, live, path) })
	}
	return patch, nil
}

// removeForeign adds to patch what takes path out of live, if the manifest does not have it. A merge patch cannot take single
// items out of a list, so the manifest's list takes the place of the live one.
func removeForeign(patch map[string]any, manifest, live *unstructured.Unstructured, path fieldpath.Path) {
	if len(path) < 2 || isField(path[0], "metadata") || isField(path[0], "status") {
		return
	}
	missing := uncovered(manifest.Object, path)
	if missing < 1 || uncovered(live.Object, path[:missing+1]) >= 0 {
		return
	}
	at, want := patch, any(manifest.Object)
	for i, element := range path[:missing+1] {
		name := *element.FieldName // a list ends the walk before an element of another sort can come
		want, _ = descend(want, element)
		if _, isMap := want.(map[string]any); i == missing || !isMap {
			at[name] = want
			return
		}
		below, ok := at[name].(map[string]any)
		if !ok {
			below = map[string]any{}
			at[name] = below
		}
		at = below
	}
}
