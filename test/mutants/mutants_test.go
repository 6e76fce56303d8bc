// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryGuardIsThere: whoever changes a guarded line changes the list too, and
// runs «make mutants» for it.
func TestEveryGuardIsThere(t *testing.T) {
	names := map[string]bool{}
	for _, m := range all() {
		_, err := m.source("../..")
		require.NoError(t, err, m.name)
		require.NotEqual(t, m.old, m.new, m.name)
		require.NotEmpty(t, m.tests, m.name)
		require.NotEmpty(t, m.rule, m.name)
		require.False(t, names[m.name], "%s is listed twice", m.name)
		names[m.name] = true
	}
	require.GreaterOrEqual(t, len(names), 25)
}

func TestRedOf(t *testing.T) {
	for want, out := range map[string]string{
		"TestA/b/c":         "--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/b (0.00s)\n        --- FAIL: TestA/b/c (0.00s)\n--- FAIL: TestZ (0.00s)\n",
		"a test that hangs": "panic: test timed out after 5m0s\n",
		"a crash: exit 2":   "exit 2",
	} {
		require.Equal(t, want, redOf(out))
	}
}
