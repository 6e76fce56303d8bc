// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster has the commands that show clusters and take their acceptance
// back.
package cluster

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

type info = *adminv1.ClusterInfo

// Get is «fairlead get clusters».
func Get(o *cli.Options) *cobra.Command {
	var form cli.Output
	var watch bool
	var selector string
	cmd := &cobra.Command{
		Use:     "clusters [NAME]",
		Aliases: []string{"cluster", "mcl"},
		Short:   "Show clusters",
		Example: "  fairlead get clusters -l region=eu\n  fairlead get cluster eu-1 -o json\n  fairlead get cluster eu-1 -w",
		Args:    cobra.MaximumNArgs(1),
		RunE: o.RunLong(func(ctx context.Context, hub *cli.Hub, args []string) error {
			printer := kind(o).To(o, &form)
			if watch {
				wanted := func(c info) bool { return len(args) == 0 || c.GetName() == args[0] }
				return clusters(hub, selector, wanted).Print(ctx, o, printer)
			}
			ctx, cancel := o.Call(ctx)
			defer cancel()
			if len(args) == 1 {
				return one(ctx, o, hub, args[0], printer)
			}
			return list(ctx, o, hub, selector, printer)
		}),
		ValidArgsFunction: o.Complete(cli.ClusterNames),
	}
	form.Bind(o, cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing changes")
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "only clusters with these labels")
	return cmd
}

func clusters(hub *cli.Hub, selector string, wanted func(info) bool) cli.Stream[adminv1.WatchClustersResponse, info] {
	return cli.Stream[adminv1.WatchClustersResponse, info]{
		Open: func(ctx context.Context) (grpc.ServerStreamingClient[adminv1.WatchClustersResponse], error) {
			return hub.Clusters.WatchClusters(ctx, &adminv1.WatchClustersRequest{LabelSelector: selector})
		},
		Read: func(raw *adminv1.WatchClustersResponse) (e cli.Event[info], _ error) {
			if c := raw.GetUpsert(); c != nil && wanted(c) {
				e.Upsert = &c
			}
			e.Removed, e.Synced, e.Anew = raw.GetRemoved(), raw.GetBookmark().GetInitialSyncComplete(), raw.GetReset_() != nil
			return e, nil
		},
	}
}

func one(ctx context.Context, o *cli.Options, hub *cli.Hub, name string, printer *cli.Printer[info]) error {
	answer, err := hub.Clusters.GetCluster(ctx, &adminv1.GetClusterRequest{Name: name})
	if err != nil {
		return err
	}
	c := answer.GetCluster()
	if err := printer.One(c); err != nil {
		return err
	}
	switch {
	case !c.GetHubAccepted() && c.GetJoined():
		o.Nextf("its acceptance was taken back; %s", again(name))
	case !c.GetHubAccepted():
		o.Nextf("«fairlead get enrollments» shows its pairing code, «fairlead accept %s» accepts it", name)
	case c.GetAvailable() != "True":
		o.Nextf("is its agent running? «fairlead get sessions %s» shows whether it is connected; its last word: %s", name, c.GetMessage())
	default:
		o.Nextf("«fairlead create work NAME --clusters %s -f FILE» sends work, «fairlead get works -c %s» shows it", name, name)
	}
	return nil
}

// again is how a cluster whose acceptance was taken back is let in again.
func again(name string) string {
	return fmt.Sprintf(`«kubectl patch managedcluster %s --type merge -p '{"spec":{"hubAcceptsClient":true}}'» on the hub lets it in again`, name)
}

func list(ctx context.Context, o *cli.Options, hub *cli.Hub, selector string, printer *cli.Printer[info]) error {
	all, err := cli.Pages(func(token string) ([]info, string, error) {
		answer, err := hub.Clusters.ListClusters(ctx, &adminv1.ListClustersRequest{LabelSelector: selector, PageToken: token})
		return answer.GetClusters(), answer.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	if err := printer.List(all); err != nil {
		return err
	}
	if len(all) == 0 && selector == "" {
		o.Nextf("«fairlead token create CLUSTER» makes a join string for the first one")
		return nil
	}
	o.Nextf("«fairlead create work NAME --clusters CLUSTER -f FILE» sends work, «fairlead get works» shows it")
	return nil
}

func kind(o *cli.Options) cli.Kind[info] {
	return cli.Kind[info]{
		Name: "cluster",
		ID:   info.GetName,
		Columns: []cli.Column[info]{
			{Head: "CLUSTER", Of: info.GetName},
			{Head: "ACCEPTED", Of: func(x info) string { return strconv.FormatBool(x.GetHubAccepted()) }},
			{Head: "JOINED", Of: func(x info) string { return strconv.FormatBool(x.GetJoined()) }},
			{Head: "AVAILABLE", Of: info.GetAvailable},
			{Head: "KUBERNETES", Of: info.GetKubernetesVersion},
			{Head: "CERTIFICATE", Clock: true, Of: func(x info) string { return o.Until(x.GetCertificateExpires()) }},
			{Head: "AGE", Clock: true, Of: func(x info) string { return o.Age(x.GetCreated()) }},
			{Head: "WORKS", Wide: true, Of: inSync},
			{Head: "LAST SEEN", Wide: true, Clock: true, Of: func(x info) string { return o.Age(x.GetLastSeen()) }},
			{Head: "MESSAGE", Wide: true, Of: info.GetMessage},
		},
		Object: func(x info) (any, error) { return cli.Message(x) },
	}
}

// inSync is how many of a cluster's works its agent has; only the replica that
// has the session knows.
func inSync(x info) string {
	if x.GetLastSeen() == nil {
		return fmt.Sprintf("?/%d", x.GetWorks())
	}
	return fmt.Sprintf("%d/%d", x.GetWorksInSync(), x.GetWorks())
}

// Revoke is «fairlead revoke».
func Revoke(o *cli.Options) *cobra.Command {
	request := &adminv1.RevokeClusterRequest{}
	cmd := &cobra.Command{
		Use:   "revoke CLUSTER",
		Short: "Take the acceptance of a cluster back and cut its agent off",
		Long: "Take the acceptance of a cluster back (hubAcceptsClient: false) and end its agent's session on every hub replica.\n" +
			"Its workloads stay as they are. Setting hubAcceptsClient again lets the same agent come back.",
		Args: cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			request.Name = args[0]
			answer, err := hub.Clusters.RevokeCluster(ctx, request)
			if err != nil {
				return err
			}
			o.Sayf("cluster %s revoked, sessions ended: %d", args[0], answer.GetSessionsClosed())
			if silent := answer.GetReplicasSilent(); len(silent) > 0 {
				return fmt.Errorf("hub replica %s still has the session: it did not answer within 5 s: «fairlead get sessions %s» shows when it ends", strings.Join(silent, ", "), args[0])
			}
			o.Nextf("%s; «fairlead delete cluster %s» removes it for good", again(args[0]), args[0])
			return nil
		}),
		ValidArgsFunction: o.Complete(cli.ClusterNames),
	}
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the audit log")
	cmd.Flags().StringVar(&request.Uid, "uid", "", "only if the cluster has this UID")
	return cmd
}
