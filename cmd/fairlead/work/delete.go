// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// Delete is «fairlead delete work».
func Delete(o *cli.Options) *cobra.Command {
	var clusters places
	var wait bool
	cmd := &cobra.Command{
		Use:     "work NAME --clusters CLUSTER[,CLUSTER]",
		Aliases: []string{"works"},
		Short:   "Delete a work and what it applied",
		Example: "  fairlead delete work web --clusters eu-1,eu-2\n  fairlead delete work eu-1/web",
		Args:    cobra.ExactArgs(1),
		RunE: o.RunLong(func(ctx context.Context, hub *cli.Hub, args []string) error {
			where, err := refOf("", args)
			if err != nil {
				return err
			}
			if where.cluster != "" {
				clusters = append(clusters, where.cluster)
			}
			if len(clusters) == 0 {
				return cli.Usagef("say where: --clusters is needed, or CLUSTER/NAME")
			}
			if err := clusters.each(func(cluster string) error { return remove(ctx, o, hub, ref{cluster, where.name}) }); err != nil {
				return err
			}
			if !wait {
				o.Nextf("«fairlead get works %s» shows it until the spoke is clean", where.name)
				return nil
			}
			if err := waitGone(ctx, o, hub, clusters, where.name); err != nil {
				return err
			}
			o.Nextf("«fairlead get works» shows what is left")
			return nil
		}),
		ValidArgsFunction: o.Complete(names),
	}
	clusters.bind(o, cmd, "clusters to delete it from")
	bindWait(o, cmd.Flags(), &wait, "wait until the spokes are clean and it is gone")
	return cmd
}

func remove(ctx context.Context, o *cli.Options, hub *cli.Hub, work ref) error {
	ctx, cancel := o.Call(ctx)
	defer cancel()
	if _, err := hub.Works.DeleteWork(ctx, &adminv1.DeleteWorkRequest{ClusterName: work.cluster, Name: work.name}); err != nil {
		return err
	}
	o.Sayf("work %s is being deleted", work)
	return nil
}

func waitGone(ctx context.Context, o *cli.Options, hub *cli.Hub, clusters []string, name string) error {
	bounded, cancel := o.Wait(ctx)
	defer cancel()
	for _, cluster := range clusters {
		work := ref{cluster, name}
		there := false
		err := follow(bounded, o, hub, goal{work, "gone"}, func(e cli.Event[*shown]) (string, bool) {
			switch {
			case e.Anew:
				there = false
			case e.Upsert != nil:
				there = true
				return (*e.Upsert).message(), false
			}
			return "", e.Removed != "" || (e.Synced && !there)
		})
		if err != nil {
			return late(ctx, hub, work, err)
		}
		o.Sayf("work %s is gone", work)
	}
	return nil
}
