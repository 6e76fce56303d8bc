// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package replicaset has the command that says how a replica set goes on.
package replicaset

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

type (
	explanation = *adminv1.ExplainReplicaSetResponse
	member      = *adminv1.ReplicaSetCluster
)

// Explain is «fairlead explain replicaset».
func Explain(o *cli.Options) *cobra.Command {
	var form cli.Output
	cmd := &cobra.Command{
		Use:     "replicaset NAMESPACE/NAME",
		Aliases: []string{"replicasets", "manifestworkreplicaset", "mwrs"},
		Short:   "Say of every cluster of a replica set what it waits for",
		Example: "  fairlead explain replicaset apps/web\n  fairlead explain replicaset apps/web -o json",
		Args:    cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			namespace, name, err := cli.NamespaceName(args[0], "replica set")
			if err != nil {
				return err
			}
			answer, err := fetch(ctx, hub, namespace, name)
			if err != nil {
				return err
			}
			return show(o, &form, args[0], answer)
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	form.Bind(o, cmd)
	return cmd
}

// pageSize is the most that the hub gives at once: it plans anew for each page.
const pageSize = 5000

// fetch gets all pages. The head is that of the first.
func fetch(ctx context.Context, hub *cli.Hub, namespace, name string) (explanation, error) {
	var head explanation
	clusters, err := cli.Pages(func(token string) ([]member, string, error) {
		answer, err := hub.Placements.ExplainReplicaSet(ctx, &adminv1.ExplainReplicaSetRequest{Namespace: namespace, Name: name, PageSize: pageSize, PageToken: token})
		if head == nil {
			head = answer
		}
		return answer.GetClusters(), answer.GetNextPageToken(), err
	})
	if status.Code(err) == codes.Unimplemented {
		return nil, fmt.Errorf("the hub is too old to explain replica sets: upgrade it: %w", err)
	}
	if err != nil {
		return nil, err
	}
	head.Clusters, head.NextPageToken = clusters, ""
	return head, nil
}

func show(o *cli.Options, form *cli.Output, set string, answer explanation) error {
	switch form.String() {
	case cli.Table, cli.Wide:
		o.Sayf("%s: %s", set, answer.GetVerdict())
		if answer.GetAgain() != nil {
			o.Sayf("time alone changes it at %s: a minSuccessTime or a progressDeadline ends then", answer.GetAgain().AsTime().UTC().Format("2006-01-02T15:04:05Z"))
		}
	case cli.Name:
		return memberKind(o).To(o, form).List(answer.GetClusters())
	default:
		kind := cli.Kind[explanation]{Name: "replicaset", ID: func(explanation) string { return set }, Object: func(a explanation) (any, error) { return cli.Message(a) }}
		return kind.To(o, form).One(answer)
	}
	if err := memberKind(o).To(o, form).List(answer.GetClusters()); err != nil {
		return err
	}
	o.Nextf("%s", next(set, answer))
	return nil
}

func memberKind(o *cli.Options) cli.Kind[member] {
	return cli.Kind[member]{
		Name:   "cluster",
		ID:     member.GetName,
		Object: func(m member) (any, error) { return cli.Message(m) },
		Columns: []cli.Column[member]{
			{Head: "CLUSTER", Of: member.GetName},
			{Head: "PLACEMENT", Of: member.GetPlacement},
			{Head: "STATE", Of: member.GetState},
			{Head: "SINCE", Clock: true, Of: func(m member) string { return o.Age(m.GetSince()) }},
			{Head: "WORK", Wide: true, Of: member.GetWork},
			{Head: "WHY", Of: member.GetWhy},
		},
	}
}

// next is what to do about the first cluster that has failed, or waits.
func next(set string, a explanation) string {
	namespace, name, _ := strings.Cut(set, "/")
	in := func(states ...string) member {
		at := slices.IndexFunc(a.GetClusters(), func(m member) bool { return m.GetWork() != "" && slices.Contains(states, m.GetState()) })
		if at < 0 {
			return nil
		}
		return a.GetClusters()[at]
	}
	if m := in("Failed", "TimeOut"); m != nil {
		return fmt.Sprintf("«fairlead explain work %s/%s» says what is wrong there", m.GetName(), m.GetWork())
	}
	if m := in("Applying", "Progressing", "Leaving"); m != nil {
		return fmt.Sprintf("«fairlead explain work %s/%s» says how far it is", m.GetName(), m.GetWork())
	}
	if !a.GetDone() {
		return fmt.Sprintf("«kubectl get manifestworkreplicaset %s -n %s -w» follows it", name, namespace)
	}
	return "nothing is to be done"
}
