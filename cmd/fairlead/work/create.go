// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// creation is what «fairlead create work» is told.
type creation struct {
	clusters places
	files    []string
	dryRun   bool
	wait     bool

	raw string // the work, as JSON
}

// Create is «fairlead create work».
func Create(o *cli.Options) *cobra.Command {
	var c creation
	cmd := &cobra.Command{
		Use:     "work NAME --clusters CLUSTER[,CLUSTER] -f FILE|FOLDER|-",
		Aliases: []string{"works"},
		Short:   "Send plain Kubernetes manifests to clusters, as one work each",
		Long: "Send plain Kubernetes manifests (YAML or JSON, several documents per file, folders read whole) to clusters.\n" +
			"Deployments, DaemonSets, Jobs and Pods report back how ready they are. Repeating it with changed files changes the work:\n" +
			"what is no longer in the files is removed from the clusters. Nothing is sent if one of the clusters would refuse it.",
		Example: "  fairlead create work web --clusters eu-1,eu-2 -f manifests/\n  kustomize build . | fairlead create work web -c eu-1 -f -",
		Args:    cobra.ExactArgs(1),
		RunE: o.RunLong(func(ctx context.Context, hub *cli.Hub, args []string) error {
			if len(c.clusters) == 0 || len(c.files) == 0 {
				return cli.Usagef("say where and what: --clusters and -f are needed")
			}
			manifests, err := source{stdin: o.In}.read(c.files)
			if err != nil {
				return err
			}
			raw, err := json.Marshal(newWork(args[0], manifests))
			if err != nil {
				return fmt.Errorf("encoding the work: %w", err)
			}
			c.raw = string(raw)
			return c.run(ctx, o, hub, args[0])
		}),
	}
	flags := cmd.Flags()
	c.clusters.bind(o, cmd, "clusters to send it to")
	flags.StringSliceVarP(&c.files, "filename", "f", nil, "file or folder of manifests, - for standard input")
	flags.BoolVar(&c.dryRun, "dry-run", false, "only check it, sizes included")
	bindWait(o, flags, &c.wait, "wait until it is applied and available")
	return cmd
}

func (c *creation) run(ctx context.Context, o *cli.Options, hub *cli.Hub, name string) error {
	if len(c.clusters) > 1 && !c.dryRun { // a slip in one of them must not leave half of it sent
		err := c.clusters.each(func(cluster string) error {
			_, err := c.ask(ctx, o, hub, ref{cluster, name}, true)
			return err
		})
		if err != nil {
			return fmt.Errorf("nothing was sent: %w", err)
		}
	}
	if err := c.clusters.each(func(cluster string) error { return c.apply(ctx, o, hub, ref{cluster, name}) }); err != nil {
		return err
	}
	switch {
	case c.dryRun:
		o.Nextf("without --dry-run it is sent")
		return nil
	case c.wait:
		if err := waitFor(ctx, o, hub, c.clusters, name); err != nil {
			return err
		}
		o.Nextf("«fairlead get works %s» shows it; the same command with changed files changes it", name)
		return nil
	}
	o.Nextf("«fairlead get works %s -w» shows it arrive", name)
	return nil
}

func (c *creation) apply(ctx context.Context, o *cli.Options, hub *cli.Hub, work ref) error {
	answer, err := c.ask(ctx, o, hub, work, c.dryRun)
	if err != nil {
		return err
	}
	how := "applied"
	if c.dryRun {
		how = "would be applied (dry run)"
	}
	o.Sayf("work %s %s: generation %d, %d of %d bytes", work, how, answer.GetGeneration(), answer.GetSize(), answer.GetLimit())
	return nil
}

func (c *creation) ask(ctx context.Context, o *cli.Options, hub *cli.Hub, work ref, dryRun bool) (*adminv1.ApplyWorkResponse, error) {
	ctx, cancel := o.Call(ctx)
	defer cancel()
	return hub.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: work.cluster, Name: work.name, WorkJson: c.raw, DryRun: dryRun})
}

// newWork wraps manifests, with feedback rules for the kinds that have
// well-known ones (MW-38).
func newWork(name string, manifests []manifest) *workv1.ManifestWork {
	work := &workv1.ManifestWork{
		TypeMeta:   metav1.TypeMeta{APIVersion: workv1.GroupVersion.String(), Kind: "ManifestWork"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
	}
	for _, m := range manifests {
		entry := workv1.Manifest{}
		entry.Raw = m.json
		work.Spec.Workload.Manifests = append(work.Spec.Workload.Manifests, entry)
		resource, ok := wellKnown()[m.group+"/"+m.kind]
		if !ok {
			continue
		}
		work.Spec.ManifestConfigs = append(work.Spec.ManifestConfigs, workv1.ManifestConfigOption{
			ResourceIdentifier: workv1.ResourceIdentifier{Group: m.group, Resource: resource, Namespace: m.namespace, Name: m.name},
			FeedbackRules:      []workv1.FeedbackRule{{Type: workv1.WellKnownStatusType}},
		})
	}
	return work
}

// wellKnown are the kinds with well-known feedback, and their resources.
func wellKnown() map[string]string {
	return map[string]string{
		"apps/Deployment": "deployments",
		"apps/DaemonSet":  "daemonsets",
		"batch/Job":       "jobs",
		"/Pod":            "pods",
	}
}
