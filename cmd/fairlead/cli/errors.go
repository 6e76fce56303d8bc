// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// hints say what to do about a reason that the hub gave; docs/errors.md says
// more.
var hints = map[string]string{
	reason.UnknownCluster:      "«fairlead get clusters» shows the names that the hub knows",
	reason.NotAccepted:         "«fairlead get enrollments» shows its pairing code; «fairlead accept» accepts it",
	reason.PairingCodeMismatch: "compare the code with what the agent printed; a foreign one means that someone else used the token",
	reason.PermissionDenied:    "ask an admin of the hub's Kubernetes for a role that allows it",
	reason.Unauthenticated:     "is your kubeconfig's token still valid, and of this hub's Kubernetes?",
	reason.ObjectTooLarge:      "split the manifests into several works",
	reason.Undecodable:         "check the YAML: each document needs apiVersion, kind and metadata.name",
	reason.Conflict:            "someone else changed it at the same time: look at it and try again",
	reason.HubStarting:         "the hub is reading its state: try again in some seconds",
	reason.HubOverloaded:       "the hub's apiserver is busy: try again in some seconds",
}

// Explain turns an error of the hub into its message, its reason and a hint.
func Explain(err error) error {
	s, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	why := Reason(err)
	switch {
	case why != "" && hints[why] != "":
		return fmt.Errorf("%s [%s]\nHint: %s", s.Message(), why, hints[why])
	case why != "":
		return fmt.Errorf("%s [%s]", s.Message(), why)
	case s.Code() == codes.Unavailable:
		return fmt.Errorf("the hub does not answer: %s\nHint: check --hub-address, and that the hub runs", s.Message())
	case s.Code() == codes.DeadlineExceeded:
		return errors.New("the hub did not answer in time\nHint: --timeout gives it longer")
	}
	return fmt.Errorf("%s: %s", s.Code(), s.Message())
}

// Reason is the machine-readable reason of an error of the hub, or empty.
func Reason(err error) string {
	s, _ := status.FromError(err)
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == reason.Domain {
			return info.GetReason()
		}
	}
	return ""
}
