// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"fairlead.dev/fairlead/server/scheduling"
)

// TestTranscripts replays the stories in testdata/stories: each block is a
// command and its input. go test -rewrite writes them anew.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		t.Helper()
		h := newHub(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			var args []string
			for _, arg := range d.CmdArgs {
				args = append(args, arg.String())
			}
			return h.command(d.Cmd, args, d.Input)
		})
	})
}

func (h *hub) command(command string, args []string, input string) string {
	switch command {
	case "hub": // objects, one a line
		for line := range strings.Lines(input) {
			if f := strings.Fields(line); len(f) > 0 {
				h.object(f[0], f[1:])
			}
		}
	case "placement":
		h.placement(args[0], input)
	case "wait":
		h.now = h.now.Add(h.duration(args[0]))
	case "dirty":
		var b strings.Builder
		for _, k := range h.Dirty() {
			fmt.Fprintln(&b, k)
		}
		return b.String()
	case "decide":
		return h.describe(h.decide(args[0]))
	case "keep":
		o := h.decide(args[0])
		h.keep(args[0])
		return h.describe(o)
	case "explain":
		e, _ := h.Explain(key(args[0]), h.now)
		return describeExplanation(e)
	default:
		h.t.Fatalf("there is no command %q", command)
	}
	return ""
}

func (h *hub) object(kind string, f []string) {
	switch kind {
	case "cluster":
		h.cluster(f[0], f[1:]...)
	case "set":
		h.set(f[0], f[1:]...)
	case "bind":
		h.bind(f[0], f[1])
	case "score":
		h.score(f[0], f[1], f[2:]...)
	case "decided":
		h.decided(f[0], f[1:]...)
	case "no-cluster":
		h.RemoveCluster(f[0])
	case "no-set":
		h.RemoveSet(f[0])
	case "no-binding":
		h.RemoveBinding(f[0], f[1])
	case "no-score":
		h.RemoveScore(f[0], f[1])
	default:
		h.t.Fatalf("there is no kind %q", kind)
	}
}

func (h *hub) describe(o scheduling.Outcome) string {
	var b strings.Builder
	fmt.Fprintf(&b, "clusters: %s\n", strings.Join(o.Clusters, " "))
	var scores []string
	for _, s := range o.Scores {
		scores = append(scores, fmt.Sprintf("%s:%d", s.Cluster, s.Score))
	}
	fmt.Fprintf(&b, "scores: %s\n", strings.Join(scores, " "))
	fmt.Fprintf(&b, "%s %s %s: %s\n", o.Satisfied.Type, o.Satisfied.Status, o.Satisfied.Reason, o.Satisfied.Message)
	fmt.Fprintf(&b, "%s %s %s: %s\n", o.Misconfigured.Type, o.Misconfigured.Status, o.Misconfigured.Reason, o.Misconfigured.Message)
	if len(o.Expired) > 0 {
		fmt.Fprintf(&b, "expired: %s\n", strings.Join(o.Expired, " "))
	}
	if !o.Again.IsZero() {
		fmt.Fprintf(&b, "again in %s\n", o.Again.Sub(h.now).Round(time.Second))
	}
	return b.String()
}

func describeExplanation(e scheduling.Explanation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "bound %v, eligible %v, prioritizers %v\n", e.Bound, e.Eligible, e.Prioritizers)
	for _, v := range e.All {
		switch {
		case v.Filter != "":
			fmt.Fprintf(&b, "%s: %s: %s\n", v.Cluster, v.Filter, v.Why)
		case v.Selected:
			fmt.Fprintf(&b, "%s: %d. %v = %d selected\n", v.Cluster, v.Rank, v.Scores, v.Sum)
		default:
			fmt.Fprintf(&b, "%s: %d. %v = %d; %s\n", v.Cluster, v.Rank, v.Scores, v.Sum, v.Why)
		}
	}
	for _, f := range e.Filtered() {
		fmt.Fprintf(&b, "%s: %v\n", f.Name, f.Clusters)
	}
	return b.String()
}
