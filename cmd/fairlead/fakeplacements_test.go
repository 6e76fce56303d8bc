// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// ExplainPlacement has one placement of each kind; the clusters of apps/two come
// in two pages.
func (h *fakeHub) ExplainPlacement(_ context.Context, r *adminv1.ExplainPlacementRequest) (*adminv1.ExplainPlacementResponse, error) {
	condition := func(status, reason, message string) *adminv1.PlacementCondition {
		return &adminv1.PlacementCondition{Status: status, Reason: reason, Message: message}
	}
	well := condition("False", "Succeedconfigured", "Placement configurations check pass")
	done := condition("True", "AllDecisionsScheduled", "All cluster decisions scheduled")
	sets := []string{"a"}
	switch r.GetName() {
	case "two":
		answer := &adminv1.ExplainPlacementResponse{
			Verdict: "apps/two chooses 2 of 3 clusters that pass its filters", Satisfied: done, Misconfigured: well,
			BoundSets: []string{"a", "b"}, EligibleSets: sets, Chosen: 2, Candidates: 3, Considered: 5,
			Prioritizers: []*adminv1.Prioritizer{{Name: "AddOn/load/free", Weight: 2}, {Name: "Steady", Weight: 1}},
			Again:        timestamppb.New(now()),
			Clusters: []*adminv1.ClusterChoice{
				{Name: "eu-1", Chosen: true, Decided: true, Scores: []int64{50, 100}, Score: 200, Rank: 1},
				{Name: "eu-2", Chosen: true, Decided: true, Scores: []int64{10, 100}, Score: 120, Rank: 2},
			},
			NextPageToken: "2",
		}
		if r.GetPageToken() == "2" {
			answer.NextPageToken = ""
			answer.Clusters = []*adminv1.ClusterChoice{
				{Name: "us-1", Scores: []int64{50, 0}, Score: 100, Rank: 3, Why: "spec.numberOfClusters is 2: as many score higher, or the same and sort first"},
				{Name: "us-2", Filter: "TaintToleration", Why: "it has taint cluster.open-cluster-management.io/unreachable:NoSelect, which no toleration covers"},
				{Name: "elsewhere", Filter: "ClusterSet", Why: `it is in c, and none of these is bound to namespace "apps"`},
			}
		}
		return answer, nil
	case "unbound":
		return &adminv1.ExplainPlacementResponse{
			Verdict:   `apps/unbound chooses 0 of 0 clusters that pass its filters and is not satisfied: NoManagedClusterSetBindings: namespace "apps" has none`,
			Satisfied: condition("False", "NoManagedClusterSetBindings", ""), Misconfigured: well, OthersHidden: true,
		}, nil
	case "wrong":
		return &adminv1.ExplainPlacementResponse{
			Verdict:   "apps/wrong is misconfigured and chooses nothing: incorrect builtin prioritizer: Spread",
			Satisfied: condition("False", "NotAllDecisionsScheduled", ""), Misconfigured: condition("True", "Misconfigured", ""), BoundSets: sets, EligibleSets: sets,
			Clusters: []*adminv1.ClusterChoice{{Name: "eu-1", Why: "nothing is chosen: incorrect builtin prioritizer: Spread"}},
		}, nil
	case "foreign":
		return &adminv1.ExplainPlacementResponse{
			Verdict:   `apps/foreign is decided by scheduler "cheapest", which has chosen 1 clusters`,
			Scheduler: "cheapest", Explanation: "eu-1 costs 3, us-1 costs 4", BoundSets: sets, EligibleSets: sets, Chosen: 1,
			Clusters: []*adminv1.ClusterChoice{{Name: "eu-1", Chosen: true, Decided: true}, {Name: "us-1", Why: "scheduler cheapest has not chosen it"}},
		}, nil
	}
	return nil, refuse(codes.NotFound, reason.NotFound, "namespace %q has no placement %q: «kubectl get placements -A» lists those that there are", r.GetNamespace(), r.GetName())
}
