// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
)

// places are the clusters that a change is for.
type places []string

// bind adds --clusters, also as --cluster and -c.
func (p *places) bind(o *cli.Options, cmd *cobra.Command, usage string) {
	flags := cmd.Flags()
	flags.StringSliceVarP((*[]string)(p), "clusters", "c", nil, usage)
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "cluster" {
			name = "clusters"
		}
		return pflag.NormalizedName(name)
	})
	o.CompleteFlag(cmd, "clusters", cli.ClusterNames)
}

// each calls f for every cluster, whatever happened at the others, and returns
// all errors, each under its cluster's name.
func (p *places) each(f func(cluster string) error) error {
	var problems []error
	for _, cluster := range *p {
		if err := f(cluster); err != nil {
			problems = append(problems, fmt.Errorf("cluster %s: %w", cluster, cli.Explain(err)))
		}
	}
	return errors.Join(problems...)
}
