// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/apply"
	"fairlead.dev/fairlead/internal/failpoint"
)

// MaxWorkName is the longest name that a work can have: the name of its AppliedManifestWork has a hash of 64 characters and a
// dash before it and must not be longer than 253.
const MaxWorkName = 188

// page is how many AppliedManifestWorks are listed at once.
const page = 200

// AgesAnnotation holds, on an AppliedManifestWork, since when the work's conditions are what they are.
const AgesAnnotation = "fairlead.dev/condition-ages"

// CompleteAnnotation holds, on an AppliedManifestWork, the last status of a work that is complete.
const CompleteAnnotation = "fairlead.dev/complete"

// GVRAppliedManifestWork is the resource of AppliedManifestWorks.
func GVRAppliedManifestWork() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: workv1.GroupName, Version: "v1", Resource: "appliedmanifestworks"}
}

// Name returns the name of the AppliedManifestWork of a work.
func Name(hubHash, work string) string { return hubHash + "-" + work }

// Store reads and writes AppliedManifestWorks. Its methods may be called concurrently, for different works.
type Store struct {
	client           dynamic.ResourceInterface
	hubHash, agentID string
}

// NewStore returns the store of one agent of one hub.
func NewStore(client dynamic.Interface, hubHash, agentID string) *Store {
	return &Store{client: client.Resource(GVRAppliedManifestWork()), hubHash: hubHash, agentID: agentID}
}

// Get reads the AppliedManifestWork of a work; the error satisfies apierrors.IsNotFound if there is none.
func (s *Store) Get(ctx context.Context, work string) (*workv1.AppliedManifestWork, error) {
	return decode(s.client.Get(ctx, Name(s.hubHash, work), metav1.GetOptions{}))
}

// Named reads an AppliedManifestWork by its own name; the error satisfies apierrors.IsNotFound if there is none.
func (s *Store) Named(ctx context.Context, name string) (*workv1.AppliedManifestWork, error) {
	return decode(s.client.Get(ctx, name, metav1.GetOptions{}))
}

