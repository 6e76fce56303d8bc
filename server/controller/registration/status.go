// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
)

// Reasons of the condition HubAcceptedManagedCluster, as OCM's tools read them.
const (
	reasonAccepted = "HubClusterAdminAccepted"
	reasonDenied   = "HubClusterAdminDenied"
	reasonError    = "Error"
)

// accepted is the condition of an accepted cluster, given what went wrong.
func accepted(problem error) metav1.Condition {
	c := metav1.Condition{
		Type: clusterv1.ManagedClusterConditionHubAccepted, Status: metav1.ConditionTrue,
		Reason: reasonAccepted, Message: "Accepted by hub cluster admin",
	}
	if problem != nil {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonError, strings.ReplaceAll(problem.Error(), "\n", "; ")
	}
	return c
}

// denied is the condition of a cluster that was accepted once.
func denied() metav1.Condition {
	return metav1.Condition{
		Type: clusterv1.ManagedClusterConditionHubAccepted, Status: metav1.ConditionFalse,
		Reason: reasonDenied, Message: "Denied by hub cluster admin",
	}
}
