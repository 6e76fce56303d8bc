// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package token has the commands for join tokens.
package token

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/labels"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

type token = *adminv1.JoinToken

// Command is «fairlead token».
func Command(o *cli.Options) *cobra.Command {
	return cli.Group("token", "Create, list and revoke join tokens", create(o), list(o), revoke(o))
}

func create(o *cli.Options) *cobra.Command {
	request := &adminv1.CreateJoinTokenRequest{}
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "create CLUSTER",
		Short: "Create a join token and print its join string",
		Long: "Create a join token for one cluster name, or for a pattern of names, and print the join string:\n" +
			"one line with the hub's endpoints, its CA's fingerprint and the token. It is shown once.",
		Example: "  fairlead token create eu-1\n  fairlead token create --pattern 'edge-*' --uses 20 --source-cidr 10.0.0.0/8",
		Args:    cobra.MaximumNArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			if (len(args) == 1) == (request.GetNamePattern() != "") {
				return cli.Usagef("say which cluster may join: either its NAME, or a --pattern of names")
			}
			if len(args) == 1 {
				request.ClusterName = args[0]
			}
			if ttl != 0 {
				request.Ttl = durationpb.New(ttl)
			}
			answer, err := hub.Enrollments.CreateJoinToken(ctx, request)
			if err != nil {
				return err
			}
			o.Sayf("%s", answer.GetJoinString())
			o.Notef("Token %s expires in %s. The join string is shown this once.", answer.GetTokenId(), o.Until(answer.GetExpires()))
			name := ""
			if request.GetNamePattern() != "" {
				name = " --name NAME"
			}
			o.Nextf("where you reach the spoke: fairlead join %s%s --spoke-kubeconfig FILE", answer.GetJoinString(), name)
			return nil
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&request.NamePattern, "pattern", "", "glob of cluster names that may join, instead of one name")
	flags.DurationVar(&ttl, "ttl", 0, "how long the token is good (default 1h, at most 24h)")
	flags.Uint32Var(&request.MaxUses, "uses", 0, "how many clusters may join with it (default 1)")
	flags.StringSliceVar(&request.SourceCidrs, "source-cidr", nil, "networks from which it may be used (default: any)")
	flags.BoolVar(&request.AutoAccept, "auto-accept", false, "accept its clusters without a pairing code (needs a permission of its own)")
	flags.BoolVar(&request.ReEnroll, "re-enroll", false, "let a cluster back in that had a certificate before, with a new key (needs a permission of its own)")
	flags.StringToStringVar(&request.ClusterLabels, "labels", nil, "labels of the ManagedClusters that the hub makes for it, as key=value,…")
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
			all, err := tokens(ctx, hub)
			if err != nil {
				return err
			}
			if err := kind(o).To(o, &form).List(all); err != nil {
				return err
			}
			o.Nextf("«fairlead token create CLUSTER» makes one, «fairlead token revoke ID» ends one")
			return nil
		}),
	}
	form.Bind(o, cmd)
	return cmd
}

func tokens(ctx context.Context, hub *cli.Hub) ([]token, error) {
	return cli.Pages(func(page string) ([]token, string, error) {
		answer, err := hub.Enrollments.ListJoinTokens(ctx, &adminv1.ListJoinTokensRequest{PageToken: page})
		return answer.GetTokens(), answer.GetNextPageToken(), err
	})
}

func kind(o *cli.Options) cli.Kind[token] {
	return cli.Kind[token]{
		Name: "token",
		ID:   token.GetTokenId,
		Columns: []cli.Column[token]{
			{Head: "TOKEN", Of: token.GetTokenId},
			{Head: "CLUSTER", Of: func(t token) string { return t.GetClusterName() + t.GetNamePattern() }},
			{Head: "USES LEFT", Of: func(t token) string { return strconv.Itoa(int(t.GetUsesLeft())) }},
			{Head: "EXPIRES IN", Clock: true, Of: func(t token) string { return o.Until(t.GetExpires()) }},
			{Head: "AUTO ACCEPT", Of: func(t token) string { return strconv.FormatBool(t.GetAutoAccept()) }},
			{Head: "RE-ENROLL", Wide: true, Of: func(t token) string { return strconv.FormatBool(t.GetReEnroll()) }},
			{Head: "FROM", Wide: true, Of: func(t token) string { return strings.Join(t.GetSourceCidrs(), ",") }},
			{Head: "LABELS", Wide: true, Of: func(t token) string { return labels.Set(t.GetClusterLabels()).String() }},
			{Head: "CREATED BY", Wide: true, Of: token.GetCreatedBy},
		},
		Object: func(t token) (any, error) { return cli.Message(t) },
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
			o.Sayf("token %s revoked", args[0])
			o.Nextf("clusters that joined with it stay; «fairlead get enrollments» lists them")
			return nil
		}),
		ValidArgsFunction: o.Complete(func(ctx context.Context, hub *cli.Hub, _ []string) ([]string, error) {
			all, err := tokens(ctx, hub)
			return cli.NamesOf(all, token.GetTokenId), err
		}),
	}
}