// Each hands every AppliedManifestWork on the spoke to do, also those of other hubs and of other agents. There are none where
// their kind is not served.
func (s *Store) Each(ctx context.Context, do func(*workv1.AppliedManifestWork)) error {
	options := metav1.ListOptions{Limit: page}
	for {
		list, err := s.client.List(ctx, options)
		if err != nil {
			return ignoreGone(err)
		}
		for i := range list.Items {
			applied, err := decode(&list.Items[i], nil)
			if err != nil {
				return err
			}
			do(applied)
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}

// SetEviction writes since when an AppliedManifestWork waits for its eviction (MW-62), in whole seconds, if it differs; the zero
// time is that it does not.
func (s *Store) SetEviction(ctx context.Context, in *workv1.AppliedManifestWork, since time.Time) (*workv1.AppliedManifestWork, error) {
	var want *metav1.Time
	if !since.IsZero() {
		want = &metav1.Time{Time: since.Truncate(time.Second)}
	}
	if want.Equal(in.Status.EvictionStartTime) {
		return in, nil
	}
	return s.patch(ctx, in, map[string]any{
		"metadata": map[string]any{"uid": in.UID}, "status": map[string]any{"evictionStartTime": want},
	}, "status")
}

// Ensure returns the AppliedManifestWork of a work and makes it if there is none. Labels are copied from the work once, when it
// is made. One that is being deleted is returned as it is.
func (s *Store) Ensure(ctx context.Context, work *workv1.ManifestWork) (*workv1.AppliedManifestWork, error) {
	found, err := s.Get(ctx, work.Name)
	if apierrors.IsNotFound(err) {
		return s.create(ctx, work)
	}
	if err != nil || found.DeletionTimestamp != nil {
		return found, err
	}
	spec := s.spec(work.Name)
	if found.Spec == spec && slices.Contains(found.Finalizers, workv1.AppliedManifestWorkFinalizer) {
		return found, nil
	}
	finalizers := found.Finalizers
	if !slices.Contains(finalizers, workv1.AppliedManifestWorkFinalizer) {
		finalizers = append(finalizers, workv1.AppliedManifestWorkFinalizer)
	}
	return s.patch(ctx, found, map[string]any{"spec": spec, "metadata": map[string]any{
		"uid": found.UID, "resourceVersion": found.ResourceVersion, "finalizers": finalizers,
	}})
}

func (s *Store) spec(work string) workv1.AppliedManifestWorkSpec {
	return workv1.AppliedManifestWorkSpec{HubHash: s.hubHash, AgentID: s.agentID, ManifestWorkName: work}
}

func (s *Store) create(ctx context.Context, work *workv1.ManifestWork) (*workv1.AppliedManifestWork, error) {
	made := &workv1.AppliedManifestWork{
		TypeMeta: metav1.TypeMeta{APIVersion: workv1.GroupVersion.String(), Kind: apply.AppliedManifestWorkKind},
		ObjectMeta: metav1.ObjectMeta{
			Name: Name(s.hubHash, work.Name), Labels: work.Labels, Finalizers: []string{workv1.AppliedManifestWorkFinalizer},
		},
		Spec: s.spec(work.Name),
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(made)
	if err != nil {
		return nil, fmt.Errorf("encoding AppliedManifestWork %q: %w", made.Name, err)
	}
	failpoint.Pass(failpoint.Inventory)
	defer failpoint.Pass(failpoint.Inventory)
	return decode(s.client.Create(ctx, &unstructured.Unstructured{Object: content}, metav1.CreateOptions{FieldManager: apply.FieldManager}))
}

// SetResources writes the inventory if it differs.
func (s *Store) SetResources(ctx context.Context, in *workv1.AppliedManifestWork, resources []Resource) (*workv1.AppliedManifestWork, error) {
	return s.setResources(ctx, in, resources, map[string]any{"uid": in.UID})
}

// SetUnchanged is SetResources unless somebody has written since in was read: then its error is a conflict.
func (s *Store) SetUnchanged(ctx context.Context, in *workv1.AppliedManifestWork, resources []Resource) (*workv1.AppliedManifestWork, error) {
	return s.setResources(ctx, in, resources, map[string]any{"uid": in.UID, "resourceVersion": in.ResourceVersion})
}

func (s *Store) setResources(ctx context.Context, in *workv1.AppliedManifestWork, resources []Resource, of map[string]any) (*workv1.AppliedManifestWork, error) {
	if slices.Equal(in.Status.AppliedResources, resources) {
		return in, nil
	}
	if resources == nil {
		resources = []Resource{}
	}
	return s.patch(ctx, in, map[string]any{
		"metadata": of, "status": map[string]any{"appliedResources": resources},
	}, "status")
}

// Annotate writes annotations that differ. An empty one is taken away.
func (s *Store) Annotate(ctx context.Context, in *workv1.AppliedManifestWork, annotations map[string]string) (*workv1.AppliedManifestWork, error) {
	patch := map[string]any{}
	for key, value := range annotations {
		switch {
		case in.Annotations[key] == value:
		case value == "":
			patch[key] = nil
		default:
			patch[key] = value
		}
	}
	if len(patch) == 0 {
		return in, nil
	}
	return s.patch(ctx, in, map[string]any{"metadata": map[string]any{"uid": in.UID, "annotations": patch}})
}

// Remove deletes an AppliedManifestWork whose resources are gone, our finalizer with it. It reports whether it is gone; another
// finalizer may keep it.
func (s *Store) Remove(ctx context.Context, in *workv1.AppliedManifestWork) (bool, error) {
	return s.remove(ctx, in, metav1.Preconditions{UID: &in.UID})
}

// RemoveUnchanged is Remove unless somebody has written since in was read: then its error is a conflict.
func (s *Store) RemoveUnchanged(ctx context.Context, in *workv1.AppliedManifestWork) (bool, error) {
	return s.remove(ctx, in, metav1.Preconditions{UID: &in.UID, ResourceVersion: &in.ResourceVersion})
}

func (s *Store) remove(ctx context.Context, in *workv1.AppliedManifestWork, only metav1.Preconditions) (bool, error) {
	if in.DeletionTimestamp == nil {
		background := metav1.DeletePropagationBackground
		err := s.client.Delete(ctx, in.Name, metav1.DeleteOptions{
			Preconditions: &only, PropagationPolicy: &background,
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return false, fmt.Errorf("deleting AppliedManifestWork %q: %w", in.Name, err)
		}
	}
	left, err := decode(s.client.Get(ctx, in.Name, metav1.GetOptions{}))
	if apierrors.IsNotFound(err) || err == nil && left.UID != in.UID {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if i := slices.Index(left.Finalizers, workv1.AppliedManifestWorkFinalizer); i >= 0 {
		left, err = s.patch(ctx, left, map[string]any{"metadata": map[string]any{
			"uid": left.UID, "resourceVersion": left.ResourceVersion, "finalizers": slices.Delete(slices.Clone(left.Finalizers), i, i+1),
		}})
	}
	return err == nil && len(left.Finalizers) == 0 || apierrors.IsNotFound(err), ignoreGone(err)
}

// ignoreGone drops the error that means that there is nothing left to do.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (s *Store) patch(ctx context.Context, in *workv1.AppliedManifestWork, patch map[string]any, subresource ...string) (*workv1.AppliedManifestWork, error) {
	body, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encoding a patch of AppliedManifestWork %q: %w", in.Name, err)
	}
	options := metav1.PatchOptions{FieldManager: apply.FieldManager}
	failpoint.Pass(failpoint.Inventory)
	defer failpoint.Pass(failpoint.Inventory)
	return decode(s.client.Patch(ctx, in.Name, types.MergePatchType, body, options, subresource...))
}

func decode(obj *unstructured.Unstructured, err error) (*workv1.AppliedManifestWork, error) {
	if err != nil {
		return nil, err
	}
	decoded := &workv1.AppliedManifestWork{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, decoded); err != nil {
		return nil, fmt.Errorf("decoding AppliedManifestWork %q: %w", obj.GetName(), err)
	}
	return decoded, nil
}
