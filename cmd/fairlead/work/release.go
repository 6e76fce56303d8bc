// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

type batch = *adminv1.HeldBatch

// Release is «fairlead release».
func Release(o *cli.Options) *cobra.Command {
	var form cli.Output
	cmd := &cobra.Command{
		Use:   "release CLUSTER [BATCH]",
		Short: "Show what a cluster's agent would delete but holds, and release a batch of it",
		Long: "An agent holds deletes that it cannot be sure of: after the hub was restored from a backup, or when\n" +
			"many works are suddenly missing. Without BATCH they are listed; with it, exactly those objects are deleted.\n" +
			"What no work of this hub has taken over, such as another hub's, is listed too; it goes only by a person on the spoke.",
		Args: cobra.RangeArgs(1, 2),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			if len(args) == 2 {
				return release(ctx, o, hub, args[0], args[1])
			}
			held, err := batches(ctx, hub, args[0])
			if err != nil {
				return err
			}
			if err := batchKind(o).To(o, &form).List(held); err != nil {
				return err
			}
			if len(held) == 0 {
				o.Nextf("%s holds no deletes: nothing is to be done", args[0])
				return nil
			}
			o.Nextf("%s", whatNext(args[0], held))
			return nil
		}),
		ValidArgsFunction: o.Complete(cli.ClusterNames, func(ctx context.Context, hub *cli.Hub, args []string) ([]string, error) {
			held, err := batches(ctx, hub, args[0])
			return cli.NamesOf(slices.DeleteFunc(held, batch.GetOnSpoke), batch.GetBatchId), err
		}),
	}
	form.Bind(o, cmd)
	return cmd
}

// whatNext says how the first batch is released, of those that the hub can release
// if there is one.
func whatNext(cluster string, held []batch) string {
	first := held[0]
	if i := slices.IndexFunc(held, func(b batch) bool { return !b.GetOnSpoke() }); i >= 0 {
		first = held[i]
	}
	if first.GetOnSpoke() && len(first.GetNames()) > 0 {
		return fmt.Sprintf("batch %s is the spoke's to release; if what these AppliedManifestWorks list is really meant to go, there: «kubectl delete appliedmanifestwork %s»",
			first.GetBatchId(), first.GetNames()[0])
	}
	return fmt.Sprintf("if the works of batch %s are really meant to go: «fairlead release %s %s»", first.GetBatchId(), cluster, first.GetBatchId())
}

func batches(ctx context.Context, hub *cli.Hub, cluster string) ([]batch, error) {
	answer, err := hub.Works.ListHeldDeletes(ctx, &adminv1.ListHeldDeletesRequest{ClusterName: cluster})
	return answer.GetBatches(), err
}

func release(ctx context.Context, o *cli.Options, hub *cli.Hub, cluster, id string) error {
	if _, err := hub.Works.ReleaseHeldDeletes(ctx, &adminv1.ReleaseHeldDeletesRequest{ClusterName: cluster, BatchId: id}); err != nil {
		return err
	}
	o.Sayf("batch %s of %s released", id, cluster)
	o.Nextf("«fairlead release %s» shows what is held still; of works that the hub still has, «fairlead get works -c %s» shows the rest", cluster, cluster)
	return nil
}

func batchKind(o *cli.Options) cli.Kind[batch] {
	return cli.Kind[batch]{
		Name: "batch",
		ID:   batch.GetBatchId,
		Columns: []cli.Column[batch]{
			{Head: "BATCH", Of: batch.GetBatchId},
			{Head: "WHY", Of: batch.GetReason},
			{Head: "SINCE", Clock: true, Of: func(b batch) string { return o.Age(b.GetSince()) }},
			{Head: "COUNT", Of: func(b batch) string { return strconv.Itoa(len(b.GetNames())) }},
			{Head: "WORKS", Of: func(b batch) string { return strings.Join(b.GetNames(), ",") }},
		},
		Object: func(b batch) (any, error) { return cli.Message(b) },
	}
}
