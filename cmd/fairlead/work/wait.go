// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// errDone ends a watch that has seen what it waited for.
var errDone = errors.New("done")

// bindWait adds --wait, which is the default on a terminal.
func bindWait(o *cli.Options, flags *pflag.FlagSet, wait *bool, usage string) {
	flags.BoolVar(wait, "wait", o.Terminal, usage+"; the default on a terminal")
}

// waitFor waits until a work is applied and available in every cluster, one
// after the other: the slowest decides anyway.
func waitFor(ctx context.Context, o *cli.Options, hub *cli.Hub, clusters []string, name string) error {
	bounded, cancel := o.Wait(ctx)
	defer cancel()
	for _, cluster := range clusters {
		work := ref{cluster, name}
		err := follow(bounded, o, hub, goal{work, "applied and available"}, func(e cli.Event[*shown]) (string, bool) {
			switch {
			case e.Upsert == nil:
				return "", false
			case (*e.Upsert).done(workv1.WorkApplied) && (*e.Upsert).done(workv1.WorkAvailable):
				return "", true
			}
			return (*e.Upsert).message(), false
		})
		if err != nil {
			return late(ctx, hub, work, err)
		}
		o.Sayf("work %s is applied and available", work)
	}
	return nil
}

// goal is what a work is to become.
type goal struct {
	work ref
	what string
}

// follow watches one work until look says that it is done, and shows what look
// says until then.
func follow(ctx context.Context, o *cli.Options, hub *cli.Hub, g goal, look func(cli.Event[*shown]) (string, bool)) error {
	progress := o.Progress()
	last := "nothing was seen of it"
	err := progress.While(func() error {
		return works(hub, g.work, "").Each(ctx, o, func(e cli.Event[*shown]) error {
			text, done := look(e)
			if done {
				return errDone
			}
			if text != "" {
				last = text
				progress.Sayf("%s: %s", g.work, text)
			}
			return nil
		})
	})
	switch {
	case errors.Is(err, errDone):
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded: // the hub may notice first
		return cli.TimedOut(fmt.Errorf("work %s is not %s in time: %s", g.work, g.what, last))
	case err == nil:
		return fmt.Errorf("the hub ended the watch before work %s was %s: %s\nHint: the same command goes on waiting", g.work, g.what, last)
	}
	return err
}

// late adds to a wait that took too long what the hub knows of the reason.
func late(ctx context.Context, hub *cli.Hub, work ref, err error) error {
	if ctx.Err() != nil {
		return err
	}
	answer, explained := hub.Works.ExplainDelivery(ctx, &adminv1.ExplainDeliveryRequest{ClusterName: work.cluster, Name: work.name})
	if explained != nil {
		return err
	}
	return fmt.Errorf("%w\nHint: %s; «fairlead explain work %s» says more", err, answer.GetVerdict(), work)
}
