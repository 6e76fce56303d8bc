// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
)

// State is how far a cluster is.
type State string

// The states of a cluster. A caller gives the first six; Soaking and TimeOut
// come of them and of the time.
const (
	// ToApply: it does not have the current content.
	ToApply State = "ToApply"
	// Blocked: its turn has come, and it could not be given the content.
	Blocked State = "Blocked"
	// Applying: it was given the content, and has not said how it does.
	Applying    State = "Applying"
	Progressing State = "Progressing"
	Succeeded   State = "Succeeded"
	// Failed: it may yet succeed, and until then counts as a failure (MH-21).
	Failed State = "Failed"
	// Soaking: it succeeded less than minSuccessTime ago (MH-19).
	Soaking State = "Soaking"
	// TimeOut: it did not succeed within progressDeadline (MH-20).
	TimeOut State = "TimeOut"
)

// Group is a decision group of a placement.
type Group struct {
	Name     string
	Index    int32
	Clusters []string
}

// String is the group as people know it.
func (g Group) String() string {
	if g.Name != "" {
		return fmt.Sprintf("%q (%d)", g.Name, g.Index)
	}
	return strconv.Itoa(int(g.Index))
}

// Progress is a cluster's state, and since when.
type Progress struct {
	State State
	// Since counts for every state but ToApply.
	Since time.Time
	// Tried is when one that is Blocked was tried last.
	Tried time.Time
}

// Input is all that a decision depends on. It is only read.
type Input struct {
	Strategy clusterv1alpha1.RolloutStrategy
	// ClustersPerGroup is the placement's clustersPerDecisionGroup, the default of
	// maxConcurrency; 0 if it has none.
	ClustersPerGroup intstr.IntOrString
	// Groups are the placement's decision groups. A cluster counts in the first
	// group that has it.
	Groups []Group
	// Progress is by cluster; one that is not there is ToApply.
	Progress map[string]Progress
	Now      time.Time
}

// Verdict is what is decided about one cluster.
type Verdict struct {
	State State
	// Waits is why a cluster that is ToApply does not get the content now; "" if it
	// does, and for all others.
	Waits string
}

// Plan is a decision.
type Plan struct {
	// Apply are the clusters that get the content now, in order of their turn.
	Apply []string
	// Retry are those that are Blocked and are to be tried again now.
	Retry []string
	// Clusters is the verdict on each.
	Clusters map[string]Verdict
	// Counts are how many are in each state.
	Counts map[State]int
	// Stopped says why no more clusters get the content until one that failed
	// succeeds; "" while that is not so.
	Stopped string
	// Unknown are mandatory decision groups that the placement does not have.
	Unknown []string
	// Done: every cluster has the content and has succeeded, but for as many as may
	// fail.
	Done bool
	// Again is when time alone changes the decision; zero if it does not.
	Again time.Time
}

// Decide makes a plan. An error says which value of the strategy is wrong; nothing
// is to be rolled out then.
func Decide(in Input) (Plan, error) {
	groups, total := distinct(in.Groups)
	rules, err := read(&in.Strategy, in.ClustersPerGroup, total)
	if err != nil {
		return Plan{}, err
	}
	d := &decision{in: in, rules: rules, total: total, plan: Plan{Clusters: make(map[string]Verdict, total), Counts: map[State]int{}}}
	for _, g := range groups {
		for _, cluster := range g.Clusters {
			d.judge(cluster)
		}
	}
	before := ""
	for _, s := range d.stages(groups) {
		if before != "" {
			d.hold(s, before)
			continue
		}
		before = d.run(s)
	}
	d.retry()
	d.plan.Done = before == "" && d.plan.Counts[Blocked] == 0
	return d.plan, nil
}

// distinct sorts groups by their index and clusters by the alphabet, each once.
func distinct(groups []Group) (sorted []Group, total int) {
	sorted = slices.Clone(groups)
	slices.SortStableFunc(sorted, func(a, b Group) int { return int(a.Index) - int(b.Index) })
	seen := map[string]bool{}
	for i := range sorted {
		var own []string
		for _, cluster := range sorted[i].Clusters {
			if !seen[cluster] {
				seen[cluster] = true
				own = append(own, cluster)
			}
		}
		slices.Sort(own)
		sorted[i].Clusters = own
	}
	return sorted, len(seen)
}

// decision is a plan in the making.
type decision struct {
	in     Input
	rules  rules
	total  int
	flying int      // clusters that are in progress
	turn   []string // those whose stage has begun
	plan   Plan
}

// judge turns what a cluster reports into what it counts as.
func (d *decision) judge(cluster string) {
	progress, known := d.in.Progress[cluster]
	if !known {
		progress.State = ToApply
	}
	state, until := progress.State, time.Time{}
	switch state {
	case Blocked, Applying, Progressing, Failed:
		if d.rules.deadline > 0 {
			until = progress.Since.Add(d.rules.deadline)
			if !d.in.Now.Before(until) {
				state = TimeOut
			}
		}
	case Succeeded:
		until = progress.Since.Add(d.rules.soak)
		if d.in.Now.Before(until) {
			state = Soaking
		}
	case ToApply, Soaking, TimeOut: // nothing depends on the time
	}
	if until.After(d.in.Now) && (d.plan.Again.IsZero() || until.Before(d.plan.Again)) {
		d.plan.Again = until
	}
	if inProgress(state) {
		d.flying++
	}
	d.plan.Clusters[cluster] = Verdict{State: state}
	d.plan.Counts[state]++
}

