// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// errGone ends a watch that has seen the cluster go.
var errGone = errors.New("gone")

// Delete is «fairlead delete cluster».
func Delete(o *cli.Options) *cobra.Command {
	request := &adminv1.DeleteClusterRequest{}
	var wait bool
	cmd := &cobra.Command{
		Use:     "cluster NAME",
		Aliases: []string{"clusters", "mcl"},
		Short:   "Remove a cluster, and first what its works applied there",
		Long: "Remove a cluster from the hub: what its works applied is deleted on the spoke first, then the agent loses its access.\n\n" +
			"--force is for a spoke that is gone for good: its works are let go of without its word. What they applied stays where it is,\n" +
			"so the command first says what that is, and does nothing until the cluster's name is repeated with --confirm.",
		Example: "  fairlead delete cluster eu-1 --wait\n  fairlead delete cluster eu-1 --force --confirm eu-1",
		Args:    cobra.ExactArgs(1),
		RunE: o.RunLong(func(ctx context.Context, hub *cli.Hub, args []string) error {
			request.Name = args[0]
			if !request.GetForce() && request.GetConfirm() != "" {
				return cli.Usagef("--confirm is for --force")
			}
			if err := remove(ctx, o, hub, request); err != nil {
				return err
			}
			if !wait {
				o.Nextf("«fairlead get cluster %s -w» shows what it waits for", request.GetName())
				return nil
			}
			return waitGone(ctx, o, hub, request.GetName())
		}),
		ValidArgsFunction: o.Complete(cli.ClusterNames),
	}
	flags := cmd.Flags()
	flags.BoolVar(&request.Force, "force", false, "the spoke is gone for good: do not wait for it to be clean")
	flags.StringVar(&request.Confirm, "confirm", "", "the cluster's name once more, for --force")
	flags.StringVar(&request.Reason, "reason", "", "why, for the audit log")
	flags.StringVar(&request.Uid, "uid", "", "only if the cluster has this UID")
	flags.BoolVar(&wait, "wait", o.Terminal, "wait until it is gone; the default on a terminal")
	return cmd
}

func remove(ctx context.Context, o *cli.Options, hub *cli.Hub, request *adminv1.DeleteClusterRequest) error {
	ctx, cancel := o.Call(ctx)
	defer cancel()
	if request.GetForce() && request.GetConfirm() != request.GetName() {
		return unconfirmed(ctx, o, hub, request)
	}
	answer, err := hub.Clusters.DeleteCluster(ctx, request)
	if err != nil {
		return err
	}
	leftBehind(o, answer.GetLeftBehind())
	o.Sayf("cluster %s is being removed", request.GetName())
	return nil
}

// unconfirmed says what would be left behind, and does nothing.
func unconfirmed(ctx context.Context, o *cli.Options, hub *cli.Hub, request *adminv1.DeleteClusterRequest) error {
	answer, err := hub.Clusters.DeleteCluster(ctx, &adminv1.DeleteClusterRequest{Name: request.GetName(), Force: true, DryRun: true})
	if err != nil {
		return err
	}
	leftBehind(o, answer.GetLeftBehind())
	return cli.Usagef("nothing was done: --force leaves on the spoke of %s what %d works applied\nHint: if that spoke is gone for good, say «fairlead delete cluster %s --force --confirm %s»",
		request.GetName(), len(answer.GetLeftBehind()), request.GetName(), request.GetName())
}

func leftBehind(o *cli.Options, works []*adminv1.WorkLeft) {
	for _, work := range works {
		o.Notef("Left behind by work %s:", work.GetRef().GetName())
		if len(work.GetResources()) == 0 {
			o.Notef("  nothing that its agent reported")
		}
		for _, resource := range work.GetResources() {
			o.Notef("  %s", resource)
		}
	}
}

// waitGone shows what the removal waits for until the cluster is gone.
func waitGone(ctx context.Context, o *cli.Options, hub *cli.Hub, name string) error {
	bounded, cancel := o.Wait(ctx)
	defer cancel()
	progress := o.Progress()
	var last info
	there := false
	err := progress.While(func() error {
		return clusters(hub, "", func(c info) bool { return c.GetName() == name }).Each(bounded, o, func(e cli.Event[info]) error {
			switch {
			case e.Anew:
				there = false
			case e.Upsert != nil:
				there, last = true, *e.Upsert
				progress.Sayf("%s: %s", name, waitsFor(last))
			case e.Removed == name, e.Synced && !there:
				return errGone
			}
			return nil
		})
	})
	switch {
	case errors.Is(err, errGone):
		o.Sayf("cluster %s is gone", name)
		o.Nextf("its namespace %s stays; on the spoke «fairlead unjoin» removes the agent", name)
		return nil
	case errors.Is(bounded.Err(), context.DeadlineExceeded) && ctx.Err() == nil, status.Code(err) == codes.DeadlineExceeded: // the hub may notice first
		return cli.TimedOut(fmt.Errorf("cluster %s is not gone in time: %s\nHint: it goes on by itself; %s", name, waitsFor(last), stuck(last)))
	case err == nil:
		return fmt.Errorf("the hub ended the watch before cluster %s was gone: %s\nHint: it goes on by itself; %s", name, waitsFor(last), stuck(last))
	}
	return err
}

func waitsFor(c info) string {
	if c.GetDeleted() == nil || c.GetMessage() == "" {
		return "waiting for the hub to begin"
	}
	return c.GetMessage()
}

func stuck(c info) string {
	if c.GetAvailable() == "True" {
		return fmt.Sprintf("«fairlead get works -c %s» shows what is left", c.GetName())
	}
	return fmt.Sprintf("its agent is not connected, and only that can clean up the spoke: if the spoke is gone for good, «fairlead delete cluster %s --force»", c.GetName())
}
