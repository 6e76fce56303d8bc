// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster has the commands that show clusters.
package cluster

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// Get is «fairlead get clusters».
func Get(o *cli.Options) *cobra.Command {
	var form cli.Output
	var watch bool
	var selector string
	cmd := &cobra.Command{
		Use:     "clusters [NAME]",
		Aliases: []string{"cluster", "mcl"},
		Short:   "Show clusters",
		Args:    cobra.MaximumNArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			print := printer(time.Now()).To(o.Out, form)
			switch {
			case watch:
				return follow(ctx, hub, selector, print)
			case len(args) == 1:
				answer, err := hub.Clusters.GetCluster(ctx, &adminv1.GetClusterRequest{Name: args[0]})
				if err != nil {
					return err
				}
				return print.One(answer.GetCluster())
			}
			return list(ctx, o, hub, selector, print)
		}),
		ValidArgsFunction: o.Completion(cli.ClusterNames),
	}
	form.Bind(cmd.Flags())
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing changes")
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "only clusters with these labels")
	return cmd
}

func list(ctx context.Context, o *cli.Options, hub *cli.Hub, selector string, print *cli.Printer[*adminv1.ClusterInfo]) error {
	var all []*adminv1.ClusterInfo
	request := &adminv1.ListClustersRequest{LabelSelector: selector}
	for {
		answer, err := hub.Clusters.ListClusters(ctx, request)
		if err != nil {
			return err
		}
		all = append(all, answer.GetClusters()...)
		if request.PageToken = answer.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	if err := print.List(all); err != nil {
		return err
	}
	if len(all) == 0 {
		o.Next("no clusters yet: «fairlead token create CLUSTER» makes a join string for one")
		return nil
	}
	o.Next("«fairlead create work NAME --clusters CLUSTER -f FILE» sends work, «fairlead get works» shows it")
	return nil
}

func follow(ctx context.Context, hub *cli.Hub, selector string, print *cli.Printer[*adminv1.ClusterInfo]) error {
	stream, err := hub.Clusters.WatchClusters(ctx, &adminv1.WatchClustersRequest{LabelSelector: selector})
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return err
		}
		if c := event.GetUpsert(); c != nil {
			if err := print.One(c); err != nil {
				return err
			}
		}
	}
}

func printer(now time.Time) *cli.Printer[*adminv1.ClusterInfo] {
	type c = *adminv1.ClusterInfo
	return &cli.Printer[c]{
		Kind: "cluster",
		Name: c.GetName,
		Columns: []cli.Column[c]{
			{Head: "CLUSTER", Of: c.GetName},
			{Head: "ACCEPTED", Of: func(x c) string { return strconv.FormatBool(x.GetHubAccepted()) }},
			{Head: "JOINED", Of: func(x c) string { return strconv.FormatBool(x.GetJoined()) }},
			{Head: "AVAILABLE", Of: c.GetAvailable},
			{Head: "KUBERNETES", Of: c.GetKubernetesVersion},
			{Head: "CERTIFICATE", Of: func(x c) string { return cli.Until(now, x.GetCertificateExpires()) }},
			{Head: "AGE", Of: func(x c) string { return cli.Age(now, x.GetCreated()) }},
			{Head: "LAST SEEN", Wide: true, Of: func(x c) string { return cli.Age(now, x.GetLastSeen()) }},
			{Head: "MESSAGE", Wide: true, Of: c.GetMessage},
		},
		Object: func(x c) (any, error) { return cli.Message(x) },
	}
}
