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

// ExplainReplicaSet has a set that rolls out, in two pages, one that is stopped, and
// one that is done.
func (h *fakeHub) ExplainReplicaSet(_ context.Context, r *adminv1.ExplainReplicaSetRequest) (*adminv1.ExplainReplicaSetResponse, error) {
	at := timestamppb.New(now())
	switch r.GetName() {
	case "rolling":
		answer := &adminv1.ExplainReplicaSetResponse{
			Verdict: `placement "all": 1 of 3 clusters succeeded, 1 in progress, 1 wait`, Again: at, NextPageToken: "2",
			Clusters: []*adminv1.ReplicaSetCluster{
				{Name: "eu-1", Placement: "all", Work: "rolling-x", State: "Succeeded", Since: at},
				{Name: "eu-2", Placement: "all", Work: "rolling-x", State: "Progressing", Since: at, Why: "condition Progressing of its work is True"},
			},
		}
		if r.GetPageToken() == "2" {
			answer.NextPageToken = ""
			answer.Clusters = []*adminv1.ReplicaSetCluster{{Name: "us-1", Placement: "all", State: "ToApply", Why: "1 clusters are in progress, which is maxConcurrency"}}
		}
		return answer, nil
	case "stopped":
		return &adminv1.ExplainReplicaSetResponse{
			Verdict:  `placement "all": 0 of 1 clusters succeeded, 1 timed out`,
			Clusters: []*adminv1.ReplicaSetCluster{{Name: "eu-1", Placement: "all", Work: "stopped-x", State: "TimeOut", Since: at, Why: "it did not succeed within progressDeadline"}},
		}, nil
	case "undecided":
		return &adminv1.ExplainReplicaSetResponse{Verdict: `placement "all": nobody has decided on Placement "all" in namespace "apps" yet`}, nil
	case "done":
		return &adminv1.ExplainReplicaSetResponse{
			Verdict: `placement "all": 1 of 1 clusters succeeded`, Done: true,
			Clusters: []*adminv1.ReplicaSetCluster{{Name: "eu-1", Placement: "all", Work: "done-x", State: "Succeeded", Since: at}},
		}, nil
	}
	return nil, refuse(codes.NotFound, reason.NotFound, "namespace %q has no replica set %q: «kubectl get manifestworkreplicasets -A» lists those that there are", r.GetNamespace(), r.GetName())
}
