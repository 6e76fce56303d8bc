// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/intstr"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/server/rollout"
)

// TestTranscripts reads testdata/transcripts: "fleet" gives groups and a strategy, "say" what
// clusters report ("all" is who is in progress), "wait" lets time pass; each shows
// the plan, whose clusters then have the content.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		t.Helper()
		var in rollout.Input
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			switch d.Cmd {
			case "fleet":
				in = readFleet(t, d)
			case "say":
				for _, arg := range d.CmdArgs {
					for _, cluster := range arg.Vals {
						in.Progress[cluster] = rollout.Progress{State: rollout.State(arg.Key), Since: in.Now, Tried: in.Now}
					}
				}
			case "wait":
				pause, err := time.ParseDuration(d.CmdArgs[0].Key)
				require.NoError(t, err)
				in.Now = in.Now.Add(pause)
			default:
				t.Fatalf("unknown command %q", d.Cmd)
			}
			plan, err := rollout.Decide(in)
			if err != nil {
				return "error: " + err.Error() + "\n"
			}
			shown := show(plan, in.Now)
			for _, cluster := range plan.Apply {
				in.Progress[cluster] = rollout.Progress{State: rollout.Applying, Since: in.Now}
			}
			return shown
		})
	})
}

func readFleet(t *testing.T, d *datadriven.TestData) rollout.Input {
	t.Helper()
	in := rollout.Input{Now: start, Progress: map[string]rollout.Progress{}}
	for i, arg := range d.CmdArgs {
		if arg.Key == "perGroup" {
			in.ClustersPerGroup = intstr.Parse(arg.Vals[0])
			continue
		}
		group := rollout.Group{Index: int32(i), Clusters: slices.DeleteFunc(arg.Vals, func(name string) bool { return name == "" })}
		if !strings.HasPrefix(arg.Key, "-") {
			group.Name = arg.Key
		}
		in.Groups = append(in.Groups, group)
	}
	require.NoError(t, yaml.UnmarshalStrict([]byte(d.Input), &in.Strategy))
	if in.Strategy.Type == "" {
		require.Equal(t, clusterv1alpha1.RolloutStrategy{}, in.Strategy)
	}
	return in
}

func show(plan rollout.Plan, now time.Time) string {
	var b strings.Builder
	if len(plan.Apply) > 0 {
		fmt.Fprintf(&b, "apply: %s\n", strings.Join(plan.Apply, " "))
	}
	if len(plan.Retry) > 0 {
		fmt.Fprintf(&b, "retry: %s\n", strings.Join(plan.Retry, " "))
	}
	why := map[string][]string{}
	for cluster, verdict := range plan.Clusters {
		switch {
		case verdict.Waits != "":
			why["waits, "+verdict.Waits] = append(why["waits, "+verdict.Waits], cluster)
		case verdict.State != rollout.ToApply:
			why[string(verdict.State)] = append(why[string(verdict.State)], cluster)
		}
	}
	var lines []string
	for reason, clusters := range why {
		slices.Sort(clusters)
		lines = append(lines, strings.Join(clusters, " ")+": "+reason+"\n")
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
	if len(plan.Unknown) > 0 {
		fmt.Fprintf(&b, "unknown mandatory groups: %s\n", strings.Join(plan.Unknown, ", "))
	}
	if !plan.Again.IsZero() {
		fmt.Fprintf(&b, "again in %v\n", plan.Again.Sub(now))
	}
	if plan.Done {
		b.WriteString("done\n")
	}
	return b.String()
}