// inProgress tells whether a cluster in that state is waited for. One that failed
// is, until its time is out: it may yet succeed.
func inProgress(s State) bool {
	return s == Applying || s == Progressing || s == Failed || s == Soaking
}

// stage is clusters between which there is no order but that of the list.
type stage struct {
	// title is what those wait for that come after.
	title    string
	clusters []string
	// failures is how many may fail; below zero, any number.
	failures  int
	mandatory bool
}

// stages puts the clusters in the order of the strategy.
func (d *decision) stages(groups []Group) (all []stage) {
	taken := make([]bool, len(groups))
	for _, m := range d.rules.mandatory {
		found := false
		for i, g := range groups {
			if m.GroupName != "" && g.Name != m.GroupName || m.GroupName == "" && g.Index != m.GroupIndex {
				continue
			}
			found = true
			if !taken[i] {
				taken[i] = true
				all = append(all, stage{title: "the mandatory decision group " + g.String(), clusters: g.Clusters, mandatory: true})
			}
		}
		if !found {
			d.plan.Unknown = append(d.plan.Unknown, Group{Name: m.GroupName, Index: m.GroupIndex}.String())
		}
	}
	rest := stage{title: "the clusters", failures: count(d.rules.failures, d.total)}
	if d.rules.kind == clusterv1alpha1.All {
		rest.failures = -1
	}
	for i, g := range groups {
		switch {
		case taken[i]:
		case d.rules.kind == clusterv1alpha1.ProgressivePerGroup:
			all = append(all, stage{title: "the decision group " + g.String(), clusters: g.Clusters, failures: count(d.rules.failures, len(g.Clusters))})
		default:
			rest.clusters = append(rest.clusters, g.Clusters...)
		}
	}
	slices.Sort(rest.clusters)
	return append(all, rest)
}

// run lets as many clusters of a stage begin as may, and returns what the next
// stages wait for; "" if this one is over.
func (d *decision) run(s stage) (unfinished string) {
	failed, over := d.failed(s), true
	d.turn = append(d.turn, s.clusters...)
	if s.failures >= 0 && len(failed) > s.failures {
		d.plan.Stopped = fmt.Sprintf("%d of %s failed or timed out, %d may: %s", len(failed), s.title, s.failures, some(failed))
		d.hold(s, "the rollout is stopped: "+d.plan.Stopped)
		return "the rollout is stopped: " + d.plan.Stopped
	}
	for _, cluster := range s.clusters {
		state := d.plan.Clusters[cluster].State
		switch {
		case state == Blocked: // it holds up no other, unless it may yet count as a failure
			over = over && !s.mandatory && d.rules.deadline == 0
		case state != ToApply:
			over = over && !inProgress(state) && (state != TimeOut || s.failures >= 0)
		case d.full():
			d.wait(cluster, fmt.Sprintf("%d clusters are in progress, which is maxConcurrency", d.flying))
			over = false
		default:
			d.plan.Apply = append(d.plan.Apply, cluster)
			d.flying++
			over = false
		}
	}
	if over {
		return ""
	}
	return s.title + " is first"
}

// full tells whether as many clusters are in progress as may be.
func (d *decision) full() bool {
	return d.rules.kind == clusterv1alpha1.Progressive && d.flying >= d.rules.concurrency
}

// retry has those tried again that could not be given the content, in the places
// that are left, those first that were not for longest. Of a rollout that is
// stopped, those that count as failures are.
func (d *decision) retry() {
	slices.SortStableFunc(d.turn, func(a, b string) int { return d.in.Progress[a].Tried.Compare(d.in.Progress[b].Tried) })
	for _, cluster := range d.turn {
		failed := d.plan.Clusters[cluster].State == TimeOut
		if d.in.Progress[cluster].State == Blocked && (failed || d.plan.Stopped == "") && !d.full() {
			d.plan.Retry = append(d.plan.Retry, cluster)
			d.flying++
		}
	}
}

func (d *decision) failed(s stage) (failed []string) {
	for _, cluster := range s.clusters {
		if state := d.plan.Clusters[cluster].State; state == Failed || state == TimeOut {
			failed = append(failed, cluster)
		}
	}
	return failed
}

// hold has all clusters of a stage wait that have not begun.
func (d *decision) hold(s stage, why string) {
	for _, cluster := range s.clusters {
		if d.plan.Clusters[cluster].State == ToApply {
			d.wait(cluster, why)
		}
	}
}

func (d *decision) wait(cluster, why string) {
	d.plan.Clusters[cluster] = Verdict{State: ToApply, Waits: why}
}

// some names a few of them.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
