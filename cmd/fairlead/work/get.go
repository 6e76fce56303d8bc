// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package work has the commands for works: what a cluster should have.
package work

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/duration"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// Get is «fairlead get works».
func Get(o *cli.Options) *cobra.Command {
	var form cli.Output
	var watch bool
	request := &adminv1.ListWorksRequest{}
	cmd := &cobra.Command{
		Use:     "works [NAME]",
		Aliases: []string{"work"},
		Short:   "Show works and how far they are",
		Args:    cobra.MaximumNArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			print := printer(time.Now()).To(o.Out, form)
			if watch {
				return follow(ctx, hub, &adminv1.WatchWorksRequest{ClusterName: request.GetClusterName(), LabelSelector: request.GetLabelSelector(), Name: name}, print)
			}
			works, err := list(ctx, hub, request, name)
			if err != nil {
				return err
			}
			if err := print.List(works); err != nil {
				return err
			}
			o.Next("«fairlead explain work NAME --cluster CLUSTER» says where one stands, and why")
			return nil
		}),
		ValidArgsFunction: o.Completion(names),
	}
	form.Bind(cmd.Flags())
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing changes")
	cmd.Flags().StringVarP(&request.ClusterName, "cluster", "c", "", "only works of this cluster")
	cmd.Flags().StringVarP(&request.LabelSelector, "selector", "l", "", "only works with these labels")
	return cmd
}

func list(ctx context.Context, hub *cli.Hub, request *adminv1.ListWorksRequest, name string) ([]*shown, error) {
	var all []*shown
	for {
		answer, err := hub.Works.ListWorks(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, message := range answer.GetWorks() {
			if name != "" && message.GetRef().GetName() != name {
				continue
			}
			work, err := decode(message)
			if err != nil {
				return nil, err
			}
			all = append(all, work)
		}
		if request.PageToken = answer.GetNextPageToken(); request.PageToken == "" {
			return all, nil
		}
	}
}

func follow(ctx context.Context, hub *cli.Hub, request *adminv1.WatchWorksRequest, print *cli.Printer[*shown]) error {
	stream, err := hub.Works.WatchWorks(ctx, request)
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return err
		}
		message := event.GetUpsert()
		if message == nil {
			continue
		}
		work, err := decode(message)
		if err != nil {
			return err
		}
		if err := print.One(work); err != nil {
			return err
		}
	}
}

// shown is one work with the text that the hub sent.
type shown struct {
	workv1.ManifestWork
	text string
}

func decode(message *adminv1.Work) (*shown, error) {
	out := &shown{text: message.GetWorkJson()}
	if err := json.Unmarshal([]byte(out.text), &out.ManifestWork); err != nil {
		return nil, fmt.Errorf("work %s of cluster %s: %w", message.GetRef().GetName(), message.GetRef().GetClusterName(), err)
	}
	return out, nil
}

func printer(now time.Time) *cli.Printer[*shown] {
	condition := func(kind string) func(*shown) string {
		return func(w *shown) string {
			c := meta.FindStatusCondition(w.Status.Conditions, kind)
			switch {
			case c == nil:
				return ""
			case c.ObservedGeneration != w.Generation:
				return string(c.Status) + " (old)"
			}
			return string(c.Status)
		}
	}
	return &cli.Printer[*shown]{
		Kind: "work",
		Name: func(w *shown) string { return w.Namespace + "/" + w.Name },
		Columns: []cli.Column[*shown]{
			{Head: "CLUSTER", Of: func(w *shown) string { return w.Namespace }},
			{Head: "NAME", Of: func(w *shown) string { return w.Name }},
			{Head: "APPLIED", Of: condition(workv1.WorkApplied)},
			{Head: "AVAILABLE", Of: condition(workv1.WorkAvailable)},
			{Head: "FEEDBACK", Of: feedback},
			{Head: "AGE", Of: func(w *shown) string { return duration.HumanDuration(now.Sub(w.CreationTimestamp.Time)) }},
			{Head: "GENERATION", Wide: true, Of: func(w *shown) string { return strconv.FormatInt(w.Generation, 10) }},
			{Head: "MANIFESTS", Wide: true, Of: func(w *shown) string { return strconv.Itoa(len(w.Spec.Workload.Manifests)) }},
			{Head: "STATE", Wide: true, Of: deleting},
		},
		Object: func(w *shown) (any, error) { return cli.Raw(w.text) },
	}
}

func deleting(w *shown) string {
	if w.DeletionTimestamp != nil {
		return "Deleting"
	}
	return ""
}

// feedback shows ready of wanted for workloads, else each value reported.
func feedback(w *shown) string {
	var out []string
	for _, m := range w.Status.ResourceStatus.Manifests {
		values := map[string]string{}
		var order []string
		for _, v := range m.StatusFeedbacks.Values {
			values[v.Name] = valueText(v.Value)
			order = append(order, v.Name)
		}
		if ready, wanted := values["ReadyReplicas"], values["Replicas"]; wanted != "" {
			out = append(out, fmt.Sprintf("%s=%s/%s", m.ResourceMeta.Name, zero(ready), wanted))
			continue
		}
		for _, name := range order {
			out = append(out, fmt.Sprintf("%s.%s=%s", m.ResourceMeta.Name, name, values[name]))
		}
	}
	return strings.Join(out, ",")
}

func zero(text string) string {
	if text == "" {
		return "0"
	}
	return text
}

func valueText(v workv1.FieldValue) string {
	switch {
	case v.Integer != nil:
		return strconv.FormatInt(*v.Integer, 10)
	case v.String != nil:
		return *v.String
	case v.Boolean != nil:
		return strconv.FormatBool(*v.Boolean)
	case v.JsonRaw != nil:
		return *v.JsonRaw
	}
	return ""
}

func names(ctx context.Context, hub *cli.Hub) ([]string, error) {
	works, err := list(ctx, hub, &adminv1.ListWorksRequest{}, "")
	seen := map[string]bool{}
	var out []string
	for _, w := range works {
		if !seen[w.Name] {
			seen[w.Name] = true
			out = append(out, w.Name)
		}
	}
	return out, err
}
