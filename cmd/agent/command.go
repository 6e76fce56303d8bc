// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fairlead.dev/fairlead/agent"
	"fairlead.dev/fairlead/internal/obs"
	"fairlead.dev/fairlead/internal/version"
)

// joinVariable is where a join string comes from that is not to be seen in the
// list of processes.
const joinVariable = "FAIRLEAD_JOIN"

// proxyVariable is where a proxy's URL comes from that has a password.
const proxyVariable = "FAIRLEAD_PROXY_URL"

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "agent",
		Short:         "The agent of one Kubernetes cluster in a fleet",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(runCommand(), versionCommand())
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print which build this is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version.Get())
			return err
		},
	}
}

func runCommand() *cobra.Command {
	cfg := agent.Default()
	logs := logFlags{format: defaultFormat(os.Stderr)}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent of this cluster",
		Long: "Run the agent of this cluster: keep a session with the hub, and what the hub delivered in place.\n" +
			"The first time it needs a join string of the hub (--join or " + joinVariable + "), or a certificate of its own\n" +
			"(--hub, --hub-ca, --client-cert, --client-key, --cluster-name). What it may do here is decided by the rights\n" +
			"that this cluster gives it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := obs.NewLogger(cmd.ErrOrStderr(), logs.format, logs.verbosity)
			if err != nil {
				return fmt.Errorf("--log-format: %w", err)
			}
			obs.RouteKubernetes(log)
			cfg.Log = log
			if cfg.Join == "" && cfg.JoinFile == "" && cfg.ClientCert == "" {
				cfg.Join = os.Getenv(joinVariable)
			}
			cfg.ProxyURL = cmp.Or(cfg.ProxyURL, os.Getenv(proxyVariable))
			a, err := agent.New(cfg)
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
	logs.add(cmd.Flags())
	addFlags(cmd.Flags(), &cfg)
	return cmd
}

type logFlags struct {
	format    string
	verbosity int
}

func (l *logFlags) add(flags *pflag.FlagSet) {
	flags.IntVarP(&l.verbosity, "v", "v", l.verbosity, "verbosity: 0 what changes, 1 the steps in between")
	flags.StringVar(&l.format, "log-format", l.format, strings.Join(obs.Formats(), " or ")+"; text on a terminal by default")
}

// defaultFormat is text for people and JSON for collectors.
func defaultFormat(w io.Writer) string {
	file, ok := w.(*os.File)
	if !ok {
		return obs.FormatJSON
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return obs.FormatJSON
	}
	return obs.FormatText
}

