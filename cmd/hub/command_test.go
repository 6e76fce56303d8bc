// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCommand(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   []string
		out    []string
		err    []string
	}{
		"version":        {"which build", []string{"version"}, []string{"fairlead "}, nil},
		"help":           {"flags and what is known", []string{"serve", "--help"}, []string{"--agent-listen", "registration, enrollment, lease", "ResourceCleanup=true"}, nil},
		"unknown flag":   {"named", []string{"serve", "--nope"}, nil, []string{"--nope"}},
		"FG-21":          {"an unknown gate ends the program", []string{"serve", "--feature-gates=Nope=true"}, nil, []string{"Nope", "known gates"}},
		"bad value":      {"flag, value, what is allowed", []string{"serve", "--agent-auth=x"}, nil, []string{"--agent-auth", `"x"`, "enrollment or certificate"}},
		"bad log format": {"likewise", []string{"serve", "--log-format=xml"}, nil, []string{"--log-format", "xml", "text, json"}},
		"kubeconfig":     {"a missing file is named", []string{"serve", "--kubeconfig=/does/not/exist"}, nil, []string{"--kubeconfig", "/does/not/exist"}},
		"arguments":      {"there are none", []string{"serve", "x"}, nil, []string{"x"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			cmd := command()
			cmd.SetArgs(tc.args)
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			err := cmd.ExecuteContext(t.Context())
			for _, part := range tc.out {
				require.Contains(t, out.String(), part, tc.reason)
			}
			if tc.err == nil {
				require.NoError(t, err, tc.reason)
			}
			for _, part := range tc.err {
				require.ErrorContains(t, err, part, tc.reason)
			}
		})
	}
}
