// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/kube"
)

// discard deletes the ManagedCluster that the hub made for an enrollment which
// came to nothing, if nobody touched it and no other enrollment is about it.
func (p *pass) discard(ctx context.Context) error {
	nothing := p.e.Status.State == v1alpha1.StateDenied || p.e.Status.State == v1alpha1.StateExpired
	if !nothing || !p.e.Spec.MadeManagedCluster || !p.mine() || !p.cluster.DeletionTimestamp.IsZero() || p.wanted(p.peers) {
		return nil
	}
	if !kube.UntouchedManagedCluster(p.cluster, p.e.Name) {
		return nil
	}
	// Somebody may have asked for the cluster just now.
	var live v1alpha1.ClusterEnrollmentList
	if err := p.live.List(ctx, &live, client.MatchingLabels{identity.ClusterNameLabel: p.e.Spec.ClusterName}); err != nil {
		return fmt.Errorf("listing the enrollments of cluster %q: %w", p.e.Spec.ClusterName, err)
	}
	if p.wanted(live.Items) {
		return nil
	}
	uid, version := p.cluster.UID, p.cluster.ResourceVersion
	err := p.client.Delete(ctx, p.cluster, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting ManagedCluster %q, which nobody wanted: %w", p.cluster.Name, err)
	}
	p.log.InfoContext(ctx, "an untouched cluster was deleted with its enrollment", "cluster", p.e.Spec.ClusterName, "enrollment", p.e.Name)
	return nil
}

// wanted says whether another enrollment, of these, is about the same ManagedCluster.
func (p *pass) wanted(enrollments []v1alpha1.ClusterEnrollment) bool {
	for i := range enrollments {
		peer := &enrollments[i]
		if peer.Name != p.e.Name && peer.Spec.ManagedClusterUID == p.e.Spec.ManagedClusterUID && !ended(peer) {
			return true
		}
	}
	return false
}
