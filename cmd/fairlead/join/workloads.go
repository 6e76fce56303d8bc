// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
)

var inventories = schema.GroupVersionResource{Group: workv1.GroupName, Version: "v1", Resource: "appliedmanifestworks"}

// workloads keeps or deletes what works of this hub applied. Its owner is taken
// off whatever stays: with its AppliedManifestWork the garbage collector would
// take it otherwise.
func (u *unjoin) workloads(ctx context.Context) error {
	all, err := u.applied(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	if err := u.powerlessOver(ctx, all); err != nil {
		return err
	}
	objects, err := metadata.NewForConfig(u.config)
	if err != nil {
		return fmt.Errorf("using the kubeconfig of the cluster that leaves: %w", err)
	}
	bounded, cancel := u.o.Wait(ctx)
	defer cancel()
	progress, kept, gone := u.o.Progress(), 0, 0
	err = progress.While(func() error {
		for i := range all {
			k, g, err := u.disownAll(bounded, objects, &all[i], progress)
			if err != nil {
				return err
			}
			kept, gone = kept+k, gone+g
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w\nHint: the same command again goes on from here", err)
	}
	u.o.Notef("What %d works applied: %d objects stay, %d were deleted", len(all), kept, gone)
	return nil
}

// applied are the inventories of the hub that the agent belongs to.
func (u *unjoin) applied(ctx context.Context) ([]workv1.AppliedManifestWork, error) {
	list, err := u.dynamic.Resource(inventories).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing what works applied: %w", err)
	}
	sum := sha256.Sum256([]byte(u.known.hub))
	hub, foreign := hex.EncodeToString(sum[:]), 0
	var out []workv1.AppliedManifestWork
	for i := range list.Items {
		var one workv1.AppliedManifestWork
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &one); err != nil {
			return nil, fmt.Errorf("decoding AppliedManifestWork %q: %w", list.Items[i].GetName(), err)
		}
		if one.Spec.HubHash != hub {
			foreign++
			continue
		}
		out = append(out, one)
	}
	if foreign > 0 {
		u.o.Notef("Left alone: %d AppliedManifestWorks of another hub, or of one that nobody here remembers", foreign)
	}
	return out, nil
}

// disownAll lets go of, or deletes, the objects of one work, waits until those
// that are deleted are gone, and removes the inventory.
func (u *unjoin) disownAll(ctx context.Context, objects metadata.Interface, of *workv1.AppliedManifestWork, progress *cli.Progress) (kept, gone int, err error) {
	for _, r := range of.Status.AppliedResources {
		text := fmt.Sprintf("%s.%s %s/%s", r.Resource, r.Group, r.Namespace, r.Name)
		progress.Sayf("%s", text)
		deleted, err := u.letGo(ctx, objects, r, of.UID)
		if err != nil {
			return kept, gone, fmt.Errorf("%s of work %s: %w", text, of.Spec.ManifestWorkName, err)
		}
		if deleted {
			gone++
		} else {
			kept++
		}
	}
	none := []byte(`{"metadata":{"finalizers":null}}`)
	inventory := u.dynamic.Resource(inventories)
	_, err = inventory.Patch(ctx, of.Name, types.MergePatchType, none, metav1.PatchOptions{FieldManager: fieldManager})
	if err == nil {
		err = inventory.Delete(ctx, of.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &of.UID}})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return kept, gone, fmt.Errorf("removing AppliedManifestWork %q: %w", of.Name, err)
	}
	return kept, gone, nil
}

// letGo disowns one object, again as long as its end is to be waited for, somebody
// else wrote in between, or it is served otherwise than a moment ago.
func (u *unjoin) letGo(ctx context.Context, objects metadata.Interface, r workv1.AppliedManifestResourceMeta, owner types.UID) (deleted bool, err error) {
	for {
		resource, ok, err := u.servedAs(ctx, schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource})
		if err != nil || !ok {
			return deleted, err
		}
		left, err := u.disown(ctx, objects.Resource(resource).Namespace(r.Namespace), r.Name, owner)
		switch {
		case err == nil && !left:
			return deleted, nil
		case err == nil:
			deleted = true
		case isUnserved(err):
			u.served = nil
		case !apierrors.IsConflict(err) && !apierrors.IsNotFound(err):
			return deleted, err
		}
		if cli.Pause(ctx, lookEvery) == nil {
			continue
		}
		if err == nil {
			err = errors.New("it is deleted, and not gone in time")
		}
		return deleted, cli.TimedOut(err)
	}
}

// disown makes one object nobody's, or deletes it if it was only this work's;
// left tells whether its end is to be waited for.
func (u *unjoin) disown(ctx context.Context, object metadata.ResourceInterface, name string, owner types.UID) (left bool, err error) {
	live, err := object.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && !isUnserved(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	others := slices.DeleteFunc(slices.Clone(live.OwnerReferences), func(ref metav1.OwnerReference) bool { return ref.UID == owner })
	switch {
	case len(others) == len(live.OwnerReferences):
		return false, nil
	case live.DeletionTimestamp != nil:
		return u.onDetach == onDetachDelete, nil
	case u.onDetach == onDetachDelete && !slices.ContainsFunc(others, isWork):
		background := metav1.DeletePropagationBackground
		return true, object.Delete(ctx, name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion}, PropagationPolicy: &background,
		})
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": live.UID, "resourceVersion": live.ResourceVersion, "ownerReferences": others}})
	if err != nil {
		return false, err
	}
	_, err = object.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	return false, err
}

func isWork(ref metav1.OwnerReference) bool { return ref.Kind == "AppliedManifestWork" }
