// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rpcerr is the one place where gRPC statuses are made. An Error has
// what the caller may know (code, reason, a short message, when to try again)
// and, apart from it, the cause, which stays in the hub's log. Services return
// an *Error or any other error; the interceptor sends what From makes of it.
package rpcerr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// maxMessage bounds a status message: details in trailers beyond 8 KiB turn an
// error into a bare INTERNAL at the client (B21).
const maxMessage = 256

// Error is an RPC's failure as its caller sees it. The zero value is of no use;
// New makes one. It is immutable once returned from a handler.
type Error struct {
	Code       codes.Code
	Reason     string // UPPER_SNAKE, from internal/wire/reason
	Message    string
	RetryAfter time.Duration     // 0: no advice
	Metadata   map[string]string // small facts for machines, never a secret
	cause      error
}

// New makes an Error. The message is for the caller: what, which value, what to
// do next; it is cut to 256 bytes.
func New(code codes.Code, why, format string, args ...any) *Error {
	return &Error{Code: code, Reason: why, Message: truncate(fmt.Sprintf(format, args...))}
}

// Because attaches what really happened. It is logged once by the interceptor
// and never sent.
func (e *Error) Because(cause error) *Error {
	e.cause = cause
	return e
}

// RetryIn advises the caller not to try again before d.
func (e *Error) RetryIn(d time.Duration) *Error {
	e.RetryAfter = d
	return e
}

// With adds one fact for machines.
func (e *Error) With(key, value string) *Error {
	if e.Metadata == nil {
		e.Metadata = map[string]string{}
	}
	e.Metadata[key] = value
	return e
}

// Error is for logs: with the reason and the cause.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s/%s: %s", e.Code, e.Reason, e.Message)
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus is the error as sent: no cause in it.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(e.Code, e.Message)
	info := &errdetails.ErrorInfo{Reason: e.Reason, Domain: reason.Domain, Metadata: e.Metadata}
	detailed, err := st.WithDetails(info)
	if err != nil { // Code OK, which New is never called with
		return st
	}
	if e.RetryAfter <= 0 {
		return detailed
	}
	if withRetry, err := detailed.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)}); err == nil {
		return withRetry
	}
	return detailed
}

// From turns any error into what may be sent. An *Error, however wrapped, is
// itself; ends of contexts and the apiserver's answers keep their meaning;
// everything else is INTERNAL without its text. Nil stays nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	if e := fromContext(err); e != nil {
		return e.Because(err)
	}
	if e := fromAPIServer(err); e != nil {
		return e.Because(err)
	}
	if st, ok := status.FromError(err); ok { // grpc itself: a broken stream, a message too large
		return (&Error{Code: blamed(st), Reason: reason.ProtocolError, Message: truncate(st.Message())}).Because(err)
	}
	return New(codes.Internal, reason.Internal, "internal error; the hub's log has the cause").Because(err)
}

// blamed is the code of one of grpc's own errors, for logs and metrics; grpc has
// answered the caller by then. It calls a message that does not decode INTERNAL,
// as if that were the hub's fault and worth an alarm.
func blamed(st *status.Status) codes.Code {
	if st.Code() == codes.Internal && strings.HasPrefix(st.Message(), "grpc: failed to unmarshal") {
		return codes.InvalidArgument
	}
	return st.Code()
}

// ReasonOf is the reason inside an error that a client received, or "".
func ReasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// RetryAfterOf is the advice inside an error that a client received, or 0.
func RetryAfterOf(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

func fromContext(err error) *Error {
	switch {
	case errors.Is(err, context.Canceled):
		return New(codes.Canceled, reason.Internal, "the call was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return New(codes.DeadlineExceeded, reason.HubOverloaded, "the call took longer than allowed; try again")
	}
	return nil
}

// fromAPIServer keeps the meaning of what the hub's apiserver answered and
// hides its words, which name objects that the caller may not know of.
func fromAPIServer(err error) *Error {
	switch {
	case apierrors.IsTooManyRequests(err):
		e := New(codes.ResourceExhausted, reason.HubOverloaded, "the hub's apiserver is busy; try again later").RetryIn(time.Second)
		if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
			e = e.RetryIn(time.Duration(seconds) * time.Second)
		}
		return e
	case apierrors.IsServerTimeout(err), apierrors.IsTimeout(err), apierrors.IsServiceUnavailable(err):
		return New(codes.Unavailable, reason.ApiserverLost, "the hub's apiserver did not answer in time; try again").RetryIn(time.Second)
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return New(codes.Aborted, reason.Conflict, "something else changed the object at the same time; try again").RetryIn(time.Second)
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return New(codes.Internal, reason.Internal, "the hub lacks a permission on its own apiserver; its log has the details")
	}
	return nil
}

// truncate cuts at a character's border.
func truncate(text string) string {
	const mark = "…"
	if len(text) <= maxMessage {
		return text
	}
	cut := maxMessage - len(mark)
	for cut > 0 && text[cut]&0xC0 == 0x80 {
		cut--
	}
	return text[:cut] + mark
}
