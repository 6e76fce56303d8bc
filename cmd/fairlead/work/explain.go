// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

type (
	explanation = *adminv1.ExplainDeliveryResponse
	stop        = *adminv1.DeliveryStop
)

// Explain is «fairlead explain work».
func Explain(o *cli.Options) *cobra.Command {
	var form cli.Output
	var cluster string
	cmd := &cobra.Command{
		Use:     "work CLUSTER/NAME",
		Aliases: []string{"works"},
		Short:   "Say where a work stands on its way to a cluster and back, and why",
		Example: "  fairlead explain work eu-1/web\n  fairlead explain work web --cluster eu-1",
		Args:    cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			where, err := refOf(cluster, args)
			if err != nil {
				return err
			}
			if where.cluster == "" {
				return cli.Usagef("say of which cluster: CLUSTER/%s, or --cluster", where.name)
			}
			answer, err := hub.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: where.cluster, Name: where.name})
			if err != nil {
				return err
			}
			if form.String() != cli.Table && form.String() != cli.Wide {
				return explanationKind(where).To(o, &form).One(answer)
			}
			return explain(o, &form, where, answer)
		}),
		ValidArgsFunction: o.Complete(names),
	}
	form.Bind(o, cmd)
	bindCluster(o, cmd, &cluster)
	return cmd
}

// explanationKind is an explanation as one object.
func explanationKind(where ref) cli.Kind[explanation] {
	return cli.Kind[explanation]{
		Name:   "work",
		ID:     func(explanation) string { return where.String() },
		Object: func(a explanation) (any, error) { return cli.Message(a) },
	}
}

func explain(o *cli.Options, form *cli.Output, where ref, answer explanation) error {
	o.Sayf("%s", answer.GetVerdict())
	if err := stopKind(o).To(o, form).List(answer.GetStops()); err != nil {
		return err
	}
	for _, m := range answer.GetManifests() {
		o.Sayf("manifest %d, %s: %s", m.GetOrdinal(), m.GetResource(), m.GetMessage())
	}
	for _, s := range answer.GetStops() {
		if s.GetState() != adminv1.StopState_STOP_STATE_PASSED {
			o.Nextf("«fairlead get works %s -c %s -w» follows it", where.name, where.cluster)
			return nil
		}
	}
	o.Nextf("nothing is to be done; «fairlead get work %s -o yaml» has all that is known", where)
	return nil
}

func stopKind(o *cli.Options) cli.Kind[stop] {
	return cli.Kind[stop]{
		Name: "stop",
		ID:   stop.GetName,
		Columns: []cli.Column[stop]{
			{Head: "STOP", Of: stop.GetName},
			{Head: "STATE", Of: func(s stop) string { return mark(s.GetState()) }},
			{Head: "SINCE", Clock: true, Of: func(s stop) string { return o.Age(s.GetTime()) }},
			{Head: "DETAIL", Of: stop.GetDetail},
		},
	}
}

func mark(state adminv1.StopState) string {
	switch state {
	case adminv1.StopState_STOP_STATE_PASSED:
		return "ok"
	case adminv1.StopState_STOP_STATE_WAITING:
		return "waiting"
	case adminv1.StopState_STOP_STATE_FAILED:
		return "FAILED"
	case adminv1.StopState_STOP_STATE_UNKNOWN, adminv1.StopState_STOP_STATE_UNSPECIFIED:
	}
	return "unknown"
}
