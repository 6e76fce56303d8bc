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
	t.Run("RA-01_flags_of_OCM_that_are_kept_and_values_that_end_the_agent", func(t *testing.T) {
		flags, cfg := pflag.NewFlagSet("", pflag.ContinueOnError), agent.Default()
		addFlags(flags, &cfg)
		for name, want := range map[string]string{"spoke-kubeconfig": "", "agent-id": "", "cluster-name": "", "join-file": "", "cluster-healthcheck-period": "1m0s"} {
			require.NotNil(t, flags.Lookup(name), name)
			require.Equal(t, want, flags.Lookup(name).DefValue, name)
		}
		for args, want := range map[string]string{
			"--cluster-healthcheck-period=0s": "--cluster-healthcheck-period=0s: want more than 0", "--cluster-healthcheck-period=soon": "invalid argument",
			"--agent-id=A_B": "--agent-id", "--cluster-name=Not.A.Name": "--cluster-name", "--store=memory": `--store="memory"`,
			"--spoke-kubeconfig=/nowhere": "/nowhere", "--bootstrap-kubeconfig=x": "unknown flag: --bootstrap-kubeconfig",
		} {
			require.ErrorContains(t, run(t, args), want)
		}
	})
	t.Run("RA-55_no_URL_of_the_spoke_without_https", func(t *testing.T) {
		require.ErrorContains(t, run(t, "--spoke-external-server-urls=http://spoke.example.com"), "unknown flag: --spoke-external-server-urls")
	})
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

// run is «agent run» with one flag, which has to be the end of it.
func run(t *testing.T, flag string) error {
	t.Helper()
	cmd := command()
	cmd.SetArgs([]string{"run", flag})
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	return cmd.ExecuteContext(t.Context())
}
