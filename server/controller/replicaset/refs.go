// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/server/rollout"
)

// ref is a placement that a set refers to.
type ref struct {
	name     string
	strategy clusterv1alpha1.RolloutStrategy
	// missing says what there is not: the placement, or a decision on it. What no
	// decision says is no ground to delete anything.
	missing  string
	perGroup intstr.IntOrString
	groups   []rollout.Group
	// chosen is how many clusters its decisions name; own are those that no earlier
	// ref has.
	chosen int
	own    []string

	progress map[string]rollout.Progress
	plan     rollout.Plan
	problem  error // of the strategy
}

// readRefs reads the placements of a set and what was decided on them.
func (r *reconciler) readRefs(ctx context.Context, reader client.Reader, set *workv1alpha1.ManifestWorkReplicaSet) ([]*ref, error) {
	var refs []*ref
	seen := map[string]bool{}
	for _, spec := range set.Spec.PlacementRefs {
		if seen[spec.Name] { // MH-04: each once
			continue
		}
		seen[spec.Name] = true
		f := &ref{name: spec.Name, strategy: spec.RolloutStrategy}
		refs = append(refs, f)
		placement := &clusterv1beta1.Placement{}
		err := reader.Get(ctx, client.ObjectKey{Namespace: set.Namespace, Name: spec.Name}, placement)
		if apierrors.IsNotFound(err) {
			f.missing = fmt.Sprintf("there is no Placement %q in namespace %q", spec.Name, set.Namespace)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading Placement %s/%s: %w", set.Namespace, spec.Name, err)
		}
		f.perGroup = placement.Spec.DecisionStrategy.GroupStrategy.ClustersPerDecisionGroup
		if err := f.decisions(ctx, reader, set.Namespace); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// decisions reads which clusters were chosen, by decision group.
func (f *ref) decisions(ctx context.Context, reader client.Reader, namespace string) error {
	list := &clusterv1beta1.PlacementDecisionList{}
	err := reader.List(ctx, list, client.InNamespace(namespace), client.MatchingLabels{clusterv1beta1.PlacementLabel: f.name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("reading the decisions on Placement %s/%s: %w", namespace, f.name, err)
	}
	groups, found := map[string]int{}, false
	for i := range list.Items {
		decision := &list.Items[i]
		if !decision.DeletionTimestamp.IsZero() {
			continue
		}
		found = true
		name, number := decision.Labels[clusterv1beta1.DecisionGroupNameLabel], decision.Labels[clusterv1beta1.DecisionGroupIndexLabel]
		key := number + " " + name
		at, ok := groups[key]
		if !ok {
			index, _ := strconv.ParseInt(number, 10, 32) // 0 where nobody numbers groups
			at = len(f.groups)
			groups[key] = at
			f.groups = append(f.groups, rollout.Group{Name: name, Index: int32(index)})
		}
		for _, d := range decision.Status.Decisions {
			f.groups[at].Clusters = append(f.groups[at].Clusters, d.ClusterName)
		}
		f.chosen += len(decision.Status.Decisions)
	}
	if !found {
		f.missing = fmt.Sprintf("nobody has decided on Placement %q in namespace %q yet", f.name, namespace)
	}
	return nil
}

// claim gives each cluster to the first ref that chooses it, and takes it out of
// the groups of the others (MH-11).
func claim(refs []*ref) map[string]*ref {
	by := map[string]*ref{}
	for _, f := range refs {
		for i := range f.groups {
			f.groups[i].Clusters = slices.DeleteFunc(f.groups[i].Clusters, func(cluster string) bool {
				if cluster == "" || by[cluster] != nil {
					return true
				}
				by[cluster] = f
				return false
			})
			f.own = append(f.own, f.groups[i].Clusters...)
		}
	}
	return by
}
