// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/person"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

const (
	// leasePrefix begins the names of terms' Leases, and leaseKind is what their
	// label says.
	leasePrefix = "scheduler-"
	leaseKind   = "scheduler"
	// annotationTerm is a Lease's term. leaseTransitions is too small for it.
	annotationTerm = "fairlead.dev/scheduler-term"
	// minTTL and maxTTL bound a term.
	minTTL = 2 * time.Second
	maxTTL = 10 * time.Minute
	// maxHolder bounds the name of a holder.
	maxHolder = 128
	// termTries is how often a term is tried for while others change its Lease.
	termTries = 5
)

// term is what the Lease of a scheduler's name says.
type term struct {
	number  uint64
	holder  string
	expires time.Time
}

// AcquireTerm takes the term of a scheduler's name, or renews it for whoever has
// it. Terms only grow, even when their Lease is deleted or the hub is restored, as
// long as its clock does.
func (s *Service) AcquireTerm(ctx context.Context, r *schedulerv1.AcquireTermRequest) (*schedulerv1.AcquireTermResponse, error) {
	who, err := s.callers.Of(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkTermRequest(r); err != nil {
		return nil, err
	}
	if err := who.Allowed(ctx, person.Virtual("use", "schedulers", r.GetSchedulerName())); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		before, after, err := s.tryTerm(ctx, r)
		switch {
		case err == nil && before.number != after.number:
			s.audit(ctx, deed{"AcquireTerm", who.Name, before.number, after.number}, "scheduler", r.GetSchedulerName(), "holder", r.GetHolder(), "expires", after.expires)
			fallthrough
		case err == nil:
			return &schedulerv1.AcquireTermResponse{Term: after.number, Expires: timestamppb.New(after.expires)}, nil
		case try >= termTries || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err):
			return nil, err
		}
	}
}

func checkTermRequest(r *schedulerv1.AcquireTermRequest) error {
	if err := checkScheduler(r.GetSchedulerName()); err != nil {
		return err
	}
	if n := len(r.GetHolder()); n == 0 || n > maxHolder {
		return invalid("holder has %d bytes: name the process, as its pod, in 1 to %d", n, maxHolder)
	}
	if ttl := r.GetTtl(); ttl.CheckValid() != nil || ttl.AsDuration() < minTTL || ttl.AsDuration() > maxTTL {
		return invalid("ttl %s is not between %s and %s", ttl.AsDuration(), minTTL, maxTTL)
	}
	return nil
}

// tryTerm is one compare-and-swap of the Lease.
func (s *Service) tryTerm(ctx context.Context, r *schedulerv1.AcquireTermRequest) (before, after term, err error) {
	lease, err := s.termLease(ctx, r.GetSchedulerName())
	if err != nil {
		return term{}, term{}, err
	}
	before = termOf(lease)
	now := s.Now()
	held := before.holder != "" && now.Before(before.expires)
	if held && before.holder != r.GetHolder() {
		left := max(time.Second, before.expires.Sub(now))
		return before, before, rpcerr.New(codes.FailedPrecondition, reason.TermHeld, "%q has the term of scheduler %q until %s, if it does not renew it: ask again then",
			before.holder, r.GetSchedulerName(), before.expires.UTC().Format(time.RFC3339)).RetryIn(left).With("holder", before.holder)
	}
	after = term{number: before.number, holder: r.GetHolder()}
	if !held {
		after.number = max(before.number+1, uint64(max(0, now.UnixMilli())))
		lease.Spec.AcquireTime = &metav1.MicroTime{Time: now}
	}
	seconds := int32((r.GetTtl().AsDuration() + time.Second - 1) / time.Second) //nolint:gosec // at most maxTTL
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = &after.holder, &seconds
	lease.Spec.RenewTime = &metav1.MicroTime{Time: now}
	lease.Annotations = map[string]string{annotationTerm: strconv.FormatUint(after.number, 10)}
	lease.Labels = map[string]string{identity.LeaseLabel: leaseKind}
	after.expires = termOf(lease).expires
	if lease.ResourceVersion == "" {
		return before, after, s.Direct.Create(ctx, lease)
	}
	return before, after, s.Direct.Update(ctx, lease)
}

// termLease reads the Lease past every cache; one that there is not is new.
func (s *Service) termLease(ctx context.Context, scheduler string) (*coordinationv1.Lease, error) {
	lease := &coordinationv1.Lease{}
	key := client.ObjectKey{Namespace: s.Namespace, Name: leasePrefix + scheduler}
	err := s.Direct.Get(ctx, key, lease)
	if apierrors.IsNotFound(err) {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the term of scheduler %q: %w", scheduler, err)
	}
	return lease, nil
}

func termOf(lease *coordinationv1.Lease) term {
	var t term
	t.number, _ = strconv.ParseUint(lease.Annotations[annotationTerm], 10, 64) // nothing is a term that nobody has
	spec := lease.Spec
	if spec.HolderIdentity != nil && spec.RenewTime != nil && spec.LeaseDurationSeconds != nil {
		t.holder = *spec.HolderIdentity
		t.expires = spec.RenewTime.Add(time.Duration(*spec.LeaseDurationSeconds) * time.Second)
	}
	return t
}

// checkTerm gives an error unless that is the current term of a scheduler.
func (s *Service) checkTerm(ctx context.Context, scheduler string, number uint64) error {
	lease, err := s.termLease(ctx, scheduler)
	if err != nil {
		return err
	}
	current := termOf(lease)
	fenced := func(format string, args ...any) error {
		return rpcerr.New(codes.FailedPrecondition, reason.Fenced, format, args...).With("current_term", strconv.FormatUint(current.number, 10))
	}
	switch {
	case number != current.number || number == 0:
		return fenced("term %d of scheduler %q is not the current one, %d of %q: decide nothing more with it; AcquireTerm, and read the placements again", number, scheduler, current.number, current.holder)
	case !s.Now().Before(current.expires):
		return fenced("term %d of scheduler %q ended at %s: AcquireTerm, and read the placements again", number, scheduler, current.expires.UTC().Format(time.RFC3339))
	}
	return nil
}
