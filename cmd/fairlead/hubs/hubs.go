// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package hubs has the commands that keep the CLI's file of hubs.
package hubs

import (
	"cmp"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
)

// Command is «fairlead config».
func Command(o *cli.Options) *cobra.Command {
	return cli.Group("config", "Keep the file of hubs that you use", list(o), setHub(o), useHub(o), removeHub(o))
}

func list(o *cli.Options) *cobra.Command {
	var form cli.Output
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"get-hubs", "ls"},
		Short:   "List the hubs that you use",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			config, err := cli.LoadConfig(o.HubsFile())
			if err != nil {
				return err
			}
			if err := kind(config.Current).To(o, &form).List(config.Contexts); err != nil {
				return err
			}
			if len(config.Contexts) == 0 {
				o.Nextf("«fairlead config set-hub NAME --hub-address HOST:PORT» saves one")
				return nil
			}
			o.Nextf("«fairlead config use-hub NAME» changes the current one")
			return nil
		},
	}
	form.Bind(o, cmd)
	return cmd
}

func kind(current string) cli.Kind[cli.Context] {
	return cli.Kind[cli.Context]{
		Name: "hub",
		ID:   func(c cli.Context) string { return c.Name },
		Columns: []cli.Column[cli.Context]{
			{Head: "CURRENT", Of: func(c cli.Context) string {
				if c.Name == current {
					return "*"
				}
				return ""
			}},
			{Head: "HUB", Of: func(c cli.Context) string { return c.Name }},
			{Head: "ADDRESS", Of: func(c cli.Context) string { return c.Address }},
			{Head: "KUBECONFIG", Of: func(c cli.Context) string { return c.Kubeconfig }},
			{Head: "CONTEXT", Of: func(c cli.Context) string { return c.KubeContext }},
		},
		Object: func(c cli.Context) (any, error) { return c, nil },
	}
}

func setHub(o *cli.Options) *cobra.Command {
	var namespace string
	cmd := &cobra.Command{
		Use:   "set-hub NAME --hub-address HOST:PORT",
		Short: "Add a hub, or change it, and use it from now on",
		Long: "Add a hub, or change it, and use it from now on. --kubeconfig and --context say who you are there.\n" +
			"The CA of its admin listener comes from --hub-ca-file, or is read from the hub's Kubernetes as you.",
		Example: "  fairlead config set-hub eu --hub-address hub.example:8444 --kubeconfig hub.kubeconfig",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Address == "" {
				return cli.Usagef("hub %q needs --hub-address", args[0])
			}
			ctx, cancel := o.Call(cmd.Context())
			defer cancel()
			ca, err := findCA(ctx, o, namespace)
			if err != nil {
				return err
			}
			hub := cli.Context{Name: args[0], Address: o.Address, CA: string(ca), KubeContext: o.KubeContext}
			if o.Kubeconfig != "" {
				if hub.Kubeconfig, err = filepath.Abs(o.Kubeconfig); err != nil {
					return fmt.Errorf("--kubeconfig: %w", err)
				}
			}
			config, err := cli.LoadConfig(o.HubsFile())
			if err != nil {
				return err
			}
			config.Put(hub)
			if err := config.Save(o.HubsFile()); err != nil {
				return err
			}
			o.Sayf("hub %s saved in %s", args[0], o.HubsFile())
			o.Nextf("«fairlead get clusters» asks it")
			return nil
		},
	}
	cmd.Flags().StringVar(&namespace, "hub-namespace", defaultNamespace, "namespace of the hub, where its CA is read")
	return cmd
}

func useHub(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "use-hub NAME",
		Short: "Use another hub of the file from now on",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return change(o, args[0], func(config *cli.Config, hub cli.Context) {
				config.Current = hub.Name
				o.Sayf("using hub %s at %s", hub.Name, hub.Address)
				o.Nextf("«fairlead get clusters» asks it")
			})
		},
		ValidArgsFunction: complete(o),
	}
}

func removeHub(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "remove-hub NAME",
		Short: "Forget a hub",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return change(o, args[0], func(config *cli.Config, hub cli.Context) {
				config.Remove(hub.Name)
				o.Sayf("hub %s removed from %s", hub.Name, o.HubsFile())
				o.Nextf("«fairlead config list» shows what is left; current: %s", cmp.Or(config.Current, "none"))
			})
		},
		ValidArgsFunction: complete(o),
	}
}

// change edits a hub of the file.
func change(o *cli.Options, name string, edit func(*cli.Config, cli.Context)) error {
	config, err := cli.LoadConfig(o.HubsFile())
	if err != nil {
		return err
	}
	hub, ok := config.Find(name)
	if !ok {
		return fmt.Errorf("%s has no hub %q\nHint: «fairlead config list» shows those it has", o.HubsFile(), name)
	}
	edit(&config, hub)
	return config.Save(o.HubsFile())
}

func complete(o *cli.Options) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		config, err := cli.LoadConfig(o.HubsFile())
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return cli.NamesOf(config.Contexts, func(c cli.Context) string { return c.Name }), cobra.ShellCompDirectiveNoFileComp
	}
}
