// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"fairlead.dev/fairlead/internal/identity"
)

// applier makes objects be as wanted: it asks the ledger first, reads what
// differs from there, and writes only on drift.
type applier struct {
	client client.Client
	// live reads from the apiserver, never from a cache.
	live   client.Reader
	ledger *ledger
}

// ensure makes one object be as wanted. An object on its way out, or bound to
// another role (which can never be changed), is replaced.
func (a applier) ensure(ctx context.Context, wanted client.Object) error {
	if done, err := a.ledger.asWanted(wanted); done || err != nil {
		return err
	}
	existing, err := a.read(ctx, wanted)
	switch {
	case err != nil:
		return err
	case existing == nil:
	case !existing.GetDeletionTimestamp().IsZero() || otherRole(existing, wanted):
		if err := a.release(ctx, existing); err != nil {
			return err
		}
		if err := a.delete(ctx, existing); err != nil {
			return err
		}
	case !drifted(existing, wanted):
		return nil
	}
	return a.apply(ctx, wanted)
}

// find returns the object, or nil if it is not there. Where the ledger has none,
// nothing is read: what comes later wakes the controller.
func (a applier) find(ctx context.Context, like client.Object) (client.Object, error) {
	if !a.ledger.has(like) {
		return nil, nil //nolint:nilnil // nil is an object that is not there
	}
	return a.read(ctx, like)
}

// read returns the object from the apiserver, or nil if it is not there.
func (a applier) read(ctx context.Context, like client.Object) (client.Object, error) {
	gvk, err := a.client.GroupVersionKindFor(like)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", like.GetName(), err)
	}
	empty, err := a.client.Scheme().New(gvk)
	if err != nil {
		return nil, fmt.Errorf("reading %s %q: %w", gvk.Kind, like.GetName(), err)
	}
	existing, ok := empty.(client.Object)
	if !ok {
		return nil, fmt.Errorf("reading %s %q: %T has no metadata", gvk.Kind, like.GetName(), empty)
	}
	err = a.live.Get(ctx, client.ObjectKeyFromObject(like), existing)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // nil is an object that is not there
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s %q: %w", gvk.Kind, like.GetName(), err)
	}
	return existing, nil
}

func (a applier) apply(ctx context.Context, wanted client.Object) error {
	gvk, err := a.client.GroupVersionKindFor(wanted)
	if err != nil {
		return fmt.Errorf("applying %q: %w", wanted.GetName(), err)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(wanted)
	if err != nil {
		return fmt.Errorf("encoding %s %q: %w", gvk.Kind, wanted.GetName(), err)
	}
	// What a Go value cannot leave out is nothing that we want to own.
	delete(content, "spec")
	delete(content, "status")
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	object := &unstructured.Unstructured{Object: content}
	object.SetGroupVersionKind(gvk)
	if err := a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying %s %q: %w", gvk.Kind, wanted.GetName(), err)
	}
	return nil
}

// delete deletes exactly the object that was read.
func (a applier) delete(ctx context.Context, existing client.Object) error {
	if !existing.GetDeletionTimestamp().IsZero() {
		return nil
	}
	uid := existing.GetUID()
	if err := a.client.Delete(ctx, existing, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %T %q: %w", existing, existing.GetName(), err)
	}
	return nil
}

// remove deletes the object if it is there.
func (a applier) remove(ctx context.Context, like client.Object) error {
	existing, err := a.find(ctx, like)
	if err != nil || existing == nil {
		return err
	}
	return a.delete(ctx, existing)
}

// release takes our finalizer off a binding. A conflict is an error: the caller
// comes again with a fresh object.
func (a applier) release(ctx context.Context, existing client.Object) error {
	before, ok := existing.DeepCopyObject().(client.Object)
	if !ok || !controllerutil.RemoveFinalizer(existing, identity.ManifestWorkFinalizer) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := a.client.Patch(ctx, existing, patch, client.FieldOwner(FieldManager)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("taking the finalizer off %T %q: %w", existing, existing.GetName(), err)
	}
	return nil
}

func otherRole(existing, wanted client.Object) bool {
	switch have := existing.(type) {
	case *rbacv1.ClusterRoleBinding:
		return have.RoleRef != wanted.(*rbacv1.ClusterRoleBinding).RoleRef //nolint:forcetypeassert // read returns wanted's type
	case *rbacv1.RoleBinding:
		return have.RoleRef != wanted.(*rbacv1.RoleBinding).RoleRef //nolint:forcetypeassert // read returns wanted's type
	}
	return false
}

// drifted says whether existing lacks something that wanted has.
func drifted(existing, wanted client.Object) bool {
	for key, value := range wanted.GetLabels() {
		if have, ok := existing.GetLabels()[key]; !ok || have != value {
			return true
		}
	}
	for _, finalizer := range wanted.GetFinalizers() {
		if !slices.Contains(existing.GetFinalizers(), finalizer) {
			return true
		}
	}
	switch have := existing.(type) {
	case *rbacv1.ClusterRole:
		return !equality.Semantic.DeepEqual(have.Rules, wanted.(*rbacv1.ClusterRole).Rules) //nolint:forcetypeassert // read returns wanted's type
	case *rbacv1.ClusterRoleBinding:
		return !equality.Semantic.DeepEqual(have.Subjects, wanted.(*rbacv1.ClusterRoleBinding).Subjects) //nolint:forcetypeassert // as above
	case *rbacv1.RoleBinding:
		return !equality.Semantic.DeepEqual(have.Subjects, wanted.(*rbacv1.RoleBinding).Subjects) //nolint:forcetypeassert // as above
	}
	return false
}
