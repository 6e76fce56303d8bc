// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/agent"
)

func TestFlags(t *testing.T) {
	t.Run("MW-75_flags_of_OCM", func(t *testing.T) {
		flags, cfg := pflag.NewFlagSet("", pflag.ContinueOnError), agent.Default()
		addFlags(flags, &cfg)
		for name, want := range map[string]string{
			"workload-agent-workers": "10", "status-sync-interval": "10s", "kube-api-qps": "50", "kube-api-burst": "100",
			"max-json-raw-length": "1024", "max-feedback-watch": "50", "max-custom-cluster-claims": "20",
		} {
			flag := flags.Lookup(name)
			require.NotNil(t, flag, name)
			require.Equal(t, want, flag.DefValue, name)
		}
		require.NoError(t, flags.Parse([]string{"--workload-agent-workers=3", "--status-sync-interval=1m", "--feature-gates=ExecutorValidatingCaches=true,RawFeedbackJsonString=true", "--max-json-raw-length=2048"}))
		require.Equal(t, 3, cfg.WorkWorkers)
		require.True(t, cfg.Gates.Enabled("ExecutorValidatingCaches"))
		require.Empty(t, cfg.Gates.Unheeded("ExecutorValidatingCaches", "RawFeedbackJsonString"))
		require.True(t, cfg.Gates.Enabled("RawFeedbackJsonString"), "MW-41")
		require.Equal(t, 2048, cfg.MaxJSONRawLength)
		require.NoError(t, cfg.Validate())
		cfg.WorkWorkers = 0
		require.ErrorContains(t, cfg.Validate(), "--workload-agent-workers=0")
	})
}
