// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTargets: they are found, and each has a corpus in the repository.
func TestTargets(t *testing.T) {
	all, err := targets("../..")
	require.NoError(t, err)
	require.Contains(t, all, target{"internal/pki", "FuzzParseJoinString"})
	require.GreaterOrEqual(t, len(all), 15)
	for _, one := range all {
		corpus, err := os.ReadDir(filepath.Join("../..", one.dir, "testdata", "fuzz", one.name))
		require.NoError(t, err, "%s: keep some of the inputs that go test -fuzz found interesting", one)
		require.NotEmpty(t, corpus, one)
	}
}

func TestJudge(t *testing.T) {
	const ran = "fuzz: elapsed: 0s, gathering baseline coverage: 0/9 completed\nfuzz: elapsed: 3s, execs: 12 (4/sec), new interesting: 2 (total: 9)\n"
	failed := errors.New("exit status 1")
	for name, tc := range map[string]struct {
		reason, out string
		err         error
		want        verdict
	}{
		"passed": {"the last line of progress is told", ran + "PASS\n", nil, verdict{text: "execs: 12, new interesting: 2 (total: 9)"}},
		"time is up": {
			"an input that was still running is no finding",
			ran + "--- FAIL: FuzzScan (60.05s)\n    context deadline exceeded\nFAIL\nexit status 1\n", failed,
			verdict{text: "execs: 12, new interesting: 2 (total: 9)"},
		},
		"found": {
			"an input that fails is one",
			ran + "--- FAIL: FuzzScan (0.04s)\n    --- FAIL: FuzzScan (0.00s)\n        x_test.go:1: context deadline exceeded\n    \n    Failing input written to testdata/fuzz/FuzzScan/ab12\n", failed,
			verdict{failed: true, text: "FAILED (exit status 1)", input: "FuzzScan/ab12"},
		},
		"fails in the same words": {
			"a seed whose handler was too slow is a finding",
			ran + "--- FAIL: FuzzScan (0.04s)\n    --- FAIL: FuzzScan/seed#1 (0.00s)\n        context deadline exceeded\nFAIL\n", failed,
			verdict{failed: true, text: "FAILED (exit status 1)"},
		},
		"not run":        {"a pattern that fits nothing is not a success", "testing: warning: no fuzz tests to fuzz\nPASS\n", nil, verdict{failed: true, text: "nothing was run"}},
		"does not build": {"neither is this", "x.go:1: undefined: y\nFAIL\n", failed, verdict{failed: true, text: "FAILED (exit status 1)"}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, judge(tc.out, tc.err), tc.reason) })
	}
}
