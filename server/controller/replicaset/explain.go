// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/server/rollout"
)

// States of a cluster that are none of a rollout.
const (
	// Leaving: its work is being deleted, or about to be.
	Leaving = "Leaving"
	// Kept: its work stays as it is, as nobody has decided on the placement.
	Kept = "Kept"
)

// Explanation says how a set does.
type Explanation struct {
	// Verdict is one line: how far each of its rollouts is, and what keeps it.
	Verdict string
	// Done: PlacementRolledOut is True.
	Done bool
	// Clusters are those that are chosen or have a work of the set, by placement in
	// the set's order and then by name.
	Clusters []ClusterState
	// Again is when time alone changes something; zero if it does not.
	Again time.Time
}

// ClusterState says how one cluster does.
type ClusterState struct {
	Cluster, Placement string
	// Work is the name of its work; "" if it has none.
	Work string
	// State is a rollout.State, Leaving or Kept; Since is zero for those without.
	State string
	Since time.Time
	// Why is what it waits for; "" if it waits for nothing.
	Why string
}

// Explain says how the controller would go on with a set, from the same code, and
// writes nothing. false means that the works are not known yet.
func Explain(ctx context.Context, cfg Config, reader client.Reader, set *workv1alpha1.ManifestWorkReplicaSet) (Explanation, bool, error) {
	label := LabelValue(client.ObjectKeyFromObject(set))
	works, known := cfg.Works.Generated(label)
	if !known {
		return Explanation{}, false, nil
	}
	o := &round{reconciler: &reconciler{cfg: cfg}, set: set, label: label, note: newNote(client.ObjectKeyFromObject(set))}
	if err := o.look(ctx, reader, works, cfg.Clock.Now()); err != nil {
		return Explanation{}, false, err
	}
	going, err := o.going(ctx, reader)
	if err != nil {
		return Explanation{}, false, err
	}
	e := Explanation{Verdict: o.verdict(), Done: o.rolledOut().Status == metav1.ConditionTrue}
	for _, f := range o.refs {
		e.Clusters = append(e.Clusters, o.states(f, going)...)
		if at := f.plan.Again; !at.IsZero() && (e.Again.IsZero() || at.Before(e.Again)) {
			e.Again = at
		}
	}
	e.Clusters = append(e.Clusters, o.rest(works)...)
	return e, true, nil
}

// going are the clusters that are being removed, if that matters.
func (o *round) going(ctx context.Context, reader client.Reader) (map[string]bool, error) {
	if !slices.ContainsFunc(o.refs, func(f *ref) bool { return len(f.plan.Apply) > 0 }) {
		return nil, nil //nolint:nilnil // nobody asks for any
	}
	list := &clusterv1.ManagedClusterList{}
	if err := reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing ManagedClusters: %w", err)
	}
	going := map[string]bool{}
	for i := range list.Items {
		if !list.Items[i].DeletionTimestamp.IsZero() {
			going[list.Items[i].Name] = true
		}
	}
	return going, nil
}

// verdict is PlacementRolledOut in words, and the errors of the last writes.
func (o *round) verdict() string {
	if !o.set.DeletionTimestamp.IsZero() {
		return "it is being deleted, and its works before it"
	}
	words := o.rolledOut().Message
	if len(o.refs) == 0 {
		words = "spec.placementRefs names no placement"
	}
	applied := meta.FindStatusCondition(o.set.Status.Conditions, workv1alpha1.ManifestWorkReplicaSetConditionManifestworkApplied)
	if applied != nil && applied.Reason == workv1alpha1.ReasonNotAsExpected {
		words += "; the last writes failed: " + applied.Message
	}
	return words
}

// states are those of the clusters of a ref.
func (o *round) states(f *ref, going map[string]bool) []ClusterState {
	states := make([]ClusterState, 0, len(f.own))
	for _, cluster := range f.own {
		progress, judged := f.progress[cluster], f.plan.Clusters[cluster]
		if progress.State == "" {
			progress.State = rollout.ToApply
		}
		s := ClusterState{Cluster: cluster, Placement: f.name, State: string(progress.State), Since: progress.Since}
		if judged.State != "" {
			s.State = string(judged.State)
		}
		if w := o.works[cluster]; w != nil {
			s.Work = w.Name
		}
		s.Why = judged.Waits
		switch {
		case f.problem != nil:
			s.Why = "nothing is rolled out: " + f.problem.Error()
		case s.Work == "" && o.leaving[cluster]:
			s.Why = "the work that there was is being deleted first"
		case s.Work == "" && going[cluster]:
			s.Why = "the cluster is being removed: nothing new is made for it"
		case s.Why == "":
			s.Why = waiting(rollout.State(s.State))
		}
		states = append(states, s)
	}
	for _, w := range o.kept[f.name] {
		states = append(states, ClusterState{Cluster: w.Cluster, Placement: f.name, Work: w.Name, State: Kept, Why: f.missing})
	}
	slices.SortFunc(states, func(a, b ClusterState) int { return strings.Compare(a.Cluster, b.Cluster) })
	return states
}

// waiting is what a state waits for, of itself.
func waiting(s rollout.State) string {
	switch s {
	case rollout.ToApply:
		return "it is next"
	case rollout.Blocked:
		return "it could not be given the content, which is tried again"
	case rollout.Applying:
		return "its agent has yet to say how the current content does"
	case rollout.Progressing:
		return "condition Progressing of its work is True"
	case rollout.Failed:
		return "conditions Progressing and Degraded of its work are True"
	case rollout.Soaking:
		return "it succeeded less than minSuccessTime ago"
	case rollout.TimeOut:
		return "it did not succeed within progressDeadline"
	case rollout.Succeeded:
	}
	return ""
}

// rest are the clusters whose works go, and that are not chosen.
func (o *round) rest(works []Work) (states []ClusterState) {
	for i := range works {
		w := &works[i]
		if o.by[w.Cluster] != nil || !w.Deleting && slices.Contains(o.kept[w.Placement], w) {
			continue
		}
		why := "no placement of the set chooses it"
		if writing := o.writing(); writing != "" {
			why = writing
		}
		if w.Deleting {
			why = "its agent has yet to remove what the work applied"
		}
		states = append(states, ClusterState{Cluster: w.Cluster, Placement: w.Placement, Work: w.Name, State: Leaving, Why: why})
	}
	return states
}
