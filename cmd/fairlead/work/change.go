// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// Delete is «fairlead delete work».
func Delete(o *cli.Options) *cobra.Command {
	var clusters []string
	cmd := &cobra.Command{
		Use:   "work NAME --clusters CLUSTER[,CLUSTER]",
		Short: "Delete a work and what it applied",
		Args:  cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			if len(clusters) == 0 {
				return errors.New("say where: --clusters is needed")
			}
			for _, cluster := range clusters {
				if _, err := hub.Works.DeleteWork(ctx, &adminv1.DeleteWorkRequest{ClusterName: cluster, Name: args[0]}); err != nil {
					return fmt.Errorf("cluster %s: %w", cluster, cli.Explain(err))
				}
				fmt.Fprintf(o.Out, "work %s/%s is being deleted\n", cluster, args[0])
			}
			o.Next("«fairlead get works %s» shows it until the spoke is clean", args[0])
			return nil
		}),
		ValidArgsFunction: o.Completion(names),
	}
	cmd.Flags().StringSliceVar(&clusters, "clusters", nil, "clusters to delete it from")
	return cmd
}

// Release is «fairlead release».
func Release(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "release CLUSTER [BATCH]",
		Short: "Show what a cluster's agent would delete but holds, and release a batch of it",
		Long: "An agent holds deletes that it cannot be sure of: after the hub was restored from a backup, or when\n" +
			"many works are suddenly missing. Without BATCH they are listed; with it, exactly those objects are deleted.",
		Args: cobra.RangeArgs(1, 2),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			if len(args) == 2 {
				if _, err := hub.Works.ReleaseHeldDeletes(ctx, &adminv1.ReleaseHeldDeletesRequest{ClusterName: args[0], BatchId: args[1]}); err != nil {
					return err
				}
				fmt.Fprintf(o.Out, "batch %s of %s released\n", args[1], args[0])
				o.Next("«fairlead release %s» shows what is held still", args[0])
				return nil
			}
			answer, err := hub.Works.ListHeldDeletes(ctx, &adminv1.ListHeldDeletesRequest{ClusterName: args[0]})
			if err != nil {
				return err
			}
			return showHeld(o, args[0], answer.GetBatches())
		}),
		ValidArgsFunction: o.Completion(cli.ClusterNames),
	}
}

func showHeld(o *cli.Options, cluster string, batches []*adminv1.HeldBatch) error {
	if len(batches) == 0 {
		fmt.Fprintf(o.Out, "%s holds no deletes\n", cluster)
		o.Next("nothing to do")
		return nil
	}
	now := time.Now()
	print := &cli.Printer[*adminv1.HeldBatch]{
		Kind: "batch",
		Name: (*adminv1.HeldBatch).GetBatchId,
		Columns: []cli.Column[*adminv1.HeldBatch]{
			{Head: "BATCH", Of: (*adminv1.HeldBatch).GetBatchId},
			{Head: "WHY", Of: (*adminv1.HeldBatch).GetReason},
			{Head: "SINCE", Of: func(b *adminv1.HeldBatch) string { return cli.Age(now, b.GetSince()) }},
			{Head: "WORKS", Of: func(b *adminv1.HeldBatch) string { return strings.Join(b.GetNames(), ",") }},
		},
	}
	if err := print.To(o.Out, cli.Table).List(batches); err != nil {
		return err
	}
	o.Next("if these works are really meant to go: «fairlead release %s BATCH»", cluster)
	return nil
}

// Explain is «fairlead explain work».
func Explain(o *cli.Options) *cobra.Command {
	request := &adminv1.ExplainDeliveryRequest{}
	var form cli.Output
	cmd := &cobra.Command{
		Use:   "work NAME --cluster CLUSTER",
		Short: "Say where a work stands on its way to a cluster and back, and why",
		Args:  cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			request.Name = args[0]
			if cluster, name, ok := strings.Cut(args[0], "/"); ok {
				request.ClusterName, request.Name = cluster, name
			}
			if request.GetClusterName() == "" {
				return errors.New("say of which cluster: --cluster, or CLUSTER/NAME")
			}
			answer, err := hub.Works.ExplainDelivery(ctx, request)
			if err != nil {
				return err
			}
			if form == cli.JSON || form == cli.YAML {
				print := &cli.Printer[*adminv1.ExplainDeliveryResponse]{Object: func(a *adminv1.ExplainDeliveryResponse) (any, error) { return cli.Message(a) }}
				return print.To(o.Out, form).One(answer)
			}
			return showExplanation(o, answer)
		}),
		ValidArgsFunction: o.Completion(names),
	}
	form.Bind(cmd.Flags())
	cmd.Flags().StringVarP(&request.ClusterName, "cluster", "c", "", "the cluster")
	return cmd
}

var stopMarks = map[adminv1.StopState]string{
	adminv1.StopState_STOP_STATE_PASSED:  "ok",
	adminv1.StopState_STOP_STATE_WAITING: "waiting",
	adminv1.StopState_STOP_STATE_FAILED:  "FAILED",
	adminv1.StopState_STOP_STATE_UNKNOWN: "unknown",
}

func showExplanation(o *cli.Options, answer *adminv1.ExplainDeliveryResponse) error {
	fmt.Fprintln(o.Out, answer.GetVerdict())
	now := time.Now()
	print := &cli.Printer[*adminv1.DeliveryStop]{
		Kind: "stop",
		Name: (*adminv1.DeliveryStop).GetName,
		Columns: []cli.Column[*adminv1.DeliveryStop]{
			{Head: "STOP", Of: (*adminv1.DeliveryStop).GetName},
			{Head: "STATE", Of: func(s *adminv1.DeliveryStop) string { return stopMarks[s.GetState()] }},
			{Head: "SINCE", Of: func(s *adminv1.DeliveryStop) string { return cli.Age(now, s.GetTime()) }},
			{Head: "DETAIL", Of: (*adminv1.DeliveryStop).GetDetail},
		},
	}
	if err := print.To(o.Out, cli.Table).List(answer.GetStops()); err != nil {
		return err
	}
	for _, m := range answer.GetManifests() {
		fmt.Fprintf(o.Out, "manifest %d %s: %s\n", m.GetOrdinal(), m.GetResource(), m.GetMessage())
	}
	o.Next("«fairlead get works -w» follows it")
	return nil
}
