// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
)

// markDetached says on the ManagedCluster that its spoke has left, or that it is
// back: whoever watches clusters need not know enrollments.
func (r *enrollments) markDetached(ctx context.Context, cluster *clusterv1.ManagedCluster, of []v1alpha1.ClusterEnrollment) error {
	if cluster == nil {
		return nil
	}
	wanted, said := detached(cluster, of), meta.FindStatusCondition(cluster.Status.Conditions, identity.ConditionDetached)
	if wanted.Status == metav1.ConditionFalse && said == nil {
		return nil // a cluster that never left says nothing of it
	}
	wrote, err := r.conditions.Apply(ctx, cluster, cluster.Status.Conditions, wanted)
	if wrote && wanted.Status == metav1.ConditionTrue {
		r.events.Eventf(cluster, nil, corev1.EventTypeWarning, "ManagedClusterDetached", "Detach", "Cluster %s has left the hub: %s", cluster.Name, wanted.Message)
	}
	return err
}

// detached is True while the only enrollments of this very cluster that may have
// a certificate were ended by the spoke.
func detached(cluster *clusterv1.ManagedCluster, of []v1alpha1.ClusterEnrollment) metav1.Condition {
	out := metav1.Condition{Type: identity.ConditionDetached, Status: metav1.ConditionFalse, Reason: "Enrolled", Message: "The cluster has enrolled."}
	for i := range of {
		e := &of[i]
		switch {
		case e.Spec.ManagedClusterUID != string(cluster.UID):
		case !ended(e) && e.EverIssued():
			return metav1.Condition{Type: identity.ConditionDetached, Status: metav1.ConditionFalse, Reason: "Enrolled", Message: "The cluster has enrolled."}
		case e.Status.State == v1alpha1.StateDetached:
			out.Status, out.Reason, out.Message = metav1.ConditionTrue, e.Status.Reason, orDefault(e.Status.Message, "the spoke's admin detached it")
		}
	}
	return out
}
