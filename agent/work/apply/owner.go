// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	workv1 "open-cluster-management.io/api/work/v1"
)

// AppliedManifestWorkKind is the kind of every owner reference that this package writes.
const AppliedManifestWorkKind = "AppliedManifestWork"

// OwnerReference returns the reference that objects applied for an AppliedManifestWork carry: one owner among others, not the
// controller, and no reason to hold up its deletion.
func OwnerReference(name string, uid types.UID) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: workv1.GroupVersion.String(), Kind: AppliedManifestWorkKind, Name: name, UID: uid}
}

// IsWork reports whether ref is to an AppliedManifestWork, of whatever version.
func IsWork(ref metav1.OwnerReference) bool {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	return err == nil && gv.Group == workv1.GroupName && ref.Kind == AppliedManifestWorkKind
}

// Owns reports whether obj has a reference to the owner with that UID.
func Owns(uid types.UID, obj metav1.Object) bool {
	return slices.ContainsFunc(obj.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.UID == uid })
}

// OtherWorks reports whether AppliedManifestWorks other than the one with that UID own obj.
func OtherWorks(uid types.UID, obj metav1.Object) bool {
	return slices.ContainsFunc(obj.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return IsWork(ref) && ref.UID != uid })
}

// WithoutOwner returns the owner references of obj but the one with that UID.
func WithoutOwner(uid types.UID, obj metav1.Object) []metav1.OwnerReference {
	return slices.DeleteFunc(slices.Clone(obj.GetOwnerReferences()), func(ref metav1.OwnerReference) bool { return ref.UID == uid })
}

// workReferences returns the references to AppliedManifestWorks that live is to have: those of other works, which may share it,
// and owner if own is true. A reference to an earlier AppliedManifestWork of the same name is dead and left out.
func workReferences(live *unstructured.Unstructured, owner metav1.OwnerReference, own bool) []metav1.OwnerReference {
	var refs []metav1.OwnerReference
	for _, ref := range live.GetOwnerReferences() {
		if IsWork(ref) && ref.Name != owner.Name {
			refs = append(refs, ref)
		}
	}
	if own {
		refs = append(refs, owner)
	}
	return refs
}

// surplusReference reports whether live has a reference to owner's name that it should not have.
func surplusReference(ref, owner metav1.OwnerReference, own bool) bool {
	if !IsWork(ref) || ref.Name != owner.Name {
		return false
	}
	return !own || ref.UID != owner.UID
}

// ReferencePatch returns a JSON merge patch that sets obj's owner references to refs if obj is still the object that was read.
func ReferencePatch(obj metav1.Object, refs []metav1.OwnerReference) map[string]any {
	return map[string]any{"metadata": map[string]any{
		"uid": string(obj.GetUID()), "resourceVersion": obj.GetResourceVersion(), "ownerReferences": referenceList(refs),
	}}
}

func referenceList(refs []metav1.OwnerReference) []any {
	list := make([]any, 0, len(refs))
	for _, ref := range refs {
		list = append(list, referenceMap(ref))
	}
	return list
}

func referenceMap(ref metav1.OwnerReference) map[string]any {
	m := map[string]any{"apiVersion": ref.APIVersion, "kind": ref.Kind, "name": ref.Name, "uid": string(ref.UID)}
	if ref.Controller != nil {
		m["controller"] = *ref.Controller
	}
	if ref.BlockOwnerDeletion != nil {
		m["blockOwnerDeletion"] = *ref.BlockOwnerDeletion
	}
	return m
}
