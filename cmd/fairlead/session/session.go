// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package session has the commands for agents' live sessions.
package session

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// Get is «fairlead get sessions».
func Get(o *cli.Options) *cobra.Command {
	var form cli.Output
	var watch bool
	cmd := &cobra.Command{
		Use:     "sessions [CLUSTER]",
		Aliases: []string{"session"},
		Short:   "Show agents' sessions: where from, how far behind, until when",
		Args:    cobra.MaximumNArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			print := printer(time.Now()).To(o.Out, form)
			if watch {
				return follow(ctx, hub, name, print)
			}
			answer, err := hub.Clusters.ListSessions(ctx, &adminv1.ListSessionsRequest{ClusterName: name})
			if err != nil {
				return err
			}
			if err := print.List(answer.GetSessions()); err != nil {
				return err
			}
			o.Next("«fairlead kick CLUSTER» ends a session; its agent dials again")
			return nil
		}),
		ValidArgsFunction: o.Completion(cli.ClusterNames),
	}
	form.Bind(cmd.Flags())
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing changes")
	return cmd
}

func follow(ctx context.Context, hub *cli.Hub, name string, print *cli.Printer[*adminv1.SessionInfo]) error {
	stream, err := hub.Clusters.WatchSessions(ctx, &adminv1.WatchSessionsRequest{ClusterName: name})
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return err
		}
		if s := event.GetUpsert(); s != nil {
			if err := print.One(s); err != nil {
				return err
			}
		}
	}
}

func printer(now time.Time) *cli.Printer[*adminv1.SessionInfo] {
	type s = *adminv1.SessionInfo
	return &cli.Printer[s]{
		Kind: "session",
		Name: s.GetSessionId,
		Columns: []cli.Column[s]{
			{Head: "CLUSTER", Of: s.GetClusterName},
			{Head: "REPLICA", Of: s.GetHubReplica},
			{Head: "FROM", Of: s.GetRemoteAddress},
			{Head: "EPOCH", Of: func(x s) string { return strconv.FormatUint(x.GetSessionEpoch(), 10) }},
			{Head: "BEHIND", Of: func(x s) string { return behind(x) }},
			{Head: "LAST RECEIVED", Of: func(x s) string { return cli.Age(now, x.GetLastReceived()) }},
			{Head: "AGE", Of: func(x s) string { return cli.Age(now, x.GetStarted()) }},
			{Head: "CERTIFICATE", Wide: true, Of: func(x s) string { return cli.Until(now, x.GetCertificateExpires()) }},
			{Head: "SESSION", Wide: true, Of: s.GetSessionId},
			{Head: "AGENT", Wide: true, Of: s.GetAgentId},
			{Head: "UNACKED", Wide: true, Of: func(x s) string { return strconv.FormatUint(x.GetUnackedBytes(), 10) }},
		},
		Object: func(x s) (any, error) { return cli.Message(x) },
	}
}

// behind is how many objects wait; only the replica that has the session knows.
func behind(x *adminv1.SessionInfo) string {
	if !x.GetLive() {
		return "ask " + x.GetHubReplica()
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
			fmt.Fprintf(o.Out, "session %s of %s ended on replica %s\n", answer.GetSessionId(), args[0], answer.GetHubReplica())
			o.Next("«fairlead get sessions %s -w» shows it come back", args[0])
			return nil
		}),
		ValidArgsFunction: o.Completion(cli.ClusterNames),
	}
	cmd.Flags().StringVar(&request.SessionId, "session", "", "only if it is this session")
	return cmd
}
