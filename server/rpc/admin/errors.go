// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"fmt"

	"google.golang.org/grpc/codes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// kubernetesError passes on what the apiserver said to the caller's own
// request, in its own words, with the code that a gRPC client expects.
func kubernetesError(err error, doing string, args ...any) error {
	doing = fmt.Sprintf(doing, args...)
	code, why := codes.Internal, reason.Internal
	switch {
	case apierrors.IsNotFound(err):
		code, why = codes.NotFound, reason.NotFound
	case apierrors.IsForbidden(err):
		code, why = codes.PermissionDenied, reason.PermissionDenied
	case apierrors.IsUnauthorized(err):
		code, why = codes.Unauthenticated, reason.Unauthenticated
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		code, why = codes.Aborted, reason.Conflict
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		code, why = codes.InvalidArgument, reason.InvalidArgument
	case apierrors.IsRequestEntityTooLargeError(err):
		code, why = codes.InvalidArgument, reason.ObjectTooLarge
	case apierrors.IsTooManyRequests(err), apierrors.IsServerTimeout(err), apierrors.IsServiceUnavailable(err):
		code, why = codes.Unavailable, reason.HubOverloaded
	}
	return fail(code, why, "%s: %v", doing, err)
}

// fail makes an error for the caller; see rpcerr.New.
func fail(code codes.Code, why, format string, args ...any) error {
	return rpcerr.New(code, why, format, args...)
}
