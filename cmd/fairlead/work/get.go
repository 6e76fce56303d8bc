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
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
	"k8s.io/apimachinery/pkg/api/meta"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// Get is «fairlead get works».
func Get(o *cli.Options) *cobra.Command {
	var form cli.Output
	var watch bool
	var selector, cluster string
	cmd := &cobra.Command{
		Use:     "works [NAME | CLUSTER/NAME]",
		Aliases: []string{"work"},
		Short:   "Show works and how far they are",
		Example: "  fairlead get works -w\n  fairlead get works -c eu-1 -o wide\n  fairlead get work eu-1/web -o yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: o.RunLong(func(ctx context.Context, hub *cli.Hub, args []string) error {
			where, err := refOf(cluster, args)
			if err != nil {
				return err
			}
			printer := kind(o).To(o, &form)
			if watch {
				return works(hub, where, selector).Print(ctx, o, printer)
			}
			ctx, cancel := o.Call(ctx)
			defer cancel()
			if where.cluster != "" && where.name != "" {
				return one(ctx, o, hub, where, printer)
			}
			all, err := list(ctx, hub, where, selector)
			if err != nil {
				return err
			}
			if len(all) == 0 && where.name != "" {
				return fmt.Errorf("no cluster has a work %q\nHint: «fairlead get works» lists them", where.name)
			}
			if err := printer.List(all); err != nil {
				return err
			}
			next(o, all)
			return nil
		}),
		ValidArgsFunction: o.Complete(names),
	}
	form.Bind(o, cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing changes")
	bindCluster(o, cmd, &cluster)
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "only works with these labels")
	return cmd
}

// ref names works: of one cluster or of all, by name or all.
type ref struct{ cluster, name string }

// bindCluster adds -c.
func bindCluster(o *cli.Options, cmd *cobra.Command, cluster *string) {
	cmd.Flags().StringVarP(cluster, "cluster", "c", "", "only of this cluster")
	o.CompleteFlag(cmd, "cluster", cli.ClusterNames)
}

// refOf reads NAME or CLUSTER/NAME, beside a cluster that a flag named.
func refOf(flag string, args []string) (ref, error) {
	if len(args) == 0 {
		return ref{cluster: flag}, nil
	}
	cluster, name, both := strings.Cut(args[0], "/")
	switch {
	case !both:
		return ref{cluster: flag, name: args[0]}, nil
	case flag != "" && flag != cluster:
		return ref{}, cli.Usagef("%q is of cluster %q, and --cluster says %q", args[0], cluster, flag)
	}
	return ref{cluster: cluster, name: name}, nil
}

func (r ref) String() string { return r.cluster + "/" + r.name }

// next names the first work that is not there yet.
func next(o *cli.Options, all []*shown) {
	if len(all) == 0 {
		o.Nextf("«fairlead create work NAME --clusters CLUSTER -f FILE» sends the first one")
		return
	}
	for _, w := range all {
		if w.DeletionTimestamp != nil || !w.done(workv1.WorkApplied) || !w.done(workv1.WorkAvailable) {
			o.Nextf("«fairlead explain work %s/%s» says where it stands, and why", w.Namespace, w.Name)
			return
		}
	}
	o.Nextf("«fairlead get works -w» shows what changes; «fairlead explain work CLUSTER/NAME» follows one on its way")
}

func one(ctx context.Context, o *cli.Options, hub *cli.Hub, where ref, printer *cli.Printer[*shown]) error {
	answer, err := hub.Works.GetWork(ctx, &adminv1.GetWorkRequest{ClusterName: where.cluster, Name: where.name})
	if err != nil {
		return err
	}
	work, err := decode(answer.GetWorkJson())
	if err != nil {
		return err
	}
	if err := printer.One(work); err != nil {
		return err
	}
	next(o, []*shown{work})
	return nil
}

