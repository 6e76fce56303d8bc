// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// SkipClockAnnotation with "true" on a ManagedCluster has its clock pass for synced
// (RC-40).
const SkipClockAnnotation = "registration.open-cluster-management.io/skip-clock-sync-check"

// clockLeases is how many lease durations a clock may be off (RC-39).
const clockLeases = 5

// writeClock writes ManagedClusterConditionClockSynced when it turns. Nothing
// depends on it but people: availability is on the hub's clock.
func (c *controller) writeClock(ctx context.Context, cluster *clusterv1.ManagedCluster, found verdict) error {
	before := meta.FindStatusCondition(cluster.Status.Conditions, clusterv1.ManagedClusterConditionClockSynced)
	wanted := clockSynced(cluster, found.clock, before)
	if wanted == nil || before != nil && before.Status == wanted.Status {
		return nil
	}
	wrote, err := c.clocks.Apply(ctx, cluster, cluster.Status.Conditions, *wanted)
	if !wrote || before == nil && wanted.Status == metav1.ConditionTrue {
		return err
	}
	c.log.InfoContext(ctx, "clock of an agent", "cluster", cluster.Name, "synced", string(wanted.Status), "offset", found.clock)
	kind, why := corev1.EventTypeNormal, "ManagedClusterClockSyncedConditionUpdated"
	if wanted.Status == metav1.ConditionFalse {
		kind, why = corev1.EventTypeWarning, "ClockOutOfSync"
	}
	c.events.Eventf(regarding(cluster), nil, kind, why, "Observe", "%s", wanted.Message)
	return err
}

// clockSynced judges an offset; nil where none was measured. A clock that was
// off is synced again when it is within four fifths of what is allowed, so that
// one that drifts along the border does not flap.
func clockSynced(cluster *clusterv1.ManagedCluster, measured string, before *metav1.Condition) *metav1.Condition {
	synced := &metav1.Condition{
		Type: clusterv1.ManagedClusterConditionClockSynced, Status: metav1.ConditionTrue,
		Reason: "ManagedClusterClockSynced", Message: "The clock of the managed cluster is synced with the hub.",
	}
	if cluster.Annotations[SkipClockAnnotation] == "true" {
		return synced
	}
	offset, err := time.ParseDuration(measured)
	if err != nil {
		return nil
	}
	limit := clockLeases * silence(cluster)
	if before != nil && before.Status == metav1.ConditionFalse {
		limit = limit * 4 / 5
	}
	if offset.Abs() < limit {
		return synced
	}
	than := "behind"
	if offset < 0 {
		than = "ahead of"
	}
	synced.Status, synced.Reason = metav1.ConditionFalse, "ManagedClusterClockOutOfSync"
	synced.Message = fmt.Sprintf("%s: the agent's clock is %s %s the hub's; set the clocks of both by NTP.", reason.ClockSkew, offset.Abs().Round(time.Second), than)
	return synced
}
