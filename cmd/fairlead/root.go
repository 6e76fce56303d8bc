// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	"fairlead.dev/fairlead/cmd/fairlead/cluster"
	"fairlead.dev/fairlead/cmd/fairlead/enrollment"
	"fairlead.dev/fairlead/cmd/fairlead/hubs"
	"fairlead.dev/fairlead/cmd/fairlead/join"
	"fairlead.dev/fairlead/cmd/fairlead/session"
	"fairlead.dev/fairlead/cmd/fairlead/token"
	"fairlead.dev/fairlead/cmd/fairlead/work"
	"fairlead.dev/fairlead/internal/version"
)

// newRoot lists every command of the CLI.
func newRoot(o *cli.Options) *cobra.Command {
	root := &cobra.Command{
		Use:           "fairlead",
		Short:         "Register Kubernetes clusters with a hub, and send work to them",
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(o.Out)
	root.SetErr(o.Err)
	o.Bind(root.PersistentFlags())
	root.AddCommand(
		token.Command(o),
		join.Command(o),
		enrollment.Accept(o),
		enrollment.Deny(o),
		group("get", "Show clusters, works, enrollments or sessions", cluster.Get(o), work.Get(o), enrollment.Get(o), session.Get(o)),
		group("create", "Create a work", work.Create(o)),
		group("delete", "Delete a work", work.Delete(o)),
		group("explain", "Say where a work stands, and why", work.Explain(o)),
		session.Kick(o),
		work.Release(o),
		hubs.Command(o),
		versionCommand(o),
	)
	return root
}

func group(verb, short string, nouns ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: verb, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(nouns...)
	return cmd
}

func versionCommand(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.Println("fairlead " + version.String())
			o.Next("«fairlead get clusters» shows the clusters of your hub")
			return nil
		},
	}
}
