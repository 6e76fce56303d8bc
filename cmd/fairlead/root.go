// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	"fairlead.dev/fairlead/cmd/fairlead/cluster"
	"fairlead.dev/fairlead/cmd/fairlead/enrollment"
	"fairlead.dev/fairlead/cmd/fairlead/hubs"
	"fairlead.dev/fairlead/cmd/fairlead/join"
	"fairlead.dev/fairlead/cmd/fairlead/placement"
	"fairlead.dev/fairlead/cmd/fairlead/replicaset"
	"fairlead.dev/fairlead/cmd/fairlead/session"
	"fairlead.dev/fairlead/cmd/fairlead/token"
	"fairlead.dev/fairlead/cmd/fairlead/work"
	"fairlead.dev/fairlead/internal/version"
)

// newRoot lists every command of the CLI.
func newRoot(o *cli.Options) *cobra.Command {
	root := cli.Group("fairlead", "Register Kubernetes clusters with a hub, and send work to them",
		token.Command(o),
		join.Command(o),
		join.Unjoin(o),
		enrollment.Accept(o),
		enrollment.Deny(o),
		cli.Group("get", "Show clusters, works, enrollments or sessions", cluster.Get(o), work.Get(o), enrollment.Get(o), session.Get(o)),
		cli.Group("create", "Create a work", work.Create(o)),
		cli.Group("delete", "Delete a work, or remove a cluster", work.Delete(o), cluster.Delete(o)),
		cli.Group("explain", "Say where a work, a cluster or a replica set stands, or how a placement chooses, and why", work.Explain(o), cluster.Explain(o), placement.Explain(o), replicaset.Explain(o)),
		session.Kick(o),
		cluster.Revoke(o),
		work.Release(o),
		hubs.Command(o),
		versionCommand(o),
	)
	root.Version = version.Get().String()
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetOut(o.Out)
	root.SetErr(o.Err)
	o.Bind(root.PersistentFlags())
	root.SetFlagErrorFunc(misused)
	markUsage(root)
	return root
}

// markUsage makes wrong arguments of every command errors of usage.
func markUsage(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return misused(cmd, check(cmd, args)) }
	}
	for _, child := range cmd.Commands() {
		markUsage(child)
	}
}

// misused says what a command takes, and which one may have been meant.
func misused(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	hint := fmt.Sprintf("«%s --help» says more", cmd.CommandPath())
	if _, typed, found := strings.Cut(err.Error(), "unknown command \""); found {
		typed, _, _ = strings.Cut(typed, "\"")
		if near := cmd.SuggestionsFor(typed); len(near) > 0 {
			hint = fmt.Sprintf("did you mean «%s %s»?", cmd.CommandPath(), near[0])
		}
	}
	usage := strings.TrimSuffix(cmd.UseLine(), " [flags]")
	if cmd.HasSubCommands() {
		usage += " COMMAND"
	}
	return cli.Usagef("%w\nUsage: %s\nHint: %s", err, usage, hint)
}

// calledAs makes the CLI what its file is called: a plugin of kubectl, or what
// kubectl asks for a plugin's completions.
func calledAs(root *cobra.Command, name string, args []string) []string {
	switch name {
	case "kubectl-fairlead":
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl fairlead"}
	case "kubectl_complete-fairlead":
		return append([]string{cobra.ShellCompRequestCmd}, args...)
	}
	return args
}

func versionCommand(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			o.Sayf("%s", version.Get())
			o.Nextf("«fairlead get clusters» shows the clusters of your hub")
			return nil
		},
	}
}
