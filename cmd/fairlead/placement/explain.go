// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package placement has the command that says how a placement chooses.
package placement

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/server/scheduling"
)

type (
	explanation = *adminv1.ExplainPlacementResponse
	choice      = *adminv1.ClusterChoice
)

// Explain is «fairlead explain placement».
func Explain(o *cli.Options) *cobra.Command {
	var form cli.Output
	var all bool
	cmd := &cobra.Command{
		Use:     "placement NAMESPACE/NAME",
		Aliases: []string{"placements"},
		Short:   "Say of every cluster why a placement chooses it or not, with scores",
		Example: "  fairlead explain placement apps/everywhere\n  fairlead explain placement apps/everywhere --all -o json",
		Args:    cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			namespace, name, err := cli.NamespaceName(args[0], "placement")
			if err != nil {
				return err
			}
			answer, err := fetch(ctx, hub, namespace, name)
			if err != nil {
				return err
			}
			return show(o, &form, args[0], answer, all)
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	form.Bind(o, cmd)
	cmd.Flags().BoolVar(&all, "all", false, "also show the clusters of sets that the placement cannot choose from")
	return cmd
}

// pageSize is the most that the hub gives at once: it decides anew for each page.
const pageSize = 5000

// fetch gets all pages. The head is that of the first.
func fetch(ctx context.Context, hub *cli.Hub, namespace, name string) (explanation, error) {
	var head explanation
	clusters, err := cli.Pages(func(token string) ([]choice, string, error) {
		answer, err := hub.Placements.ExplainPlacement(ctx, &adminv1.ExplainPlacementRequest{Namespace: namespace, Name: name, PageSize: pageSize, PageToken: token})
		if head == nil {
			head = answer
		}
		return answer.GetClusters(), answer.GetNextPageToken(), err
	})
	if status.Code(err) == codes.Unimplemented {
		return nil, fmt.Errorf("the hub is too old to explain placements: upgrade it: %w", err)
	}
	if err != nil {
		return nil, err
	}
	head.Clusters, head.NextPageToken = clusters, ""
	return head, nil
}

func show(o *cli.Options, form *cli.Output, placement string, answer explanation, all bool) error {
	shown := answer.GetClusters()
	if !all {
		shown = slices.DeleteFunc(slices.Clone(shown), func(c choice) bool { return c.GetFilter() == scheduling.FilterClusterSet })
	}
	left := len(answer.GetClusters()) - len(shown)
	answer.Clusters = shown
	switch form.String() {
	case cli.Table, cli.Wide:
		head(o, answer)
		if err := choiceKind(answer).To(o, form).List(shown); err != nil {
			return err
		}
	case cli.Name:
		return choiceKind(answer).To(o, form).List(shown)
	default:
		kind := cli.Kind[explanation]{Name: "placement", ID: func(explanation) string { return placement }, Object: func(a explanation) (any, error) { return cli.Message(a) }}
		return kind.To(o, form).One(answer)
	}
	if left > 0 {
		o.Sayf("%d clusters that it cannot choose from are left out; --all shows them", left)
	}
	if answer.GetOthersHidden() {
		o.Sayf("clusters of other sets are not shown: you may not list managedclusters")
	}
	o.Nextf("%s", next(placement, answer))
	return nil
}

// head says what does not fit a table.
func head(o *cli.Options, a explanation) {
	o.Sayf("%s", a.GetVerdict())
	o.Sayf("sets: %s of %s bound", list(a.GetEligibleSets()), list(a.GetBoundSets()))
	if a.GetExplanation() != "" {
		o.Sayf("scheduler %s says: %s", a.GetScheduler(), a.GetExplanation())
	}
	if a.GetAgain() != nil {
		o.Sayf("time alone changes it at %s: a toleration or a score ends then", a.GetAgain().AsTime().UTC().Format("2006-01-02T15:04:05Z"))
	}
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// choiceKind has a column for each prioritizer, as NAME×WEIGHT.
func choiceKind(a explanation) cli.Kind[choice] {
	kind := cli.Kind[choice]{
		Name:   "cluster",
		ID:     choice.GetName,
		Object: func(c choice) (any, error) { return cli.Message(c) },
		Columns: []cli.Column[choice]{
			{Head: "CLUSTER", Of: choice.GetName},
			{Head: "VERDICT", Of: verdict},
			{Head: "DECIDED", Wide: true, Of: func(c choice) string { return strconv.FormatBool(c.GetDecided()) }},
		},
	}
	for i, p := range a.GetPrioritizers() {
		kind.Columns = append(kind.Columns, cli.Column[choice]{
			Head: fmt.Sprintf("%s×%d", p.GetName(), p.GetWeight()),
			Of: func(c choice) string {
				if i >= len(c.GetScores()) {
					return ""
				}
				return strconv.FormatInt(c.GetScores()[i], 10)
			},
		})
	}
	if a.GetScheduler() == "" {
		kind.Columns = append(kind.Columns, cli.Column[choice]{Head: "SCORE", Of: func(c choice) string {
			if c.GetRank() == 0 {
				return ""
			}
			return strconv.FormatInt(c.GetScore(), 10)
		}})
	}
	kind.Columns = append(kind.Columns, cli.Column[choice]{Head: "WHY", Of: choice.GetWhy})
	return kind
}

func verdict(c choice) string {
	switch {
	case c.GetChosen():
		return "chosen"
	case c.GetFilter() != "":
		return "no: " + c.GetFilter()
	default:
		return "not chosen"
	}
}

// next is what to do about the first thing that is wrong.
func next(placement string, a explanation) string {
	namespace, name, _ := strings.Cut(placement, "/")
	edit := fmt.Sprintf("«kubectl edit placement %s -n %s»", name, namespace)
	switch {
	case a.GetScheduler() != "":
		return fmt.Sprintf("scheduler %s decides it: its own log says more; without annotation fairlead.dev/scheduler the hub decides", a.GetScheduler())
	case a.GetMisconfigured().GetStatus() == "True":
		return edit + " corrects it; its decisions come back by themselves"
	case a.GetSatisfied().GetReason() == scheduling.ReasonNoBindings, a.GetSatisfied().GetReason() == scheduling.ReasonNoIntersection:
		return fmt.Sprintf("create a ManagedClusterSetBinding in namespace %s named like the set; «kubectl get managedclustersets» lists the sets", namespace)
	case a.GetSatisfied().GetReason() == scheduling.ReasonSetsEmpty:
		return "«kubectl label managedcluster CLUSTER cluster.open-cluster-management.io/clusterset=SET» puts a cluster into a set"
	case a.GetSatisfied().GetStatus() != "True":
		return edit + " lets more clusters through: WHY says what keeps each away"
	case a.GetFrozen():
		return "take the annotation off to have it decided again"
	case slices.ContainsFunc(a.GetClusters(), func(c choice) bool { return c.GetChosen() != c.GetDecided() }):
		return fmt.Sprintf("the decisions are not there yet: «kubectl get placementdecisions -n %s -l cluster.open-cluster-management.io/placement=%s -w» shows them come", namespace, name)
	default:
		return "nothing is to be done"
	}
}
