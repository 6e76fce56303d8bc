// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package hubs has the commands that keep the CLI's file of hubs.
package hubs

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
)

// Command is «fairlead config».
func Command(o *cli.Options) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Keep the file of hubs that you use", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(setHub(o), useHub(o))
	return cmd
}

func setHub(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "set-hub NAME --hub-address HOST:PORT --hub-ca-file FILE [--kubeconfig FILE]",
		Short: "Add a hub, or change it, and use it from now on",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if o.Address == "" || o.CAFile == "" {
				return fmt.Errorf("hub %q needs --hub-address and --hub-ca-file", args[0])
			}
			ca, err := os.ReadFile(o.CAFile)
			if err != nil {
				return fmt.Errorf("reading the hub's CA: %w", err)
			}
			config, err := cli.LoadConfig(o.ConfigFile)
			if err != nil {
				return err
			}
			config.Put(cli.Context{Name: args[0], Address: o.Address, CA: string(ca), Kubeconfig: o.Kubeconfig, KubeContext: o.KubeContext})
			if err := config.Save(o.ConfigFile); err != nil {
				return err
			}
			fmt.Fprintf(o.Out, "hub %s saved in %s\n", args[0], o.ConfigFile)
			o.Next("«fairlead get clusters» asks it")
			return nil
		},
	}
}

func useHub(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "use-hub NAME",
		Short: "Use another hub of the file from now on",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			config, err := cli.LoadConfig(o.ConfigFile)
			if err != nil {
				return err
			}
			for _, c := range config.Contexts {
				if c.Name != args[0] {
					continue
				}
				config.Current = c.Name
				if err := config.Save(o.ConfigFile); err != nil {
					return err
				}
				fmt.Fprintf(o.Out, "using hub %s at %s\n", c.Name, c.Address)
				o.Next("«fairlead get clusters» asks it")
				return nil
			}
			return fmt.Errorf("%s has no hub %q: add it with «fairlead config set-hub %s»", o.ConfigFile, args[0], args[0])
		},
	}
}
