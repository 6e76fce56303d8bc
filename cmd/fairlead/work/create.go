// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// Create is «fairlead create work».
func Create(o *cli.Options) *cobra.Command {
	var clusters, files []string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "work NAME --clusters CLUSTER[,CLUSTER] -f FILE|FOLDER",
		Short: "Send plain Kubernetes manifests to clusters, as one work each",
		Long: "Send plain Kubernetes manifests (YAML or JSON, several documents per file, folders read whole) to clusters.\n" +
			"Workloads of well-known kinds report their replicas back. Repeating it with changed files changes the work.",
		Args: cobra.ExactArgs(1),
		RunE: o.Run(func(ctx context.Context, hub *cli.Hub, args []string) error {
			if len(clusters) == 0 || len(files) == 0 {
				return errors.New("say where and what: --clusters and -f are needed")
			}
			manifests, err := readManifests(files)
			if err != nil {
				return err
			}
			raw, err := json.Marshal(newWork(args[0], manifests))
			if err != nil {
				return fmt.Errorf("encoding the work: %w", err)
			}
			for _, cluster := range clusters {
				answer, err := hub.Works.ApplyWork(ctx, &adminv1.ApplyWorkRequest{ClusterName: cluster, Name: args[0], WorkJson: string(raw), DryRun: dryRun})
				if err != nil {
					return fmt.Errorf("cluster %s: %w", cluster, cli.Explain(err))
				}
				fmt.Fprintf(o.Out, "work %s/%s applied: generation %d, %d manifests, %d of %d bytes%s\n",
					cluster, args[0], answer.GetGeneration(), len(manifests), answer.GetSize(), answer.GetLimit(), note(dryRun))
			}
			o.Next("«fairlead get works %s -w» shows it arrive", args[0])
			return nil
		}),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&clusters, "clusters", nil, "clusters to send it to")
	flags.StringSliceVarP(&files, "filename", "f", nil, "file or folder of manifests, - for standard input")
	flags.BoolVar(&dryRun, "dry-run", false, "only check it, sizes included")
	if err := cmd.RegisterFlagCompletionFunc("clusters", o.Completion(cli.ClusterNames)); err != nil {
		panic(err) // the flag is defined above: only a mistake in this function gets here
	}
	return cmd
}

func note(dryRun bool) string {
	if dryRun {
		return " (dry run: nothing was written)"
	}
	return ""
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
		resource, ok := wellKnown[m.group+"/"+m.kind]
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
var wellKnown = map[string]string{
	"apps/Deployment": "deployments",
	"apps/DaemonSet":  "daemonsets",
	"batch/Job":       "jobs",
	"/Pod":            "pods",
}
