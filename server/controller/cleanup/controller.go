// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cleanup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/events"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/condition"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/kube"
)

const (
	// pollFirst and pollMax bound the time between two looks.
	pollFirst = 250 * time.Millisecond
	pollMax   = 5 * time.Second
)

// controller empties one namespace after the other.
type controller struct {
	client     client.Client
	live       client.Reader
	objects    metadata.Interface
	cfg        Config
	removed    *removals
	conditions condition.Writer
	events     events.EventRecorder
}

// Reconcile brings one cluster, or what is left of it, a step further.
func (c *controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	cluster := &clusterv1.ManagedCluster{}
	err := c.client.Get(ctx, request.NamespacedName, cluster)
	var again time.Duration
	switch {
	case apierrors.IsNotFound(err):
		again, err = c.leftovers(ctx, request.Name)
	case err != nil:
		err = fmt.Errorf("reading ManagedCluster %q: %w", request.Name, err)
	case !cluster.DeletionTimestamp.IsZero():
		again, err = c.leave(ctx, cluster)
	case c.cfg.Enabled:
		err = c.hold(ctx, cluster)
	}
	return kube.Settle(again, err)
}

// hold keeps a cluster, once it is deleted, until its namespace is empty. What an
// earlier cluster of that name left to be deleted is the new one's from here on.
func (c *controller) hold(ctx context.Context, cluster *clusterv1.ManagedCluster) error {
	before := cluster.DeepCopy()
	if !controllerutil.AddFinalizer(cluster, identity.ResourceCleanupFinalizer) {
		return nil
	}
	if err := c.unmark(ctx, cluster.Name); err != nil {
		return err
	}
	c.removed.forget(cluster.Name)
	return c.patch(ctx, before, cluster, "adding the finalizer to")
}

// leave empties the namespace of a cluster that is deleted, and then lets it go.
func (c *controller) leave(ctx context.Context, cluster *clusterv1.ManagedCluster) (time.Duration, error) {
	if !controllerutil.ContainsFinalizer(cluster, identity.ResourceCleanupFinalizer) {
		return 0, nil
	}
	if c.cfg.Enabled {
		// First of all, so that this outlives both the process and a
		// ManagedCluster whose finalizers somebody takes off.
		if err := c.mark(ctx, cluster.Name, cluster.UID); err != nil {
			return 0, err
		}
		left, problem := c.look(ctx, cluster.Name)
		if problem == nil {
			problem = c.empty(ctx, left)
		}
		wrote, err := c.conditions.Apply(ctx, cluster, cluster.Status.Conditions, deleting(left, problem))
		if problem != nil && wrote {
			c.events.Eventf(cluster, nil, corev1.EventTypeWarning, "ResourceCleanupFail", "CleanUp", "Cleaning up after cluster %s: %v", cluster.Name, problem)
		}
		if err := errors.Join(problem, client.IgnoreNotFound(err)); err != nil || len(left) > 0 {
			return c.pause(cluster.DeletionTimestamp.Time), err
		}
		if err := c.unmark(ctx, cluster.Name); err != nil {
			return 0, err
		}
	}
	before := cluster.DeepCopy()
	controllerutil.RemoveFinalizer(cluster, identity.ResourceCleanupFinalizer)
	if err := c.patch(ctx, before, cluster, "taking the finalizer off"); client.IgnoreNotFound(err) != nil {
		return 0, err
	}
	if c.cfg.Enabled {
		c.events.Eventf(cluster, nil, corev1.EventTypeNormal, "ResourceCleanupCompleted", "CleanUp", "The namespace of cluster %s is clean.", cluster.Name)
		c.cfg.Log.InfoContext(ctx, "the namespace of a cluster that leaves is clean", "cluster", cluster.Name)
	}
	return 0, nil
}

// leftovers goes on with a namespace whose ManagedCluster is gone already. That
// it is gone is no ground by itself: on a hub that was restored, or that serves
// agents without ManagedClusters, it would cost workloads.
func (c *controller) leftovers(ctx context.Context, name string) (time.Duration, error) {
	if !c.cfg.Enabled {
		return 0, nil
	}
	namespace, err := c.namespace(ctx, name)
	if err != nil || namespace == nil {
		c.removed.forget(name)
		return 0, err
	}
	marked, seen := namespace.Labels[LeavingLabel], c.removed.of(name)
	if namespace.Labels[identity.ClusterNameLabel] != name || marked == "" && seen == "" {
		return 0, nil
	}
	err = c.live.Get(ctx, client.ObjectKey{Name: name}, &clusterv1.ManagedCluster{})
	if err == nil {
		return kube.ConflictDelay, nil // the cache will know soon
	}
	if !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("looking for ManagedCluster %q: %w", name, err)
	}
	left, err := c.look(ctx, name)
	if err == nil && len(left) > 0 {
		if err = c.mark(ctx, name, cmp.Or(types.UID(marked), seen)); err == nil {
			err = c.empty(ctx, left)
		}
	}
	if err != nil || len(left) > 0 {
		return c.pause(c.removed.since(name, c.cfg.Clock.Now())), err
	}
	c.removed.forget(name)
	return 0, c.unmark(ctx, name)
}

func (c *controller) patch(ctx context.Context, before, cluster *clusterv1.ManagedCluster, doing string) error {
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := c.client.Patch(ctx, cluster, patch, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("%s ManagedCluster %q: %w", doing, cluster.Name, err)
	}
	return nil
}

// deleting is what the cluster's condition says (RC-68).
func deleting(left []remaining, problem error) metav1.Condition {
	out := metav1.Condition{Type: clusterv1.ManagedClusterConditionDeleting, Status: metav1.ConditionFalse}
	switch {
	case problem != nil:
		out.Reason, out.Message = clusterv1.ConditionDeletingReasonResourceError, strings.ReplaceAll(problem.Error(), "\n", "; ")
	case len(left) > 0:
		texts := make([]string, 0, len(left))
		for _, r := range left {
			texts = append(texts, r.String())
		}
		out.Reason, out.Message = clusterv1.ConditionDeletingReasonResourceRemaining, strings.Join(texts, "; ")
	default:
		out.Status, out.Reason = metav1.ConditionTrue, clusterv1.ConditionDeletingReasonNoResource
		out.Message = "Nothing that needs cleaning up is left in the cluster's namespace."
	}
	return out
}
