// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package aside_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"fairlead.dev/fairlead/internal/aside"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCall(t *testing.T) {
	result, err := aside.Call(func() (int, error) { return 7, io.EOF })
	require.Equal(t, 7, result)
	require.ErrorIs(t, err, io.EOF)
}

func TestPanicsGoOnInTheCaller(t *testing.T) {
	defer func() {
		value := recover()
		require.Contains(t, value, "oh dear")
		require.Contains(t, value, "TestPanicsGoOnInTheCaller", "where it was raised")
	}()
	_, _ = aside.Call(func() (int, error) { panic("oh dear") }) //nolint:forbidigo // what is tested
	require.Fail(t, "the panic was swallowed")
}
