// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/decide"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/server/scheduling"
)

// placements explains placements to people. It builds a World of its own from
// what this replica can read, so that it answers on any, leader or not.
//
// A World of a fleet is large, and expressions cost time: one is made at a time,
// however many ask, over gRPC or HTTP.
type placements struct {
	reader client.Reader
	now    func() time.Time
	turn   chan struct{}
}

func newPlacements(reader client.Reader) placements {
	return placements{reader: reader, now: time.Now, turn: make(chan struct{}, 1)}
}

// simulate has a World decide, when it is the caller's turn.
func (p placements) simulate(ctx context.Context, placement *clusterv1beta1.Placement) (scheduling.Explanation, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return scheduling.Explanation{}, ctx.Err()
	}
	defer func() { <-p.turn }()
	world, err := p.world(ctx, placement.Namespace)
	if err != nil {
		return scheduling.Explanation{}, err
	}
	return world.Simulate(ctx, placement, p.now())
}

// placementReader reads from memory where the controller of placements runs, as
// all that it needs is there, and otherwise from the apiserver.
func (h *house) placementReader() client.Reader {
	selected, err := controller.Select(h.cfg.Controllers)
	if err == nil && slices.ContainsFunc(selected, func(c controller.Controller) bool { return c.Name == "placement" }) {
		return h.cache
	}
	return h.direct
}

// Explain implements admin.Placements.
func (p placements) Explain(ctx context.Context, placement *clusterv1beta1.Placement) (*adminv1.ExplainPlacementResponse, error) {
	key := client.ObjectKeyFromObject(placement)
	explained, err := p.simulate(ctx, placement)
	if err != nil {
		return nil, err
	}
	own := &clusterv1beta1.PlacementDecisionList{}
	err = p.reader.List(ctx, own, client.InNamespace(key.Namespace), client.MatchingLabels{clusterv1beta1.PlacementLabel: key.Name})
	if err != nil {
		return nil, fmt.Errorf("listing PlacementDecisions: %w", err)
	}
	answer := describe(&explained, decidedIn(own.Items))
	answer.Frozen = decide.Frozen(placement)
	if scheduler := placement.Annotations[v1alpha1.AnnotationScheduler]; scheduler != "" {
		external(answer, scheduler, own.Items)
	}
	answer.Verdict = placementVerdict(key, answer)
	return answer, nil
}

// world has all that a placement of the namespace chooses from.
func (p placements) world(ctx context.Context, namespace string) (*scheduling.World, error) {
	world, err := scheduling.New()
	if err != nil {
		return nil, err
	}
	sets, bindings := &clusterv1beta2.ManagedClusterSetList{}, &clusterv1beta2.ManagedClusterSetBindingList{}
	clusters, decisions := &clusterv1.ManagedClusterList{}, &clusterv1beta1.PlacementDecisionList{}
	scores := &clusterv1alpha1.AddOnPlacementScoreList{}
	for _, list := range []client.ObjectList{sets, bindings, clusters, decisions, scores} {
		options := []client.ListOption{client.UnsafeDisableDeepCopy} // a World changes nothing
		if list == bindings {
			options = append(options, client.InNamespace(namespace))
		}
		err := p.reader.List(ctx, list, options...)
		if list == scores && meta.IsNoMatchError(err) {
			continue // nobody has to serve scores
		}
		if err != nil {
			return nil, fmt.Errorf("listing %T: %w", list, err)
		}
	}
	each(sets.Items, world.PutSet)
	each(bindings.Items, world.PutBinding)
	each(clusters.Items, world.PutCluster)
	each(decisions.Items, world.PutDecision)
	each(scores.Items, world.PutScore)
	return world, nil
}

func each[T any](items []T, put func(*T)) {
	for i := range items {
		put(&items[i])
	}
}

// decidedIn are the clusters of PlacementDecisions.
func decidedIn(decisions []clusterv1beta1.PlacementDecision) map[string]bool {
	names := map[string]bool{}
	for i := range decisions {
		for _, d := range decisions[i].Status.Decisions {
			names[d.ClusterName] = true
		}
	}
	return names
}

