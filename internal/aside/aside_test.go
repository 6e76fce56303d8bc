// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package aside_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/internal/aside"
)

func TestDo(t *testing.T) {
	done := false
	aside.Do(func() { done = true })
	require.True(t, done, "it has returned by now")
}

func TestPanicsGoOnInTheCaller(t *testing.T) {
	defer func() {
		value := recover()
		require.Contains(t, value, "oh dear")
		require.Contains(t, value, "TestPanicsGoOnInTheCaller", "where it was raised")
	}()
	aside.Do(func() { panic("oh dear") }) //nolint:forbidigo // what is tested
	require.Fail(t, "the panic was swallowed")
}
