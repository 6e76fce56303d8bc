// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"fairlead.dev/fairlead/internal/wire"
)

// page is how many works of a deleted set are listed at a time.
const page = 500

// remove deletes the works of a deleted set, and lets go of it: at once with
// Background, and with Foreground when the works are gone (MH-25). That there are
// none is for the apiserver to say.
func (r *reconciler) remove(ctx context.Context, set *workv1alpha1.ManifestWorkReplicaSet, label string) (again time.Duration, err error) {
	if !controllerutil.ContainsFinalizer(set, workv1alpha1.ManifestWorkReplicaSetFinalizer) {
		return 0, nil
	}
	left, err := r.empty(ctx, label)
	if errors.Is(err, errMoved) {
		return tick, nil
	}
	if err != nil {
		return 0, fmt.Errorf("deleting the works of ManifestWorkReplicaSet %s: %w", client.ObjectKeyFromObject(set), err)
	}
	if left > 0 && set.Spec.CascadeDeletionPolicy == workv1alpha1.Foreground {
		r.cfg.Log.InfoContext(ctx, "a deleted replica set waits for its works to be gone", "set", client.ObjectKeyFromObject(set), "works", left)
		return retry, nil // each that goes leads to another look
	}
	before := set.DeepCopy()
	controllerutil.RemoveFinalizer(set, workv1alpha1.ManifestWorkReplicaSetFinalizer)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Patch(ctx, set, patch, client.FieldOwner(wire.ReplicaSetManager)); err != nil {
		return 0, fmt.Errorf("taking the finalizer off ManifestWorkReplicaSet %s: %w", client.ObjectKeyFromObject(set), err)
	}
	return 0, nil
}

// empty deletes all works that have the label, and returns how many are left.
func (r *reconciler) empty(ctx context.Context, label string) (left int, err error) {
	for token := ""; ; {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(schema.GroupVersion(workv1.GroupVersion).WithKind("ManifestWorkList"))
		if err := r.live.List(ctx, list, client.MatchingLabels{setLabel: label}, client.Limit(page), client.Continue(token)); err != nil {
			return 0, err
		}
		var group errgroup.Group
		group.SetLimit(parallel)
		for i := range list.Items {
			work := &list.Items[i]
			work.SetGroupVersionKind(schema.GroupVersion(workv1.GroupVersion).WithKind("ManifestWork"))
			if work.DeletionTimestamp == nil {
				group.Go(func() error { return r.delete(ctx, work) })
			}
		}
		if err := group.Wait(); err != nil {
			return 0, err
		}
		left += len(list.Items)
		if token = list.Continue; token == "" {
			return left, nil
		}
	}
}
