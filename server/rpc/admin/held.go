// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	authorizationv1 "k8s.io/api/authorization/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// ListHeldDeletes lists what a cluster's agent would delete but holds until an
// admin releases it (PROTOCOL decision 8).
func (s workService) ListHeldDeletes(ctx context.Context, r *adminv1.ListHeldDeletesRequest) (*adminv1.ListHeldDeletesResponse, error) {
	if _, _, err := s.authorize(ctx, worksAccess("list", r.GetClusterName())); err != nil {
		return nil, err
	}
	batches, known := s.Sessions.Held(r.GetClusterName())
	if !known {
		if replica, ok := s.elsewhere(ctx, r.GetClusterName()); ok {
			return s.heldElsewhere(ctx, replica, r)
		}
		return nil, s.notHere(ctx, r.GetClusterName())
	}
	return &adminv1.ListHeldDeletesResponse{Batches: batches}, nil
}

// ReleaseHeldDeletes lets a cluster's agent carry out one batch of held deletes,
// named by the id that binds exactly its keys and UIDs.
func (s workService) ReleaseHeldDeletes(ctx context.Context, r *adminv1.ReleaseHeldDeletesRequest) (*adminv1.ReleaseHeldDeletesResponse, error) {
	_, name, err := s.authorize(ctx, worksAccess("deletecollection", r.GetClusterName()))
	if err != nil {
		return nil, err
	}
	batches, known := s.Sessions.Held(r.GetClusterName())
	if !known {
		if replica, ok := s.elsewhere(ctx, r.GetClusterName()); ok {
			return s.releaseElsewhere(ctx, replica, r)
		}
		return nil, s.notHere(ctx, r.GetClusterName())
	}
	for _, batch := range batches {
		if batch.GetBatchId() != r.GetBatchId() {
			continue
		}
		if batch.GetOnSpoke() {
			return nil, fail(codes.FailedPrecondition, reason.HeldOnSpoke, "batch %s is not the hub's to release: %s", batch.GetBatchId(), spokeWords(batch))
		}
		if err := s.Sessions.Release(ctx, r.GetClusterName(), batch.GetBatchId()); err != nil {
			return nil, err
		}
		d := deed{action: "ReleaseHeldDeletes", actor: name, cluster: r.GetClusterName(), before: "held", after: "released"}
		s.audit(ctx, d, "batch", batch.GetBatchId(), "objects", batch.GetNames(), "reason", batch.GetReason())
		s.tellf(ctx, d, "HeldDeletesReleased", "%s released batch %s: %d deletes that were held because %s.", name, batch.GetBatchId(), len(batch.GetNames()), batch.GetReason())
		return &adminv1.ReleaseHeldDeletesResponse{}, nil
	}
	return nil, fail(codes.NotFound, reason.NotFound, "cluster %q holds no batch %q: list them with «fairlead release %s»", r.GetClusterName(), r.GetBatchId(), r.GetClusterName())
}

// heldAnywhere lists what a cluster's agent holds, as far as a replica knows.
func (s *Service) heldAnywhere(ctx context.Context, cluster string) []*adminv1.HeldBatch {
	batches, known := s.Sessions.Held(cluster)
	if replica, ok := s.elsewhere(ctx, cluster); !known && ok {
		answer, err := s.heldElsewhere(ctx, replica, &adminv1.ListHeldDeletesRequest{ClusterName: cluster})
		if err == nil {
			return answer.GetBatches()
		}
	}
	return batches
}

// batchWith returns the batch that a work is in, or nil.
func batchWith(batches []*adminv1.HeldBatch, work string) *adminv1.HeldBatch {
	for _, batch := range batches {
		if !batch.GetOnSpoke() && slices.Contains(batch.GetNames(), work) {
			return batch
		}
	}
	return nil
}

// leftOnSpoke returns what waits on the spoke of a work that the hub does not have,
// as a batch of its own, or nil. It may have been another hub's work of that name.
func leftOnSpoke(batches []*adminv1.HeldBatch, work string) *adminv1.HeldBatch {
	for _, batch := range batches {
		for _, name := range batch.GetNames() {
			if _, theirs, ok := strings.Cut(name, "-"); ok && theirs == work && batch.GetOnSpoke() {
				return &adminv1.HeldBatch{ClusterName: batch.GetClusterName(), BatchId: batch.GetBatchId(), Names: []string{name}, Reason: batch.GetReason(), OnSpoke: true}
			}
		}
	}
	return nil
}

// spokeWords says of a batch that waits on the spoke what has to be done there. It
// is short, for names are up to 253 characters and messages are cut.
func spokeWords(batch *adminv1.HeldBatch) string {
	name := "NAME"
	if names := batch.GetNames(); len(names) > 0 {
		name = names[0]
	}
	return fmt.Sprintf("to let it go, on the spoke: «kubectl delete appliedmanifestwork %s»", name)
}

// heldWords says of a batch what it is, why it is held, and how it is released.
func heldWords(batch *adminv1.HeldBatch) string {
	return fmt.Sprintf("its agent holds batch %s, of %d works, because %s; if they are really meant to go: «fairlead release %s %s»",
		batch.GetBatchId(), len(batch.GetNames()), batch.GetReason(), batch.GetClusterName(), batch.GetBatchId())
}

// notHere says why there is no answer: the session has just moved to another
// replica, or there is none while the agent is away.
func (s *Service) notHere(ctx context.Context, cluster string) error {
	sessions, err := s.sessionsOf(ctx, cluster)
	if err != nil {
		return err
	}
	if len(sessions) == 0 {
		return fail(codes.FailedPrecondition, reason.NotFound, "cluster %q has no session: its agent keeps its held deletes and shows them when it is back", cluster)
	}
	return fail(codes.Unavailable, reason.NotFound, "hub replica %q has the session of cluster %q: try again", sessions[0].GetHubReplica(), cluster)
}

func worksAccess(verb, namespace string) authorizationv1.ResourceAttributes {
	return authorizationv1.ResourceAttributes{Verb: verb, Group: manifestWorks.Group, Resource: manifestWorks.Resource, Namespace: namespace}
}
