// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/condition"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/kube"
)

// controller says of one cluster after the other whether it is available.
type controller struct {
	client     client.Client
	live       client.Reader
	namespace  string
	replicas   *replicas
	leases     *clusterLeases
	flaps      *flaps
	conditions condition.Writer
	clocks     condition.Writer
	clock      clock.PassiveClock
	events     events.EventRecorder
	log        *slog.Logger
}

// Reconcile brings the condition and the Lease of one cluster up to date.
func (c *controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	cluster := &clusterv1.ManagedCluster{}
	err := c.client.Get(ctx, request.NamespacedName, cluster)
	if apierrors.IsNotFound(err) {
		c.leases.forget(request.Name)
		c.flaps.forget(request.Name)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading ManagedCluster %q: %w", request.Name, err)
	}
	decided := meta.FindStatusCondition(cluster.Status.Conditions, clusterv1.ManagedClusterConditionHubAccepted)
	if decided == nil {
		return reconcile.Result{}, nil // never accepted: nothing is said about it
	}
	now := c.clock.Now()
	found, err := c.look(ctx, cluster, decided.LastTransitionTime.Time, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	c.damp(cluster, &found, now)
	refresh, err := c.write(ctx, cluster, found, now)
	if err == nil {
		err = c.writeClock(ctx, cluster, found)
	}
	return kube.Settle(sooner(found.again, refresh), err)
}

// look finds out how a cluster is. What would turn it Unknown is read again
// from the apiserver: a cache that lags must not be the witness of silence.
func (c *controller) look(ctx context.Context, cluster *clusterv1.ManagedCluster, accepted, now time.Time) (verdict, error) {
	f := facts{now: now, duration: silence(cluster), accepted: accepted, deleting: !cluster.DeletionTimestamp.IsZero()}
	f.detached = meta.IsStatusConditionTrue(cluster.Status.Conditions, identity.ConditionDetached)
	f.quiet = c.replicas.quietUntil(now, f.duration)
	found, err := c.judge(ctx, c.client, cluster.Name, f)
	if err != nil || found.condition == nil || found.condition.Status != metav1.ConditionUnknown ||
		meta.IsStatusConditionPresentAndEqual(cluster.Status.Conditions, clusterv1.ManagedClusterConditionAvailable, metav1.ConditionUnknown) {
		return found, err
	}
	return c.judge(ctx, c.live, cluster.Name, f)
}

func (c *controller) judge(ctx context.Context, reader client.Reader, cluster string, f facts) (verdict, error) {
	session := &coordinationv1.Lease{}
	err := reader.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: identity.SessionLeaseName(cluster)}, session)
	if err != nil && !apierrors.IsNotFound(err) {
		return verdict{}, fmt.Errorf("reading the session Lease of cluster %q: %w", cluster, err)
	}
	if err == nil {
		f.session = session
	}
	if id := holder(f.session); id != "" {
		if f.replica, err = c.replicas.state(ctx, id); err != nil {
			return verdict{}, err
		}
	}
	return judge(f), nil
}

// damp leaves the condition of a cluster that comes and goes as it is until the
// cluster has stayed. What was said at a transition stays said.
func (c *controller) damp(cluster *clusterv1.ManagedCluster, found *verdict, now time.Time) {
	if found.condition == nil {
		return
	}
	before, had := metav1.ConditionStatus(""), meta.FindStatusCondition(cluster.Status.Conditions, clusterv1.ManagedClusterConditionAvailable)
	if had != nil {
		before = had.Status
	}
	if wait := c.flaps.hold(cluster.Name, before, found.condition.Status, now); wait > 0 {
		found.condition, found.again = nil, sooner(found.again, wait)
		return
	}
	switch {
	case had == nil:
	case before == found.condition.Status && had.Reason == found.condition.Reason:
		found.condition.Message = had.Message
	case rank(found.condition.Status) < rank(before):
		found.condition.Message += c.flaps.said(cluster.Name, now)
	}
}

// write writes what has changed and returns when the Lease is due again.
func (c *controller) write(ctx context.Context, cluster *clusterv1.ManagedCluster, found verdict, now time.Time) (time.Duration, error) {
	before := meta.FindStatusCondition(cluster.Status.Conditions, clusterv1.ManagedClusterConditionAvailable)
	changes := found.condition != nil && (before == nil || before.Status != found.condition.Status || before.Reason != found.condition.Reason)
	due := c.leases.due(cluster.Name, now, before != nil)
	var problem error
	if changes || due <= 0 && (found.alive || before == nil) {
		problem = c.leases.write(ctx, cluster, found.lastSeen, now)
		due = c.leases.refresh
		if problem != nil && before == nil {
			return 0, problem // the condition is the sign that the Lease exists
		}
	}
	if !found.alive {
		due = 0
	}
	if found.condition == nil {
		return due, problem
	}
	wrote, err := c.conditions.Apply(ctx, cluster, cluster.Status.Conditions, *found.condition)
	if wrote && changes {
		c.transition(ctx, cluster, before, found)
	}
	return due, errors.Join(problem, err)
}

// transition counts a transition that was written, and tells of it.
func (c *controller) transition(ctx context.Context, cluster *clusterv1.ManagedCluster, before *metav1.Condition, found verdict) {
	if before != nil && rank(found.condition.Status) < rank(before.Status) {
		c.flaps.worsened(cluster.Name, c.clock.Now())
	}
	c.tell(ctx, cluster, found)
}

// tell makes the line and the event of a transition. The event is in the
// cluster's namespace, where those who watch that cluster look.
func (c *controller) tell(ctx context.Context, cluster *clusterv1.ManagedCluster, found verdict) {
	c.log.InfoContext(ctx, "availability changed", "cluster", cluster.Name, "available", string(found.condition.Status),
		"reason", found.condition.Reason, "lastSeen", found.lastSeen)
	eventType, reason := corev1.EventTypeNormal, "Available"
	switch found.condition.Status {
	case metav1.ConditionUnknown:
		eventType, reason = corev1.EventTypeWarning, "AvailableUnknown"
	case metav1.ConditionFalse:
		eventType, reason = corev1.EventTypeWarning, "Unavailable"
	case metav1.ConditionTrue:
	}
	c.events.Eventf(regarding(cluster), nil, eventType, reason, "Observe", "%s Last heard from at %s.",
		found.condition.Message, found.lastSeen.UTC().Format(time.RFC3339))
}

// regarding has events land in the cluster's namespace.
func regarding(cluster *clusterv1.ManagedCluster) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: clusterv1.GroupVersion.String(), Kind: "ManagedCluster",
		Name: cluster.Name, UID: cluster.UID, Namespace: cluster.Name,
	}
}

// sooner is the smaller of two delays of which 0 means never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}
