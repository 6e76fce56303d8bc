// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package rpcerr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"fairlead.dev/fairlead/internal/wire/reason"
)

func TestFrom(t *testing.T) {
	resource := schema.GroupResource{Group: "g", Resource: "secrets"}
	cases := map[string]struct {
		why    string
		err    error
		code   codes.Code
		reason string
		retry  time.Duration
	}{
		"own":        {"an Error is itself, however wrapped", fmt.Errorf("x: %w", New(codes.NotFound, reason.UnknownCluster, "no")), codes.NotFound, reason.UnknownCluster, 0},
		"retry":      {"advice travels", New(codes.Unavailable, reason.HubStarting, "no").RetryIn(time.Minute), codes.Unavailable, reason.HubStarting, time.Minute},
		"cancelled":  {"the end of a context keeps its meaning", fmt.Errorf("x: %w", context.Canceled), codes.Canceled, reason.Internal, 0},
		"deadline":   {"likewise", context.DeadlineExceeded, codes.DeadlineExceeded, reason.HubOverloaded, 0},
		"throttled":  {"the apiserver's advice is passed on", apierrors.NewTooManyRequests("slow down", 7), codes.ResourceExhausted, reason.HubOverloaded, 7 * time.Second},
		"conflict":   {"may be tried again", apierrors.NewConflict(resource, "hunter2", errors.New("x")), codes.Aborted, reason.Conflict, time.Second},
		"forbidden":  {"the hub's own lack of rights is not the caller's", apierrors.NewForbidden(resource, "hunter2", errors.New("x")), codes.Internal, reason.Internal, 0},
		"grpc":       {"a broken stream", status.Error(codes.ResourceExhausted, "message too large"), codes.ResourceExhausted, reason.ProtocolError, 0},
		"garbage":    {"what does not decode is the caller's fault", status.Error(codes.Internal, "grpc: failed to unmarshal the received message: proto"), codes.InvalidArgument, reason.ProtocolError, 0},
		"everything": {"internals stay inside", errors.New("dial etcd: password=hunter2"), codes.Internal, reason.Internal, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			sent := From(tc.err).GRPCStatus().Err()
			require.Equal(t, tc.code, status.Code(sent), tc.why)
			require.Equal(t, tc.reason, ReasonOf(sent), tc.why)
			require.Equal(t, tc.retry, RetryAfterOf(sent), tc.why)
			require.NotContains(t, sent.Error(), "hunter2", "T72: no internals in what is sent")
		})
	}
	require.Nil(t, From(nil))
}

func TestT23_message_is_bounded(t *testing.T) {
	err := New(codes.Internal, reason.Internal, "%s", strings.Repeat("ä", 50<<10))
	require.LessOrEqual(t, len(err.Message), maxMessage)
	require.True(t, strings.HasSuffix(err.Message, "ä…"), "cut between characters, with a mark")
}

func TestError_cause_is_for_logs_only(t *testing.T) {
	cause := errors.New("the real thing")
	err := New(codes.Internal, reason.Internal, "sorry").Because(cause).With("cluster", "c1")
	require.ErrorIs(t, err, cause)
	require.Contains(t, err.Error(), "the real thing")
	require.NotContains(t, err.GRPCStatus().String(), "the real thing")
}
