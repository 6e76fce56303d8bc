// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/kube"
)

// discard deletes the ManagedCluster that the hub made for an enrollment which
// came to nothing, if nobody touched it and no other enrollment is about it.
func (p *pass) discard(ctx context.Context) error {
	nothing := p.e.Status.State == v1alpha1.StateDenied || p.e.Status.State == v1alpha1.StateExpired
	if !nothing || !p.e.Spec.MadeManagedCluster || !p.mine() || !p.cluster.DeletionTimestamp.IsZero() || p.wanted() {
		return nil
	}
	if !kube.UntouchedManagedCluster(p.cluster, p.e.Name) {
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

// wanted says whether another enrollment is about the same ManagedCluster.
func (p *pass) wanted() bool {
	for i := range p.peers {
		peer := &p.peers[i]
		if peer.Name != p.e.Name && peer.Spec.ManagedClusterUID == p.e.Spec.ManagedClusterUID && !ended(peer) {
			return true
		}
	}
	return false
}
