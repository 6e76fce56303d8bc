// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Reasons of our own for the end of a session, beside those of package reason.
const (
	reasonDisconnected = "DISCONNECTED" // the connection broke, or the hub could not be reached
	reasonOtherHub     = "OTHER_HUB"    // this hub is not the one that the agent enrolled with
	reasonSendStalled  = "SEND_STALLED" // the hub does not read
	reasonShutdown     = "SHUTDOWN"     // the agent ends
	reasonReplaced     = "REPLACED"     // the next session is up
)

// ErrOtherHub is wrapped when a hub answers that is not the enrolled one.
var ErrOtherHub = errors.New("another hub answered than the one that this agent enrolled with")

// Ended says why there is no session, in a stable reason and in words.
type Ended struct { //nolint:errname // what happened, with a reason; not every end is an error
	Reason string
	// RetryAfter is the least wait that the hub asked for.
	RetryAfter time.Duration
	Err        error
}

// Error implements error.
func (e *Ended) Error() string {
	advice := adviceFor[e.Reason]
	if hop, ok := errors.AsType[*dialer.Error](e.Err); ok && hop.Advice != "" {
		advice = hop.Advice
	}
	if advice != "" {
		return fmt.Sprintf("%s: %v; %s", e.Reason, e.Err, advice)
	}
	return fmt.Sprintf("%s: %v", e.Reason, e.Err)
}

// Code is the stable reason; errors of Credentials may have one too.
func (e *Ended) Code() string { return e.Reason }

// Unwrap gives the cause.
func (e *Ended) Unwrap() error { return e.Err }

var adviceFor = map[string]string{
	reason.UnknownCluster:   "the hub knows no ManagedCluster of this name; nothing on this spoke is touched: accept it again on the hub, or remove the agent",
	reason.ClusterRemoved:   "the cluster was removed on the hub; --on-detach says what becomes of workloads: remove the agent, or enroll it again",
	reason.NotAccepted:      "set hubAcceptsClient on the hub (`fairlead accept`)",
	reason.UIDMismatch:      "the ManagedCluster of this name is a new one; enroll this agent again with a join string of its own",
	reason.SerialMismatch:   "another copy of this agent renewed the certificate; make sure that only one runs, then enroll it again",
	reason.CertificateClone: "ask the hub's admin which of the two goes on (`fairlead accept --serial`, or a re-enroll token); the serial of this agent's certificate is in its log",
	reason.DuplicateCluster: "another cluster is connected with this identity; give this one its own name and join string",
	reason.ProtocolTooOld:   "update the agent to a release that this hub supports",
	reason.Unauthenticated:  "if the hub says that it needs an agent certificate, something between ends TLS and keeps this agent's: let it pass TLS through (docs/networks.md)",
	reason.HubCAMismatch:    "the hub's certificate is not signed by the CA that this agent trusts; check the address, and that nothing between ends TLS (docs/networks.md), or enroll again if the hub was set up anew",
	reason.ClockSkew:        "have NTP set the clocks of this machine and of the hub",
	reasonOtherHub:          "check --hub and the join string; to move a spoke to another hub, remove the agent's state first",
}

// Rejected is returned by a Store for content that it will never take; the hub
// is told so and shows it at the object.
type Rejected struct { //nolint:errname // the word on the wire is REJECTED
	Reason     string // of package reason
	Message    string
	FieldPaths []string
}

// Error implements error.
func (r *Rejected) Error() string { return r.Reason + ": " + r.Message }

func ended(why string, format string, args ...any) *Ended {
	return &Ended{Reason: why, Err: fmt.Errorf(format, args...)}
}

// endedBy reads what a failed RPC says, wherever it failed.
func endedBy(err error) *Ended {
	if known, ok := errors.AsType[*Ended](err); ok {
		return known
	}
	s := status.Convert(err)
	out := &Ended{Reason: reasonOf(s.Code()), Err: err}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if d.GetReason() != "" {
				out.Reason = d.GetReason()
			}
		case *errdetails.RetryInfo:
			out.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	if s.Code() == codes.Unavailable {
		if why := handshakeReason(s.Message()); why != "" {
			out.Reason = why
		}
	}
	return out
}

// endedOn reads what a failed RPC says, and why its connection is not there.
func endedOn(way *dialer.Way, err error) *Ended {
	why := endedBy(err)
	cause := way.Err()
	if cause == nil || status.Code(err) != codes.Unavailable {
		return why
	}
	if hop, ok := errors.AsType[*dialer.Error](cause); ok {
		return &Ended{Reason: hop.Reason, Err: hop}
	}
	return &Ended{Reason: why.Reason, Err: cause}
}

func reasonOf(code codes.Code) string {
	switch code {
	case codes.PermissionDenied:
		return reason.PermissionDenied
	case codes.Unauthenticated:
		return reason.Unauthenticated
	case codes.ResourceExhausted:
		return reason.HubOverloaded
	case codes.FailedPrecondition:
		return reason.ProtocolTooOld
	case codes.AlreadyExists:
		return reason.DuplicateCluster
	default:
		return reasonDisconnected
	}
}

// handshakeReason maps alerts of the hub about the agent's certificate. They come
// after the agent's own handshake is over, and gRPC hands them on as text only.
func handshakeReason(message string) string {
	switch {
	case strings.Contains(message, "tls: expired certificate"), strings.Contains(message, "tls: certificate expired"):
		return reason.CertificateExpired
	case strings.Contains(message, "tls: bad certificate"), strings.Contains(message, "tls: unknown certificate"), strings.Contains(message, "tls: certificate required"):
		return reason.CertificateError
	}
	return ""
}

// over tells whether ctx has ended.
func over(ctx context.Context) bool { return ctx.Err() != nil }
