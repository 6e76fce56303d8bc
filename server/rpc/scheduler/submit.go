// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/decide"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/person"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

const (
	// submitStep is how long the cache is given to catch up with what the caller
	// has seen already, and submitTries how often.
	submitStep  = 50 * time.Millisecond
	submitTries = 20
)

// SubmitDecision makes a scheduler's choice the placement's decisions, written with
// the caller's own token. It needs the current term, and the generation that was
// looked at; a repeat of a request gets the same answer and writes nothing.
func (s *Service) SubmitDecision(ctx context.Context, r *schedulerv1.SubmitDecisionRequest) (*schedulerv1.SubmitDecisionResponse, error) {
	who, err := s.callers.Of(ctx)
	if err != nil {
		return nil, err
	}
	key, err := checkDecision(r)
	if err != nil {
		return nil, err
	}
	if err := who.Allowed(ctx, readPlacement(key)); err != nil {
		return nil, err
	}
	if err := who.Allowed(ctx, writeDecisions(key.Namespace)); err != nil { // before a part is written
		return nil, err
	}
	decision, err := s.decision(ctx, key, r)
	if err != nil {
		return nil, err
	}
	if err := s.checkTerm(ctx, decision.Scheduler, r.GetTerm()); err != nil {
		return nil, err
	}
	writer, err := client.New(who.Config, client.Options{Scheme: s.Direct.Scheme(), Mapper: s.Direct.RESTMapper()})
	if err != nil {
		return nil, err
	}
	result, err := s.submit(ctx, writer, decision)
	if err != nil {
		return nil, refused(decision, err)
	}
	if result.Changed {
		s.audit(ctx, deed{"SubmitDecision", who.Name, nil, len(r.GetClusterNames()) - len(result.Rejected)}, "placement", key.String(), "scheduler", decision.Scheduler,
			"term", r.GetTerm(), "generation", result.Generation, "request", r.GetRequestId())
	}
	return &schedulerv1.SubmitDecisionResponse{AcceptedGeneration: result.Generation, Rejected: result.Rejected, Applied: result.Applied}, nil
}

func checkDecision(r *schedulerv1.SubmitDecisionRequest) (types.NamespacedName, error) {
	ref := r.GetPlacement()
	if err := person.Names(ref.GetNamespace(), ref.GetName()); err != nil {
		return types.NamespacedName{}, err
	}
	key := types.NamespacedName{Namespace: ref.GetNamespace(), Name: ref.GetName()}
	switch n := len(r.GetRequestId()); {
	case n == 0 || n > decide.MaxRequestID:
		return key, invalid("request_id has %d bytes: give each decision one of its own, of 1 to %d", n, decide.MaxRequestID)
	case r.GetObservedGeneration() <= 0:
		return key, invalid("observed_generation is %d: give the generation of the placement that was decided on", r.GetObservedGeneration())
	case len(r.GetExplanation()) > decide.MaxExplanation:
		return key, invalid("explanation has %d bytes, at most %d are kept: shorten it", len(r.GetExplanation()), decide.MaxExplanation)
	}
	return key, nil
}

func readPlacement(key types.NamespacedName) authorizationv1.ResourceAttributes {
	return authorizationv1.ResourceAttributes{Verb: "get", Group: clusterv1.GroupName, Resource: placements.Resource, Namespace: key.Namespace, Name: key.Name}
}

func writeDecisions(namespace string) authorizationv1.ResourceAttributes {
	return authorizationv1.ResourceAttributes{Verb: "patch", Group: clusterv1.GroupName, Resource: "placementdecisions", Subresource: "status", Namespace: namespace}
}

// decision is r as internal/decide takes it, by the scheduler that the placement
// names. One without a scheduler is the hub's own.
func (s *Service) decision(ctx context.Context, key types.NamespacedName, r *schedulerv1.SubmitDecisionRequest) (decide.Decision, error) {
	var placement clusterv1beta1.Placement
	if err := s.Direct.Get(ctx, key, &placement); err != nil {
		return decide.Decision{}, person.Error(err, "reading placement %s", key)
	}
	if uid := r.GetPlacement().GetUid(); uid != "" && uid != string(placement.UID) {
		return decide.Decision{}, rpcerr.New(codes.NotFound, reason.NotFound, "placement %s has UID %q, and the decision is for %q: the name has been given to another one since", key, placement.UID, uid)
	}
	if !placement.DeletionTimestamp.IsZero() {
		return decide.Decision{}, rpcerr.New(codes.NotFound, reason.NotFound, "placement %s is being deleted", key)
	}
	scheduler := placement.Annotations[v1alpha1.AnnotationScheduler]
	if scheduler != "" && checkScheduler(scheduler) != nil {
		return decide.Decision{}, rpcerr.New(codes.FailedPrecondition, reason.OtherScheduler, "placement %s names the scheduler %q in annotation %s, which is not an RFC 1123 label and so none of SchedulerService", key, scheduler, v1alpha1.AnnotationScheduler)
	}
	if scheduler == "" {
		return decide.Decision{}, rpcerr.New(codes.FailedPrecondition, reason.OtherScheduler, "placement %s is decided by the hub: its annotation %s names no scheduler", key, v1alpha1.AnnotationScheduler)
	}
	return decide.Decision{
		Placement: key, UID: types.UID(r.GetPlacement().GetUid()), ObservedGeneration: r.GetObservedGeneration(), Clusters: r.GetClusterNames(),
		Scheduler: scheduler, AllowPartial: r.GetAllowPartial(), DryRun: r.GetDryRun(), Explanation: r.GetExplanation(),
		RequestID: r.GetRequestId(), Term: r.GetTerm(),
	}, nil
}

// submit has a cache that lags behind what the caller has seen, perhaps on another
// replica, and behind what decision has read, catch up.
func (s *Service) submit(ctx context.Context, writer client.Client, d decide.Decision) (result decide.Result, err error) {
	for range submitTries {
		submitter := decide.Submitter{Reader: s.Cache, Writer: writer, Log: s.Logger}
		result, err = submitter.Submit(ctx, d)
		if !errors.Is(err, decide.ErrConflict) && !errors.Is(err, decide.ErrGone) && !errors.Is(err, decide.ErrNotYours) {
			return result, err
		}
		if err := person.Pause(ctx, submitStep); err != nil {
			return result, err
		}
	}
	return result, err
}

// refused is what decide.Submit says, for the caller.
func refused(d decide.Decision, err error) error {
	if stale, ok := errors.AsType[*decide.StaleError](err); ok {
		return rpcerr.New(codes.Aborted, reason.StaleGeneration, "placement %s has generation %d, and the decision is for %d: decide on what it asks for now", d.Placement, stale.Current, stale.Observed).
			With("generation", strconv.FormatInt(stale.Current, 10)).Because(err)
	}
	for _, known := range []struct {
		is   error
		code codes.Code
		why  string
	}{
		{decide.ErrGone, codes.NotFound, reason.NotFound},
		{decide.ErrNotYours, codes.FailedPrecondition, reason.OtherScheduler},
		{decide.ErrFrozen, codes.FailedPrecondition, reason.SchedulingDisabled},
		{decide.ErrFenced, codes.FailedPrecondition, reason.Fenced},
		{decide.ErrInvalid, codes.InvalidArgument, reason.InvalidArgument},
		{decide.ErrConflict, codes.Aborted, reason.Conflict},
	} {
		if errors.Is(err, known.is) {
			return rpcerr.New(known.code, known.why, "%v", err).Because(err)
		}
	}
	return person.Error(err, "deciding on placement %s", d.Placement)
}
