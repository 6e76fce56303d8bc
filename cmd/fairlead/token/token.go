// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package token has the commands for join tokens.
package token

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// Command is «fairlead token».
func Command(o *cli.Options) *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Create, list and revoke join tokens", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(create(o), list(o), revoke(o))
	return cmd
}

func create(o *cli.Options) *cobra.Command {
	request := &adminv1.CreateJoinTokenRequest{}
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "create [CLUSTER]",
		Short: "Create a join token and print its join string",
		Long: "Create a join token for one cluster name, or for a pattern of names, and print the join string:\n" +
			"one line with the hub's endpoints, its CA's fingerprint and the token. It is shown once.",
		Args: cobra.MaximumNArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			if len(args) == 1 {
				request.ClusterName = args[0]
			}
			if ttl > 0 {
				request.Ttl = durationpb.New(ttl)
			}
			answer, err := hub.Enrollments.CreateJoinToken(ctx, request)
			if err != nil {
				return err
			}
			fmt.Fprintln(o.Out, answer.GetJoinString())
			fmt.Fprintf(o.Err, "Token %s expires %s.\n", answer.GetTokenId(), answer.GetExpires().AsTime().Local().Format(time.RFC1123))
			o.Next("on the spoke: fairlead join %s --spoke-kubeconfig FILE", answer.GetJoinString())
			return nil
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&request.NamePattern, "pattern", "", "glob of cluster names that may join, instead of one name")
	flags.DurationVar(&ttl, "ttl", 0, "how long the token is good (default 1h, at most 24h)")
	flags.Uint32Var(&request.MaxUses, "uses", 0, "how many clusters may join with it (default 1)")
	flags.StringSliceVar(&request.SourceCidrs, "source-cidr", nil, "networks from which it may be used (default: any)")
	flags.BoolVar(&request.AutoAccept, "auto-accept", false, "accept its clusters without a pairing code (needs a permission of its own)")
	flags.StringSliceVar(&request.Endpoints, "endpoint", nil, "host:port of the hub as the spoke sees it (default: the hub's own)")
	return cmd
}

func list(o *cli.Options) *cobra.Command {
	var form cli.Output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List join tokens, without their secrets",
		Args:  cobra.NoArgs,
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, _ []string) error {
			answer, err := hub.Enrollments.ListJoinTokens(ctx, &adminv1.ListJoinTokensRequest{})
			if err != nil {
				return err
			}
			if err := printer(time.Now()).To(o.Out, form).List(answer.GetTokens()); err != nil {
				return err
			}
			o.Next("«fairlead token create CLUSTER» makes one, «fairlead token revoke ID» ends one")
			return nil
		}),
	}
	form.Bind(cmd.Flags())
	return cmd
}

func printer(now time.Time) *cli.Printer[*adminv1.JoinToken] {
	return &cli.Printer[*adminv1.JoinToken]{
		Kind: "token",
		Name: (*adminv1.JoinToken).GetTokenId,
		Columns: []cli.Column[*adminv1.JoinToken]{
			{Head: "TOKEN", Of: (*adminv1.JoinToken).GetTokenId},
			{Head: "CLUSTER", Of: func(t *adminv1.JoinToken) string { return t.GetClusterName() + t.GetNamePattern() }},
			{Head: "USES LEFT", Of: func(t *adminv1.JoinToken) string { return strconv.Itoa(int(t.GetUsesLeft())) }},
			{Head: "EXPIRES IN", Of: func(t *adminv1.JoinToken) string { return cli.Until(now, t.GetExpires()) }},
			{Head: "AUTO ACCEPT", Of: func(t *adminv1.JoinToken) string { return strconv.FormatBool(t.GetAutoAccept()) }},
			{Head: "CREATED BY", Wide: true, Of: (*adminv1.JoinToken).GetCreatedBy},
		},
		Object: func(t *adminv1.JoinToken) (any, error) { return cli.Message(t) },
	}
}

func revoke(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke TOKEN-ID",
		Short: "Make a join token useless at once",
		Args:  cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			if _, err := hub.Enrollments.RevokeJoinToken(ctx, &adminv1.RevokeJoinTokenRequest{TokenId: args[0]}); err != nil {
				return err
			}
			fmt.Fprintf(o.Out, "token %s revoked\n", args[0])
			o.Next("clusters that joined with it stay; «fairlead get enrollments» lists them")
			return nil
		}),
		ValidArgsFunction: o.Completion(func(ctx context.Context, hub *cli.Hub) ([]string, error) {
			answer, err := hub.Enrollments.ListJoinTokens(ctx, &adminv1.ListJoinTokensRequest{})
			var ids []string
			for _, t := range answer.GetTokens() {
				ids = append(ids, t.GetTokenId())
			}
			return ids, err
		}),
	}
}
