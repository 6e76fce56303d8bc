// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"
	"k8s.io/utils/clock"
	ocmfeature "open-cluster-management.io/api/feature"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/server/controller/replicaset"
	"fairlead.dev/fairlead/server/rpc/admin"
)

// replicaSets explains replica sets to people. It looks at what this replica can
// read, so that it answers on any, leader or not.
type replicaSets struct {
	config replicaset.Config
	reader client.Reader
}

// replicaSets is nil while their gate is off.
func (h *house) replicaSets() admin.ReplicaSets {
	if !h.cfg.Gates.Enabled(ocmfeature.ManifestWorkReplicaSet) {
		return nil
	}
	return replicaSets{replicaset.Config{Works: ReplicaSetWorks{h.index}, Clock: clock.RealClock{}}, h.placementReader()}
}

// Explain implements admin.ReplicaSets.
func (r replicaSets) Explain(ctx context.Context, set *workv1alpha1.ManifestWorkReplicaSet) (*adminv1.ExplainReplicaSetResponse, bool, error) {
	explained, known, err := replicaset.Explain(ctx, r.config, r.reader, set)
	if err != nil || !known {
		return nil, false, err
	}
	answer := &adminv1.ExplainReplicaSetResponse{Verdict: explained.Verdict, Done: explained.Done}
	if !explained.Again.IsZero() {
		answer.Again = timestamppb.New(explained.Again)
	}
	for _, c := range explained.Clusters {
		cluster := &adminv1.ReplicaSetCluster{Name: c.Cluster, Placement: c.Placement, Work: c.Work, State: c.State, Why: c.Why}
		if !c.Since.IsZero() {
			cluster.Since = timestamppb.New(c.Since)
		}
		answer.Clusters = append(answer.Clusters, cluster)
	}
	return answer, true, nil
}
