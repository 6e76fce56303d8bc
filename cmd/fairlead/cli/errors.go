// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// Exit codes of the CLI, besides 0.
const (
	ExitFailed      = 1
	ExitUsage       = 2   // the command line is wrong
	ExitTimeout     = 124 // as timeout(1)
	ExitInterrupted = 130 // as a shell says of SIGINT
)

// exit is an error that ends the process with a code of its own.
type exit struct {
	code int
	error
}

// Unwrap is the error.
func (e exit) Unwrap() error { return e.error }

// Usage marks an error of the command line.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return exit{ExitUsage, err}
}

// Usagef makes an error of the command line.
func Usagef(format string, args ...any) error { return Usage(fmt.Errorf(format, args...)) }

// NamespaceName reads NAMESPACE/NAME of what is called so.
func NamespaceName(text, what string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" {
		return "", "", Usagef("%q is not NAMESPACE/NAME of a %s", text, what)
	}
	return namespace, name, nil
}

// TimedOut marks an error of a wait that took too long.
func TimedOut(err error) error { return exit{ExitTimeout, err} }

// Report prints an error and gives the exit code. An interrupt is no error to
// tell a person who just caused it.
func Report(w io.Writer, err error, interrupted bool) int {
	switch {
	case err == nil:
		return 0
	case interrupted:
		return ExitInterrupted
	}
	fmt.Fprintf(w, "Error: %v\n", err)
	if own, ok := errors.AsType[exit](err); ok {
		return own.code
	}
	return ExitFailed
}

// Explain turns an error of the hub into its message, its reason and a hint.
// Other errors stay as they are.
func Explain(err error) error {
	s, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	why := Reason(err)
	switch {
	case why != "":
		return fmt.Errorf("%s [%s]%s", text(s), why, hint(hints()[why]))
	case s.Code() == codes.Unavailable && strings.Contains(s.Message(), "certificate"):
		return fmt.Errorf("what answers is not this hub: %s%s", text(s), hint("the CA in --hub-ca-file, or in the file of hubs, must be that of the hub at this address; «fairlead config set-hub» reads it again"))
	case s.Code() == codes.Unavailable:
		return fmt.Errorf("the hub does not answer: %s%s", text(s), hint("check --hub-address, and that the hub runs"))
	case s.Code() == codes.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		return TimedOut(fmt.Errorf("the hub did not answer in time%s", hint("--timeout gives it longer")))
	case s.Code() == codes.Canceled:
		return errors.New("interrupted")
	}
	return fmt.Errorf("%s: %s", s.Code(), text(s))
}

// Refuse makes an error that the CLI finds by itself look like the hub's: with a
// reason and its hint.
func Refuse(why, format string, args ...any) error {
	return fmt.Errorf("%s [%s]%s", fmt.Sprintf(format, args...), why, hint(hints()[why]))
}

// text is the message, with what a command put before it.
func text(s *status.Status) string {
	return strings.Replace(s.Message(), fmt.Sprintf("rpc error: code = %s desc = ", s.Code()), "", 1)
}

func hint(text string) string {
	if text == "" {
		return ""
	}
	return "\nHint: " + text
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
