// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package session has the commands for agents' live sessions.
package session

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

type session = *adminv1.SessionInfo

// Get is «fairlead get sessions».
func Get(o *cli.Options) *cobra.Command {
	var form cli.Output
	var watch bool
	cmd := &cobra.Command{
		Use:     "sessions [CLUSTER]",
		Aliases: []string{"session"},
		Short:   "Show agents' sessions: where from, how far behind, until when",
		Args:    cobra.MaximumNArgs(1),
		RunE: o.RunLong(func(ctx context.Context, hub *cli.Hub, args []string) error {
			cluster := ""
			if len(args) == 1 {
				cluster = args[0]
			}
			printer := kind(o).To(o, &form)
			if watch {
				return sessions(hub, cluster).Print(ctx, o, printer)
			}
			ctx, cancel := o.Call(ctx)
			defer cancel()
			all, err := cli.Pages(func(token string) ([]session, string, error) {
				answer, err := hub.Clusters.ListSessions(ctx, &adminv1.ListSessionsRequest{ClusterName: cluster, PageToken: token})
				return answer.GetSessions(), answer.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			if err := printer.List(all); err != nil {
				return err
			}
			if len(all) == 0 {
				o.Nextf("an agent that runs and reaches the hub has a session; «fairlead get clusters» shows who is accepted")
				return nil
			}
			o.Nextf("«fairlead kick CLUSTER» ends a session; its agent dials again")
			return nil
		}),
		ValidArgsFunction: o.Complete(cli.ClusterNames),
	}
	form.Bind(o, cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing changes")
	return cmd
}

func sessions(hub *cli.Hub, cluster string) cli.Stream[adminv1.WatchSessionsResponse, session] {
	return cli.Stream[adminv1.WatchSessionsResponse, session]{
		Open: func(ctx context.Context) (grpc.ServerStreamingClient[adminv1.WatchSessionsResponse], error) {
			return hub.Clusters.WatchSessions(ctx, &adminv1.WatchSessionsRequest{ClusterName: cluster})
		},
		Read: func(raw *adminv1.WatchSessionsResponse) (e cli.Event[session], _ error) {
			if s := raw.GetUpsert(); s != nil {
				e.Upsert = &s
			}
			e.Removed, e.Synced, e.Anew = raw.GetRemoved(), raw.GetBookmark().GetInitialSyncComplete(), raw.GetReset_() != nil
			return e, nil
		},
	}
}

func kind(o *cli.Options) cli.Kind[session] {
	return cli.Kind[session]{
		Name: "session",
		ID:   session.GetSessionId,
		Columns: []cli.Column[session]{
			{Head: "CLUSTER", Of: session.GetClusterName},
			{Head: "REPLICA", Of: session.GetHubReplica},
			{Head: "FROM", Of: session.GetRemoteAddress},
			{Head: "EPOCH", Of: func(x session) string { return strconv.FormatUint(x.GetSessionEpoch(), 10) }},
			{Head: "BEHIND", Of: behind},
			{Head: "LAST RECEIVED", Clock: true, Of: func(x session) string { return o.Age(x.GetLastReceived()) }},
			{Head: "AGE", Clock: true, Of: func(x session) string { return o.Age(x.GetStarted()) }},
			{Head: "CERTIFICATE", Wide: true, Clock: true, Of: func(x session) string { return o.Until(x.GetCertificateExpires()) }},
			{Head: "SESSION", Wide: true, Of: session.GetSessionId},
			{Head: "AGENT", Wide: true, Of: session.GetAgentId},
			{Head: "UNACKED", Wide: true, Of: func(x session) string { return strconv.FormatUint(x.GetUnackedBytes(), 10) }},
		},
		Object: func(x session) (any, error) { return cli.Message(x) },
	}
}

// behind is how many objects wait; only the replica that has the session knows.
func behind(x session) string {
	if !x.GetLive() {
		return "?"
	}
	return strconv.Itoa(int(x.GetDirtyObjects()))
}

// Kick is «fairlead kick».
func Kick(o *cli.Options) *cobra.Command {
	request := &adminv1.KickSessionRequest{}
	cmd := &cobra.Command{
		Use:   "kick CLUSTER",
		Short: "End the session of a cluster's agent, which then dials again",
		Args:  cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			request.ClusterName = args[0]
			answer, err := hub.Clusters.KickSession(ctx, request)
			if err != nil {
				return err
			}
			o.Sayf("session %s of %s ended on replica %s", answer.GetSessionId(), args[0], answer.GetHubReplica())
			o.Nextf("«fairlead get sessions %s -w» shows it come back; «fairlead revoke %s» would keep it out", args[0], args[0])
			return nil
		}),
		ValidArgsFunction: o.Complete(cli.ClusterNames),
	}
	cmd.Flags().StringVar(&request.SessionId, "session", "", "only if it is this session")
	return cmd
}
