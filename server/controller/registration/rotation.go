// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/condition"
	"fairlead.dev/fairlead/internal/pki"
)

// conditionRotated on a ManagedCluster tells of its agent's certificate, as
// OCM's agents tell of theirs (RA-14).
const conditionRotated = "ClusterCertificateRotated"

// Reasons of the condition; the first two are OCM's.
const (
	reasonUpdated      = "ClientCertificateUpdated"
	reasonUpdateFailed = "ClientCertificateUpdateFailed"
	reasonOutOfTime    = "ClientCertificateExpired"

	rotationFieldManager = FieldManager + "-rotation"
)

// rotation is what the pass found of the enrollment's certificate; nil if it has
// none, or none that counts.
func (p *pass) rotation() *metav1.Condition {
	c := &metav1.Condition{Type: conditionRotated, Status: metav1.ConditionFalse}
	switch {
	case p.e.OutOfTime():
		c.Reason, c.Message = reasonOutOfTime, p.e.Status.Message
	case p.e.Status.State != v1alpha1.StateIssued && p.e.Status.State != v1alpha1.StateActive:
		return nil
	case p.renewal.turnedDown() != "":
		c.Reason, c.Message = reasonUpdateFailed, p.renewal.turnedDown()
	default:
		chain, err := pki.ParseCertificates(p.e.Status.Current.Chain)
		if err != nil {
			return nil
		}
		c.Status, c.Reason = metav1.ConditionTrue, reasonUpdated
		c.Message = fmt.Sprintf("The agent's certificate %s is valid from %s until %s.", p.e.Status.Current.Serial,
			chain[0].NotBefore.UTC().Format(time.RFC3339), chain[0].NotAfter.UTC().Format(time.RFC3339))
	}
	return c
}

// turnedDown says why the request will not be signed; empty while it may be.
func (r *request) turnedDown() string {
	switch {
	case r == nil:
		return ""
	case r.denied() != nil:
		return fmt.Sprintf("The renewal %s was denied (%s): %s", r.object.Name, r.denied().Reason, r.denied().Message)
	case r.failed() != nil:
		return fmt.Sprintf("The renewal %s failed (%s): %s", r.object.Name, r.failed().Reason, r.failed().Message)
	}
	return ""
}

// tellRotation writes the condition, if it says something new.
func (r *enrollments) tellRotation(ctx context.Context, cluster *clusterv1.ManagedCluster, found *metav1.Condition) error {
	if cluster == nil || found == nil || !cluster.DeletionTimestamp.IsZero() {
		return nil
	}
	writer := condition.Writer{Client: r.client, FieldManager: rotationFieldManager, Clock: r.cfg.Clock}
	_, err := writer.Apply(ctx, cluster, cluster.Status.Conditions, *found)
	return err
}
