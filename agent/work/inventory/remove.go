// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"fairlead.dev/fairlead/agent/work/apply"
	"fairlead.dev/fairlead/agent/work/kinds"
	"fairlead.dev/fairlead/internal/failpoint"
)

// attempts is how often one object is read and written again when somebody else wrote in between.
const attempts = 5

// Mapper finds how a resource is served now, anew after Forget; the error wraps kinds.ErrUnknown if it is not.
type Mapper interface {
	ForResource(ctx context.Context, resource schema.GroupVersionResource) (kinds.Mapping, error)
	Forget()
}

// Remover takes objects off the spoke. Its methods may be called concurrently.
type Remover struct {
	client metadata.Interface
	mapper Mapper
}

// NewRemover returns a remover that reads and writes through client.
func NewRemover(client metadata.Interface, mapper Mapper) *Remover {
	return &Remover{client: client, mapper: mapper}
}

// Disown makes owner, the UID of an AppliedManifestWork, own the object no more. The object is deleted if it has no other
// AppliedManifestWork as owner and keep is false; an object that owner does not own is left alone. left reports whether it is
// still to be waited for: it has finalizers, or the error stood in the way.
//
// The deletion names the UID and the resourceVersion that were read, so it hits neither an object that was made anew nor one
// that another work has just taken over. Dependents are left to the spoke's garbage collector, which need not be there.
func (r *Remover) Disown(ctx context.Context, entry Resource, owner types.UID, keep bool) (left bool, err error) {
	return r.each(ctx, entry, func(object metadata.ResourceInterface) (bool, error) {
		return disown(ctx, object, entry.Name, owner, keep)
	})
}

// Heir reports whether the AppliedManifestWork that ref names has taken over the object of that UID for good.
type Heir func(ctx context.Context, ref metav1.OwnerReference, object types.UID) (bool, error)

// Yield makes owner own the object no more if one of its other owners is an heir. It never deletes. left reports whether owner
// still owns the object, because it has no heir or because of the error.
func (r *Remover) Yield(ctx context.Context, entry Resource, owner types.UID, heir Heir) (left bool, err error) {
	return r.each(ctx, entry, func(object metadata.ResourceInterface) (bool, error) {
		return yield(ctx, object, entry.Name, owner, heir)
	})
}

// each does something about the object of an entry, again if somebody else wrote in between.
func (r *Remover) each(ctx context.Context, entry Resource, do func(metadata.ResourceInterface) (bool, error)) (left bool, err error) {
	mapping, err := r.mapper.ForResource(ctx, GVR(entry))
	if errors.Is(err, kinds.ErrUnknown) {
		return false, nil // with its kind, the object went
	}
	if err != nil {
		return true, err
	}
	var object metadata.ResourceInterface = r.client.Resource(mapping.Resource)
	if entry.Namespace != "" {
		object = r.client.Resource(mapping.Resource).Namespace(entry.Namespace)
	}
	for range attempts {
		left, err = do(object)
		if !apierrors.IsConflict(err) {
			break
		}
	}
	if kinds.IsUnserved(err) {
		r.mapper.Forget() // the next attempt learns whether the kind or only this version of it went
	}
	if entry.UID == "" && apierrors.IsForbidden(err) {
		return false, nil // it was only ever intended: what may not be read was not applied either
	}
	if err != nil {
		return true, fmt.Errorf("removing %s %s: %w", mapping.Resource.GroupResource(), namespaced(entry), err)
	}
	return left, nil
}

// owned reads the object; ok reports whether it is there and owner owns it.
func owned(ctx context.Context, object metadata.ResourceInterface, name string, owner types.UID) (live *metav1.PartialObjectMetadata, ok bool, err error) {
	live, err = object.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && !kinds.IsUnserved(err) {
		return nil, false, nil
	}
	if err != nil || !apply.Owns(owner, live) {
		return nil, false, err
	}
	return live, true, nil
}

// disown reads the object and does what it finds to do, once.
func disown(ctx context.Context, object metadata.ResourceInterface, name string, owner types.UID, keep bool) (bool, error) {
	live, ok, err := owned(ctx, object, name, owner)
	if !ok {
		return err != nil, err
	}
	if keep || apply.OtherWorks(owner, live) {
		return false, release(ctx, object, live, owner)
	}
	if live.DeletionTimestamp != nil {
		return true, waiting(live)
	}
	if err := remove(ctx, object, live); err != nil {
		return false, ignoreGone(err)
	}
	left, err := object.Get(ctx, name, metav1.GetOptions{})
	if err != nil || left.UID != live.UID {
		return !apierrors.IsNotFound(err), nil
	}
	return true, waiting(left)
}

// remove deletes the very object that was read.
func remove(ctx context.Context, object metadata.ResourceInterface, live *metav1.PartialObjectMetadata) error {
	background := metav1.DeletePropagationBackground
	failpoint.Pass(failpoint.Prune)
	defer failpoint.Pass(failpoint.Prune)
	return object.Delete(ctx, live.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion}, PropagationPolicy: &background,
	})
}

// yield reads the object and gives it up if it has an heir, once.
func yield(ctx context.Context, object metadata.ResourceInterface, name string, owner types.UID, heir Heir) (bool, error) {
	live, ok, err := owned(ctx, object, name, owner)
	if !ok {
		return err != nil, err
	}
	for _, ref := range apply.WithoutOwner(owner, live) {
		if !apply.IsWork(ref) {
			continue
		}
		inherits, err := heir(ctx, ref, live.UID)
		if err != nil {
			return true, err
		}
		if inherits {
			return false, release(ctx, object, live, owner)
		}
	}
	return true, nil
}

// waiting says what an object that is deleted waits for, if it shows that.
func waiting(live *metav1.PartialObjectMetadata) error {
	if len(live.Finalizers) == 0 {
		return nil
	}
	return fmt.Errorf("it waits for its finalizers %q", live.Finalizers)
}

// release takes the owner reference off.
func release(ctx context.Context, object metadata.ResourceInterface, live *metav1.PartialObjectMetadata, owner types.UID) error {
	body, err := json.Marshal(apply.ReferencePatch(live, apply.WithoutOwner(owner, live)))
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	failpoint.Pass(failpoint.Prune)
	defer failpoint.Pass(failpoint.Prune)
	_, err = object.Patch(ctx, live.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: apply.FieldManager})
	return ignoreGone(err)
}

func namespaced(entry Resource) string {
	if entry.Namespace == "" {
		return entry.Name
	}
	return entry.Namespace + "/" + entry.Name
}