func addFlags(f *pflag.FlagSet, cfg *agent.Config) {
	f.StringVar(&cfg.Join, "join", cfg.Join, "join string of the hub, for the first start; better in "+joinVariable)
	f.StringVar(&cfg.JoinFile, "join-file", cfg.JoinFile, "file with the join string, such as a mounted Secret; it need not be there yet, and another one is used at once")
	f.StringSliceVar(&cfg.Endpoints, "hub", cfg.Endpoints, "host:port of the hub's agent listener, for an agent with its own certificate; may be repeated")
	f.StringVar(&cfg.HubCA, "hub-ca", cfg.HubCA, "certificates (PEM) that verify the hub, for an agent with its own certificate")
	f.StringVar(&cfg.ClientCert, "client-cert", cfg.ClientCert, "the agent's own certificate (PEM, with its chain); read again when it is replaced")
	f.StringVar(&cfg.ClientKey, "client-key", cfg.ClientKey, "its key (PEM)")
	f.StringVar(&cfg.ProxyURL, "proxy-url", cfg.ProxyURL, "proxy on the way to the hub: http:// or https://[USER:PASSWORD@]HOST:PORT, or direct; with a password better in "+proxyVariable+"; default what HTTPS_PROXY and NO_PROXY say")
	f.StringVar(&cfg.ProxyCAFile, "proxy-ca-file", cfg.ProxyCAFile, "certificates (PEM) that verify an https:// proxy, besides the system's; read again when they are replaced")
	f.StringVar(&cfg.ClusterName, "cluster-name", cfg.ClusterName, "name of this cluster on the hub; default that of the join string")
	f.StringVar(&cfg.Kubeconfig, "spoke-kubeconfig", cfg.Kubeconfig, "kubeconfig of this cluster; default KUBECONFIG, then in-cluster")
	f.StringVar(&cfg.Namespace, "namespace", cfg.Namespace, "namespace of the agent's own objects")
	f.StringVar(&cfg.Store, "store", cfg.Store, "where received works and credentials are kept: secrets (in --namespace), files (in --data-dir), or auto (files if --data-dir is set)")
	f.StringVar(&cfg.DataDir, "data-dir", cfg.DataDir, "folder of --store=files")
	f.BoolVar(&cfg.InstallCRDs, "install-crds", cfg.InstallCRDs, "install the CustomResourceDefinitions that the agent needs")
	f.StringVar(&cfg.AgentID, "agent-id", cfg.AgentID, "marks the AppliedManifestWorks of this agent, and is kept when it moves to another hub; default the hash of the hub's id")
	f.DurationVar(&cfg.StatusSyncInterval, "status-sync-interval", cfg.StatusSyncInterval, "how often objects are looked at that cannot be watched")
	f.IntVar(&cfg.WorkWorkers, "workload-agent-workers", cfg.WorkWorkers, "how many works are reconciled at once")
	f.Float64Var(&cfg.MaxDeleteRate, "max-delete-rate", cfg.MaxDeleteRate, "how many works a second begin to be deleted here, at most; 0 for no limit")
	f.IntVar(&cfg.MaxJSONRawLength, "max-json-raw-length", cfg.MaxJSONRawLength, "bytes of JSON that one value of feedback may have, with feature gate RawFeedbackJsonString")
	f.IntVar(&cfg.MaxFeedbackWatch, "max-feedback-watch", cfg.MaxFeedbackWatch, "accepted and without effect: everything that was applied is watched")
	f.DurationVar(&cfg.EvictionGrace, "appliedmanifestwork-eviction-grace-period", cfg.EvictionGrace, "how long the agent waits, at least, before it deletes or gives up what is gone from the hub without having been deleted there; 876000h (100 years) or more is never")
	f.StringVar(&cfg.OnDetach, "on-detach", cfg.OnDetach, "what becomes of workloads once the hub has removed this cluster: "+agent.OnDetachKeep+" or "+agent.OnDetachDelete)
	f.DurationVar(&cfg.ClusterPeriod, "cluster-healthcheck-period", cfg.ClusterPeriod, "how often this cluster's health, version and claims are looked at")
	f.IntVar(&cfg.MaxClaims, "max-custom-cluster-claims", cfg.MaxClaims, "how many claims with names that are not reserved are reported to the hub, the first by name")
	f.StringSliceVar(&cfg.ReservedClaimSuffixes, "reserved-cluster-claim-suffixes", cfg.ReservedClaimSuffixes, "ends of claims' names that are reserved, too; may be repeated")
	f.Var(cfg.Gates, "feature-gates", "feature gates to turn on or off; known: "+strings.Join(cfg.Gates.Known(), ", "))
	f.StringVar(&cfg.Controllers, "controllers", cfg.Controllers, "which controllers run: * for all, name to add, -name to leave out; known: "+agent.ControllerCluster+", "+agent.ControllerWork)
	f.Float32Var(&cfg.QPS, "kube-api-qps", cfg.QPS, "requests a second to this cluster's apiserver for works; negative for no limit")
	f.IntVar(&cfg.Burst, "kube-api-burst", cfg.Burst, "how many requests may come at once")
	f.StringVar(&cfg.HTTPListen, "http-listen", cfg.HTTPListen, "address for /metrics, /livez and /readyz; empty for none")
}
