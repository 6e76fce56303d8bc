// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package decide

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/clusterset"
)

// Bounds are the clusters that a Placement may have, whoever decides: those of
// the sets that are bound to its namespace and, if it names sets, that it names
// (PL-02, PL-62).
type Bounds struct {
	reader client.Reader
	sets   []labels.Selector
}

// Eligible finds the bounds of a Placement as they are now.
func Eligible(ctx context.Context, reader client.Reader, placement *clusterv1beta1.Placement) (*Bounds, error) {
	bindings := &clusterv1beta2.ManagedClusterSetBindingList{}
	if err := reader.List(ctx, bindings, client.InNamespace(placement.Namespace)); err != nil {
		return nil, fmt.Errorf("reading the bindings in namespace %q: %w", placement.Namespace, err)
	}
	b := &Bounds{reader: reader}
	for i := range bindings.Items {
		name := bindings.Items[i].Spec.ClusterSet
		if len(placement.Spec.ClusterSets) > 0 && !slices.Contains(placement.Spec.ClusterSets, name) {
			continue
		}
		set := &clusterv1beta2.ManagedClusterSet{}
		err := reader.Get(ctx, client.ObjectKey{Name: name}, set)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading cluster set %q: %w", name, err)
		}
		if selector, err := clusterset.Selector(set); err == nil { // one that cannot be read selects nobody
			b.sets = append(b.sets, selector)
		}
	}
	return b, nil
}

// Has says whether the Placement may have a cluster: one that exists, is not being
// deleted (PL-12) and is in one of the sets.
func (b *Bounds) Has(ctx context.Context, name string) (bool, error) {
	if name == "" || len(b.sets) == 0 {
		return false, nil
	}
	cluster := &clusterv1.ManagedCluster{}
	err := b.reader.Get(ctx, client.ObjectKey{Name: name}, cluster, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading cluster %q: %w", name, err)
	}
	in := func(set labels.Selector) bool { return set.Matches(labels.Set(cluster.Labels)) }
	return cluster.DeletionTimestamp.IsZero() && slices.ContainsFunc(b.sets, in), nil
}
