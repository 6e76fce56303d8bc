// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cli is what every command of the fairlead CLI shares: finding and
// calling the hub's admin listener as the person of a kubeconfig, printing, and
// turning errors into what to do next. It knows no command.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// Options are the flags that every command has. The zero value and Bind give
// the defaults.
type Options struct {
	ConfigFile  string
	ContextName string
	Address     string
	CAFile      string
	Kubeconfig  string
	KubeContext string
	Account     string
	Timeout     time.Duration

	Out io.Writer // results
	Err io.Writer // progress, hints, what to do next
}

// Bind adds the shared flags.
func (o *Options) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.ConfigFile, "config", defaultConfigFile(), "file with the hubs you use, as contexts (env FAIRLEAD_CONFIG)")
	flags.StringVar(&o.ContextName, "hub-context", "", "context of the config file to use (default: its current one)")
	flags.StringVar(&o.Address, "hub-address", "", "host:port of the hub's admin listener")
	flags.StringVar(&o.CAFile, "hub-ca-file", "", "file with the CA certificate of the hub's admin listener")
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "kubeconfig of the hub's Kubernetes: who you are (default: as kubectl finds it)")
	flags.StringVar(&o.KubeContext, "context", "", "context of the kubeconfig")
	flags.StringVar(&o.Account, "service-account", "open-cluster-management-hub/fairlead-admin", "namespace/name of the ServiceAccount to act as when the kubeconfig has a certificate and no token")
	flags.DurationVar(&o.Timeout, "timeout", 30*time.Second, "how long one call may take")
}

// Hub is a connection to the hub's admin listener, authenticated as a person.
type Hub struct {
	Enrollments adminv1.EnrollmentAdminServiceClient
	Clusters    adminv1.ClusterAdminServiceClient
	Works       adminv1.WorkAdminServiceClient

	conn *grpc.ClientConn
}

// Close ends the connection.
func (h *Hub) Close() error { return h.conn.Close() }

// Run makes a cobra RunE of a function that needs a hub: it connects, bounds
// the call by --timeout unless the command watches, and explains errors.
func (o *Options) Run(f func(ctx context.Context, hub *Hub, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		if watches, err := cmd.Flags().GetBool("watch"); err != nil || !watches {
			bounded, cancel := context.WithTimeout(ctx, o.Timeout)
			defer cancel()
			ctx = bounded
		}
		hub, err := o.Dial(ctx)
		if err != nil {
			return err
		}
		return errors.Join(Explain(f(ctx, hub, args)), hub.Close())
	}
}

// Next tells what to do next, on the error stream so that output can be piped.
func (o *Options) Next(format string, args ...any) {
	fmt.Fprintf(o.Err, "Next: "+format+"\n", args...)
}

// Completion offers live names for arguments: list is asked of the hub with a
// short limit, and a hub that does not answer offers none.
func (o *Options) Completion(list func(context.Context, *Hub) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
		defer cancel()
		hub, err := o.Dial(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names, err := list(ctx, hub)
		if err := errors.Join(err, hub.Close()); err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// ClusterNames lists clusters, for completion.
func ClusterNames(ctx context.Context, hub *Hub) ([]string, error) {
	answer, err := hub.Clusters.ListClusters(ctx, &adminv1.ListClustersRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range answer.GetClusters() {
		names = append(names, c.GetName())
	}
	return names, nil
}

// Streams sets the standard streams.
func (o *Options) Streams() { o.Out, o.Err = os.Stdout, os.Stderr }
