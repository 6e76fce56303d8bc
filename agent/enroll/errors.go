// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Error says why an agent cannot get or use its identity. errors.Is with an
// &Error{Reason: r} asks for the reason alone.
type Error struct {
	// Reason is one of package reason.
	Reason string
	// Message is what happened.
	Message string
	// Advice is what to do about it.
	Advice string
	// RetryAfter is what the hub asked for, if it did.
	RetryAfter time.Duration
	Err        error

	transient bool
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Reason + ": " + e.Message
	if e.Advice != "" {
		text += "; " + e.Advice
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is implements errors.Is.
func (e *Error) Is(target error) bool {
	var other *Error
	return errors.As(target, &other) && other.Reason == e.Reason && other.Message == ""
}

// Code is the stable reason, for callers that only know error interfaces.
func (e *Error) Code() string { return e.Reason }

// Transient tells whether the same call may succeed later by itself.
func (e *Error) Transient() bool { return e.transient }

// What a spoke's admin is to do.
const (
	newToken = "ask the hub's admin for a new join string (`fairlead token create`) and give it to the agent" //nolint:gosec // words about tokens, no token
	reEnroll = "ask the hub's admin for a re-enroll token for this cluster (`fairlead token create --re-enroll`) and give its join string to the agent"
)

var advice = map[string]string{
	reason.InvalidJoinString:   newToken,
	reason.HubCAMismatch:       "check that the join string (or --hub-ca) is of this hub; if it is, something between agent and hub answers in its place",
	reason.InvalidToken:        newToken,
	reason.TokenExpired:        newToken,
	reason.TokenUsed:           "another key has used this token: if that was not you, have the hub's admin deny that enrollment; then " + newToken,
	reason.NameNotAllowed:      "use the cluster name that the token was made for, or " + newToken,
	reason.InvalidName:         "set --cluster-name to an RFC 1123 label: at most 63 lower-case letters, digits and '-'",
	reason.ClusterExists:       "choose another --cluster-name; to join that very cluster again, " + reEnroll,
	reason.PairingCodeMismatch: "do not accept the enrollment: something between agent and hub changed it",
	reason.EnrollmentEnded:     newToken,
	reason.EnrollmentNotFound:  newToken,
	reason.CertificateExpired:  reEnroll,
	reason.ClockSkew:           "have NTP set the clocks of this machine and of the hub",
	reason.InvalidCSR:          "use an agent release that fits the hub",
}

func problem(why string, cause error, format string, args ...any) *Error {
	return &Error{Reason: why, Message: fmt.Sprintf(format, args...), Advice: advice[why], Err: cause}
}

// refusal reads what a failed call says, and what failed on the way.
func refusal(way *dialer.Way, err error) *Error {
	out := answered(err)
	out.Message = fmt.Sprintf("hub at %s: %s", way.Endpoint(), out.Message)
	if cause := way.Err(); cause != nil && status.Code(err) == codes.Unavailable {
		out.hop(way.Endpoint(), cause)
	}
	return out
}

// answered reads what a failed call says. What is not a refusal of the hub is
// transient: the network, or a hub that is busy or starting.
func answered(err error) *Error {
	s := status.Convert(err)
	out := &Error{Reason: reason.Internal, Message: s.Message(), Err: err}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			out.Reason = d.GetReason()
		case *errdetails.RetryInfo:
			out.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	out.transient = slices.Contains([]codes.Code{
		codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.Unknown,
	}, s.Code())
	if out.Reason == reason.InvalidProof {
		out.transient = true // a challenge that is too old; the next Enroll brings a new one
	}
	out.Advice = advice[out.Reason]
	return out
}

// hop says what failed before the hub had a say.
func (e *Error) hop(endpoint string, cause error) {
	e.Message, e.Err = fmt.Sprintf("hub at %s: %v", endpoint, cause), cause
	if failed, ok := errors.AsType[*dialer.Error](cause); ok {
		e.Reason, e.Advice = failed.Reason, cmp.Or(failed.Advice, advice[failed.Reason])
	}
}
