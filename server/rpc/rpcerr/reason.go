// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package rpcerr

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// Refusal makes an Error out of what a room below the face refused with: a
// reason, words for the caller, advice when to try again, and the cause, for
// the log. The code follows from the reason.
func Refusal(why, message string, retryAfter time.Duration, cause error) *Error {
	return New(CodeOf(why), why, "%s", message).RetryIn(retryAfter).Because(cause)
}

// CodeOf is the gRPC code that goes with a reason; an unknown one is INTERNAL.
func CodeOf(why string) codes.Code {
	for code, reasons := range reasonsByCode() {
		if slices.Contains(reasons, why) {
			return code
		}
	}
	return codes.Internal
}

func reasonsByCode() map[codes.Code][]string {
	return map[codes.Code][]string{
		codes.PermissionDenied: {
			reason.UnknownCluster, reason.ClusterRemoved, reason.NotAccepted, reason.Revoked, reason.UIDMismatch,
			reason.SerialMismatch, reason.CertificateClone, reason.PermissionDenied, reason.NameNotAllowed,
		},
		codes.Unauthenticated: {
			reason.Unauthenticated, reason.CertificateError, reason.CertificateExpired, reason.ClockSkew, reason.InvalidToken,
			reason.TokenExpired, reason.InvalidProof,
		},
		codes.AlreadyExists: {reason.DuplicateCluster, reason.ClusterExists, reason.TokenUsed},
		codes.ResourceExhausted: {
			reason.AgentFlapping, reason.RateLimited, reason.TooManyPending, reason.HubOverloaded,
		},
		codes.InvalidArgument: {
			reason.InvalidJoinString, reason.InvalidName, reason.InvalidCSR, reason.InvalidArgument, reason.ProtocolError,
			reason.ObjectTooLarge, reason.StatusTooLarge, reason.Undecodable, reason.DigestMismatch,
		},
		codes.NotFound:           {reason.EnrollmentNotFound, reason.NotFound},
		codes.FailedPrecondition: {reason.EnrollmentEnded, reason.PairingCodeMismatch, reason.ProtocolTooOld, reason.TermHeld, reason.OtherScheduler, reason.SchedulingDisabled},
		codes.Aborted:            {reason.Conflict, reason.Superseded, reason.Fenced, reason.StaleGeneration},
		codes.Unavailable: {
			reason.HubStarting, reason.Draining, reason.HubRestored, reason.ApiserverLost, reason.Kicked,
			reason.SlowConsumer, reason.LivenessLost, reason.ReplicaSilent,
		},
		codes.Unimplemented: {reason.Unsupported},
	}
}
