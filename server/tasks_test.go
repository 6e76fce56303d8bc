// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTasks(t *testing.T) {
	boom := errors.New("boom")
	until := task{"waits", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	cases := map[string]struct {
		reason string
		tasks  []task
		want   string
	}{
		"first error ends all": {"others are cancelled", []task{until, {"breaks", func(context.Context) error { return boom }}}, "breaks: boom"},
		"panic":                {"a panic is an error with a stack", []task{until, {"panics", func(context.Context) error { panic("ouch") }}}, "panics panicked: ouch"}, //nolint:forbidigo // what is tested
		"own cancellation": {"a task's own cancelled context is a failure of that task", []task{until, {"confused", func(context.Context) error {
			return context.Canceled
		}}}, "confused: context canceled"},
		"the end":  {"the end of the context is no error", []task{until, until}, ""},
		"one-shot": {"a task may simply be done", []task{until, {"done", func(context.Context) error { return nil }}}, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := runTasks(ctx, tc.tasks)
				if tc.want == "" {
					require.NoError(t, err, tc.reason)
					return
				}
				require.ErrorContains(t, err, tc.want, tc.reason)
			})
		})
	}
}
