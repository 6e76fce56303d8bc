// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/decide"
	"fairlead.dev/fairlead/server/rollout"
)

// ref is a placement that a set refers to.
type ref struct {
	name     string
	strategy clusterv1alpha1.RolloutStrategy
	// missing says what there is not: the placement, or a decision on it. What no
	// decision says is no ground to delete anything.
	missing string
	// writing says that decisions are being written: a cluster that none names may be
	// named in a moment, and keeps its work. "" if nothing shows that.
	writing  string
	perGroup intstr.IntOrString
	groups   []rollout.Group
	own      []string // clusters that no earlier ref chooses

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
		if err := f.decisions(ctx, reader, placement); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// decisions reads which clusters were chosen, by decision group.
func (f *ref) decisions(ctx context.Context, reader client.Reader, placement *clusterv1beta1.Placement) error {
	list := &clusterv1beta1.PlacementDecisionList{}
	err := reader.List(ctx, list, client.InNamespace(placement.Namespace), client.MatchingLabels{clusterv1beta1.PlacementLabel: f.name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("reading the decisions on Placement %s/%s: %w", placement.Namespace, f.name, err)
	}
	var found []*clusterv1beta1.PlacementDecision
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp.IsZero() {
			found = append(found, &list.Items[i])
		}
	}
	slices.SortFunc(found, func(a, b *clusterv1beta1.PlacementDecision) int { return strings.Compare(a.Name, b.Name) })
	why, none := unfinished(placement, found)
	if why != "" {
		f.writing = fmt.Sprintf("the decisions on Placement %q in namespace %q are not complete: %s", f.name, placement.Namespace, why)
	}
	switch {
	case len(found) == 0:
		f.missing = fmt.Sprintf("nobody has decided on Placement %q in namespace %q yet", f.name, placement.Namespace)
	case none:
		f.missing = f.writing
	default:
		f.group(found)
	}
	return nil
}

// unfinished says what shows that decisions are being written, "" if nothing does;
// none, that too little is there yet to go by. A scheduler makes a decision and
// then fills it, and says last in the placement's status what there is. People who
// write decisions themselves may leave that status as it is: they freeze the
// placement, or no Placement controls what they write.
func unfinished(placement *clusterv1beta1.Placement, decisions []*clusterv1beta1.PlacementDecision) (why string, none bool) {
	there, chosen, scheduled := map[string]bool{}, 0, false
	for _, d := range decisions {
		if d.Status.Decisions == nil { // [] is an answer, and this is none
			return fmt.Sprintf("PlacementDecision %q has no status yet", d.Name), true
		}
		there[d.Name] = true
		chosen += len(d.Status.Decisions)
		controller := metav1.GetControllerOf(d)
		scheduled = scheduled || controller != nil && controller.Kind == "Placement"
	}
	if !scheduled || decide.Frozen(placement) {
		return "", false
	}
	for _, group := range placement.Status.DecisionGroups {
		for _, name := range group.Decisions {
			if !there[name] {
				return fmt.Sprintf("there is no PlacementDecision %q, which its status names", name), true
			}
		}
	}
	if said := int(placement.Status.NumberOfSelectedClusters); said != chosen {
		return fmt.Sprintf("they choose %d clusters, and its status says %d", chosen, said), len(placement.Status.DecisionGroups) == 0
	}
	return "", false
}

// group sorts the chosen clusters by decision group.
func (f *ref) group(decisions []*clusterv1beta1.PlacementDecision) {
	groups := map[string]int{}
	for _, decision := range decisions {
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
	}
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