func describe(e *scheduling.Explanation, decided map[string]bool) *adminv1.ExplainPlacementResponse {
	answer := &adminv1.ExplainPlacementResponse{
		Satisfied: placementCondition(e.Satisfied), Misconfigured: placementCondition(e.Misconfigured),
		BoundSets: e.Bound, EligibleSets: e.Eligible,
		Chosen: int32(len(e.Clusters)), Candidates: int32(len(e.Scores)), //nolint:gosec // a hub has fewer clusters than that
	}
	if !e.Again.IsZero() {
		answer.Again = timestamppb.New(e.Again)
	}
	for _, p := range e.Prioritizers {
		answer.Prioritizers = append(answer.Prioritizers, &adminv1.Prioritizer{Name: p.Prioritizer, Weight: p.Weight})
	}
	for _, v := range e.All {
		answer.Clusters = append(answer.Clusters, &adminv1.ClusterChoice{
			Name: v.Cluster, Chosen: v.Selected, Filter: v.Filter, Why: v.Why, Scores: v.Scores, Score: v.Sum,
			Rank: int32(v.Rank), Decided: decided[v.Cluster], //nolint:gosec // see above
		})
		if v.Filter != scheduling.FilterClusterSet {
			answer.Considered++
		}
	}
	return answer
}

func placementCondition(c metav1.Condition) *adminv1.PlacementCondition {
	return &adminv1.PlacementCondition{Status: string(c.Status), Reason: c.Reason, Message: c.Message}
}

// external replaces the hub's own choice by that of the scheduler that decides the
// placement: what it wrote, and what it said of it. Filters stay as they are: they
// say what keeps a cluster from being eligible at all.
func external(answer *adminv1.ExplainPlacementResponse, scheduler string, own []clusterv1beta1.PlacementDecision) {
	answer.Scheduler, answer.Chosen, answer.Prioritizers, answer.Again = scheduler, 0, nil, nil
	answer.Misconfigured = nil
	for i := range own {
		if record, ok := decide.RecordOf(&own[i]); ok && record.Scheduler == scheduler {
			answer.Explanation = record.Explanation
		}
	}
	for _, c := range answer.GetClusters() {
		c.Chosen, c.Scores, c.Score, c.Rank = c.GetDecided(), nil, 0, 0
		switch {
		case c.GetChosen():
			answer.Chosen++
			c.Filter, c.Why = "", ""
		case c.GetFilter() != scheduling.FilterClusterSet:
			c.Filter, c.Why = "", "scheduler "+scheduler+" has not chosen it"
		}
	}
	answer.Satisfied = nil
}

// placementVerdict is what there is to know in one line.
func placementVerdict(key types.NamespacedName, a *adminv1.ExplainPlacementResponse) string {
	var b strings.Builder
	switch {
	case a.GetScheduler() != "":
		fmt.Fprintf(&b, "%s is decided by scheduler %q, which has chosen %d clusters", key, a.GetScheduler(), a.GetChosen())
	case a.GetMisconfigured().GetStatus() == string(metav1.ConditionTrue):
		what := "chooses nothing"
		if a.GetChosen() > 0 {
			what = "keeps what was chosen"
		}
		fmt.Fprintf(&b, "%s is misconfigured and %s: %s", key, what, a.GetMisconfigured().GetMessage())
	case a.GetSatisfied().GetStatus() == string(metav1.ConditionTrue):
		fmt.Fprintf(&b, "%s chooses %d of %d clusters that pass its filters", key, a.GetChosen(), a.GetCandidates())
	default:
		fmt.Fprintf(&b, "%s chooses %d of %d clusters that pass its filters and is not satisfied: %s: %s",
			key, a.GetChosen(), a.GetCandidates(), a.GetSatisfied().GetReason(), a.GetSatisfied().GetMessage())
	}
	if a.GetFrozen() {
		fmt.Fprintf(&b, "; annotation %s keeps its decisions as they are", clusterv1beta1.PlacementDisableAnnotation)
	}
	return b.String()
}
