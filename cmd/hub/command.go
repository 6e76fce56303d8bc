// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fairlead.dev/fairlead/internal/obs"
	"fairlead.dev/fairlead/internal/version"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/controller"
)

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "hub",
		Short:         "The hub of a fleet of Kubernetes clusters",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand(), versionCommand())
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

func serveCommand() *cobra.Command {
	cfg := server.Default()
	logs := logFlags{format: defaultFormat(os.Stderr)}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve agents and people",
		Long: "Serve agents and people, with everything that is known kept in the apiserver of the kubeconfig.\n" +
			"Any number of replicas may serve the same apiserver.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return err
			}
			log, err := obs.NewLogger(cmd.ErrOrStderr(), logs.format, logs.verbosity)
			if err != nil {
				return fmt.Errorf("--log-format: %w", err)
			}
			obs.RouteKubernetes(log)
			cfg.Log = log
			hub, err := server.New(cfg)
			if err != nil {
				return err
			}
			return hub.Run(cmd.Context())
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

func addFlags(f *pflag.FlagSet, cfg *server.Config) {
	f.StringVar(&cfg.Kubeconfig, "kubeconfig", cfg.Kubeconfig, "kubeconfig of the hub's apiserver; default KUBECONFIG, then in-cluster")
	f.StringVar(&cfg.Namespace, "namespace", cfg.Namespace, "namespace of the hub's own objects")
	f.StringVar(&cfg.AgentListen, "agent-listen", cfg.AgentListen, "address of the listener for agents")
	f.StringVar(&cfg.AdminListen, "admin-listen", cfg.AdminListen, "address of the listener for people and tools")
	f.StringVar(&cfg.AdvertiseAdmin, "advertise-admin-address", cfg.AdvertiseAdmin, "host:port at which other replicas of the hub reach the admin listener; default where it listens")
	f.StringVar(&cfg.HTTPListen, "http-listen", cfg.HTTPListen, "address for /metrics, /livez and /readyz; empty for none")
	f.StringVar(&cfg.WebhookListen, "webhook-listen", cfg.WebhookListen, "address at which the apiserver calls the admission webhooks of deploy/hub, as :9443; empty for none")
	f.StringVar(&cfg.WebhookCert, "webhook-cert", cfg.WebhookCert, "your own certificate of the webhooks (PEM); put its authority into the caBundle of both webhook configurations")
	f.StringVar(&cfg.WebhookKey, "webhook-key", cfg.WebhookKey, "its key (PEM)")
	f.StringSliceVar(&cfg.Endpoints, "endpoints", cfg.Endpoints, "public names or addresses (host or host:port) of the agent listener, for its certificate and for join strings")
	f.IntVar(&cfg.MaxConnectionsPerSource, "max-connections-per-source", cfg.MaxConnectionsPerSource, "connections that one IP address may have open to the agent listener; 0 for any number")
	f.StringVar(&cfg.TLSCert, "tls-cert", cfg.TLSCert, "your own server certificate (PEM, with its chain up to the root)")
	f.StringVar(&cfg.TLSKey, "tls-key", cfg.TLSKey, "its key (PEM)")
	f.StringVar(&cfg.AgentClientCA, "agent-client-ca", cfg.AgentClientCA, "your own authorities of agents' certificates (PEM)")
	f.StringVar(&cfg.AgentAuth, "agent-auth", cfg.AgentAuth, "who is served: enrollment (clusters that enrolled and were accepted) or certificate (any agent certificate of your own CA)")
	f.DurationVar(&cfg.CertificateLifetime, "certificate-lifetime", cfg.CertificateLifetime, "how long agents' certificates live")
	f.DurationVar(&cfg.MinCertificateLifetime, "min-certificate-lifetime", cfg.MinCertificateLifetime, "the least that --certificate-lifetime may be")
	f.BoolVar(&cfg.InstallCRDs, "install-crds", cfg.InstallCRDs, "install the CustomResourceDefinitions at start")
	f.StringVar(&cfg.Controllers, "controllers", cfg.Controllers, "which controllers run: * for all, name to add, -name to leave out; known: "+strings.Join(controllerNames(), ", "))
	f.Var(cfg.Gates, "feature-gates", "feature gates to turn on or off; known: "+strings.Join(cfg.Gates.Known(), ", "))
	f.StringSliceVar(&cfg.CleanUpResources, "gc-resource-list", cfg.CleanUpResources, "what is deleted, in this order, from the namespace of a cluster that leaves: group/version/resource; with feature gate ResourceCleanup")
	f.StringSliceVar(&cfg.AutoApprovalUsers, "cluster-auto-approval-users", cfg.AutoApprovalUsers, "users whose join tokens let clusters in without a pairing code; with feature gate ManagedClusterAutoApproval")
	f.BoolVar(&cfg.LeaderElect, "leader-elect", cfg.LeaderElect, "let one replica at a time run the controllers")
	f.StringToStringVar(&cfg.Labels, "labels", cfg.Labels, "labels for what is made for each cluster")
	f.StringVar(&cfg.HubID, "hub-id", cfg.HubID, "the hub's id, where it cannot be read from the apiserver (a restore); empty otherwise")
	f.StringVar(&cfg.Replica, "replica", cfg.Replica, "name of this replica; default the host name and a random part")
	f.IntVar(&cfg.ManifestLimit, "manifest-limit", cfg.ManifestLimit, "bytes that the manifests of one work may have")
	f.DurationVar(&cfg.OrphanGrace, "orphan-grace", cfg.OrphanGrace, "how long agents wait before they delete what is gone from the hub without having been deleted there")
	f.DurationVar(&cfg.ClusterLeaseRefresh, "cluster-lease-refresh", cfg.ClusterLeaseRefresh, "how often managed-cluster-lease is written while nothing changes")
	f.DurationVar(&cfg.HeartbeatInterval, "heartbeat-interval", cfg.HeartbeatInterval, "heartbeats of sessions; 0 for a third of the cluster's leaseDurationSeconds, at most 20s")
	f.DurationVar(&cfg.DrainTime, "drain-time", cfg.DrainTime, "over how long agents are asked to leave at shutdown")
}

func controllerNames() []string {
	var names []string
	for _, c := range controller.All() {
		names = append(names, c.Name)
	}
	return names
}