func list(ctx context.Context, hub *cli.Hub, where ref, selector string) ([]*shown, error) {
	return cli.Pages(func(token string) ([]*shown, string, error) {
		answer, err := hub.Works.ListWorks(ctx, &adminv1.ListWorksRequest{ClusterName: where.cluster, LabelSelector: selector, PageToken: token})
		if err != nil {
			return nil, "", err
		}
		var page []*shown
		for _, message := range answer.GetWorks() {
			if where.name != "" && message.GetRef().GetName() != where.name {
				continue
			}
			work, err := decode(message.GetWorkJson())
			if err != nil {
				return nil, "", err
			}
			page = append(page, work)
		}
		return page, answer.GetNextPageToken(), nil
	})
}

func works(hub *cli.Hub, where ref, selector string) cli.Stream[adminv1.WatchWorksResponse, *shown] {
	return cli.Stream[adminv1.WatchWorksResponse, *shown]{
		Open: func(ctx context.Context) (grpc.ServerStreamingClient[adminv1.WatchWorksResponse], error) {
			return hub.Works.WatchWorks(ctx, &adminv1.WatchWorksRequest{ClusterName: where.cluster, Name: where.name, LabelSelector: selector})
		},
		Read: func(raw *adminv1.WatchWorksResponse) (e cli.Event[*shown], err error) {
			e.Synced, e.Anew = raw.GetBookmark().GetInitialSyncComplete(), raw.GetReset_() != nil
			if gone := raw.GetRemoved(); gone != nil {
				e.Removed = ref{gone.GetClusterName(), gone.GetName()}.String()
			}
			if message := raw.GetUpsert(); message != nil {
				work, err := decode(message.GetWorkJson())
				if err != nil {
					return e, err
				}
				e.Upsert = &work
			}
			return e, nil
		},
	}
}

// shown is one work with the text that the hub sent.
type shown struct {
	workv1.ManifestWork
	text string
}

func decode(text string) (*shown, error) {
	out := &shown{text: text}
	if err := json.Unmarshal([]byte(out.text), &out.ManifestWork); err != nil {
		return nil, fmt.Errorf("a work that the hub sent: %w", err)
	}
	return out, nil
}

// done tells whether a condition is true of the generation that the hub has.
func (w *shown) done(condition string) bool {
	c := meta.FindStatusCondition(w.Status.Conditions, condition)
	return c != nil && c.ObservedGeneration == w.Generation && c.Status == "True"
}

func kind(o *cli.Options) cli.Kind[*shown] {
	condition := func(kind string) func(*shown) string {
		return func(w *shown) string {
			c := meta.FindStatusCondition(w.Status.Conditions, kind)
			switch {
			case w.DeletionTimestamp != nil:
				return "deleting"
			case c == nil:
				return ""
			case c.ObservedGeneration != w.Generation:
				return string(c.Status) + " (old)"
			}
			return string(c.Status)
		}
	}
	age := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return o.Age(timestamppb.New(at))
	}
	return cli.Kind[*shown]{
		Name: "work",
		ID:   func(w *shown) string { return ref{w.Namespace, w.Name}.String() },
		Columns: []cli.Column[*shown]{
			{Head: "CLUSTER", Of: func(w *shown) string { return w.Namespace }},
			{Head: "NAME", Of: func(w *shown) string { return w.Name }},
			{Head: "APPLIED", Of: condition(workv1.WorkApplied)},
			{Head: "AVAILABLE", Of: condition(workv1.WorkAvailable)},
			{Head: "FEEDBACK", Of: feedback},
			{Head: "AGE", Clock: true, Of: func(w *shown) string { return age(w.CreationTimestamp.Time) }},
			{Head: "GENERATION", Wide: true, Of: func(w *shown) string { return strconv.FormatInt(w.Generation, 10) }},
			{Head: "MANIFESTS", Wide: true, Of: func(w *shown) string { return strconv.Itoa(len(w.Spec.Workload.Manifests)) }},
			{Head: "MESSAGE", Wide: true, Of: (*shown).message},
		},
		Object: func(w *shown) (any, error) { return cli.Raw(w.text) },
	}
}

// names lists works as CLUSTER/NAME, or by name of the cluster that is typed.
func names(ctx context.Context, hub *cli.Hub, _ []string) ([]string, error) {
	all, err := list(ctx, hub, ref{}, "")
	return cli.NamesOf(all, func(w *shown) string { return ref{w.Namespace, w.Name}.String() }), err
}
