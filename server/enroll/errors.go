// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package enroll decides who may join the hub and with which certificate a
// cluster's agent may speak: join tokens, requests to join, pairing codes,
// acceptance, renewal, and the check of a certificate against what is recorded
// of it.
//
// Requests with plain values come in and plain answers go out; the record is
// the ClusterEnrollment in the apiserver, so any replica can answer any call,
// and every step can be repeated after a crash. The package knows no gRPC and
// no session. It signs nothing: approving and signing is a controller's work,
// on a person's word.
package enroll

import (
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// Error is a refusal that the caller may be told: a stable reason (a constant
// of internal/wire/reason) and words that say what to do. Every error of this
// package that is not an *Error is internal.
type Error struct {
	Reason  string
	Message string
	// RetryAfter, if not zero, is when trying again makes sense.
	RetryAfter time.Duration
	// Err is the cause, for the hub's log only.
	Err error
}

// Error implements error.
func (e *Error) Error() string { return e.Reason + ": " + e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, &Error{Reason: r}) ask for the reason alone.
func (e *Error) Is(target error) bool {
	var other *Error
	return errors.As(target, &other) && other.Reason == e.Reason && other.Message == ""
}

func refuse(why, format string, args ...any) *Error {
	return &Error{Reason: why, Message: fmt.Sprintf(format, args...)}
}

// personError turns the apiserver's no to a person into a refusal.
func personError(doing string, err error) error {
	var refused *Error
	switch {
	case err == nil || errors.As(err, &refused):
		return err
	case apierrors.IsForbidden(err):
		return &Error{Reason: reason.PermissionDenied, Message: fmt.Sprintf("%s: %v", doing, err), Err: err}
	case apierrors.IsUnauthorized(err):
		return &Error{Reason: reason.Unauthenticated, Message: doing + ": the apiserver does not know the token given; log in again", Err: err}
	case apierrors.IsConflict(err):
		return &Error{Reason: reason.Conflict, Message: doing + ": it was changed at the same time; look again and repeat", Err: err}
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}
