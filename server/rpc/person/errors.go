// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package person

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// Error passes on what the apiserver said to the caller's own
// request, in its own words, with the code that a gRPC client expects.
func Error(err error, doing string, args ...any) error {
	doing = fmt.Sprintf(doing, args...)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	for _, known := range answers() {
		if known.is(err) {
			return rpcerr.New(known.code, known.why, "%s: %v", doing, err).Because(err)
		}
	}
	return rpcerr.New(codes.Internal, reason.Internal, "%s: %v", doing, err).Because(err)
}

// answer is a kind of error of the apiserver, and what it is to a gRPC client.
type answer struct {
	is   func(error) bool
	code codes.Code
	why  string
}

func answers() []answer {
	return []answer{
		{notServed, codes.Unavailable, reason.HubStarting},
		{apierrors.IsNotFound, codes.NotFound, reason.NotFound},
		{apierrors.IsForbidden, codes.PermissionDenied, reason.PermissionDenied},
		{apierrors.IsUnauthorized, codes.Unauthenticated, reason.Unauthenticated},
		{apierrors.IsConflict, codes.Aborted, reason.Conflict},
		{apierrors.IsAlreadyExists, codes.Aborted, reason.Conflict},
		{apierrors.IsInvalid, codes.InvalidArgument, reason.InvalidArgument},
		{apierrors.IsBadRequest, codes.InvalidArgument, reason.InvalidArgument},
		{apierrors.IsRequestEntityTooLargeError, codes.InvalidArgument, reason.ObjectTooLarge},
		{apierrors.IsResourceExpired, codes.Aborted, reason.Conflict},
		{apierrors.IsGone, codes.Aborted, reason.Conflict},
		{apierrors.IsTooManyRequests, codes.Unavailable, reason.HubOverloaded},
		{apierrors.IsServerTimeout, codes.Unavailable, reason.HubOverloaded},
		{apierrors.IsServiceUnavailable, codes.Unavailable, reason.HubOverloaded},
		{unanswered, codes.Unavailable, reason.ApiserverLost},
	}
}

// notServed tells whether the kind itself is missing: its CRD is not installed
// yet, which the hub waits for.
func notServed(err error) bool {
	_, noObject := apierrors.StatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
	return noObject && apierrors.IsNotFound(err)
}

// unanswered tells whether the network said it, and not an apiserver.
func unanswered(err error) bool {
	var status apierrors.APIStatus
	return !errors.As(err, &status)
}
