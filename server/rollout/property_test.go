// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	"pgregory.net/rapid"

	"fairlead.dev/fairlead/server/rollout"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) //nolint:gochecknoglobals // a constant

// fleet is clusters that get content when they are told to, and do with it what
// they like.
type fleet struct {
	in      rollout.Input
	total   int
	limit   int // of Progressive; else the number of clusters
	allowed int // failures outside mandatory groups, of Progressive
	first   map[string]bool
	group   map[string]int
}

func drawFleet(t *rapid.T) *fleet {
	f := &fleet{first: map[string]bool{}, group: map[string]int{}}
	for g := range rapid.IntRange(1, 4).Draw(t, "groups") {
		group := rollout.Group{Index: int32(g), Name: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "name")}
		for range rapid.IntRange(0, 4).Draw(t, "clusters") {
			name := fmt.Sprintf("c%02d", rapid.IntRange(0, 40).Draw(t, "cluster"))
			if _, taken := f.group[name]; !taken {
				f.group[name] = g
				group.Clusters = append(group.Clusters, name)
			}
		}
		f.in.Groups = append(f.in.Groups, group)
	}
	f.total = len(f.group)
	config := clusterv1alpha1.RolloutConfig{
		MinSuccessTime:   metav1.Duration{Duration: time.Duration(rapid.IntRange(0, 2).Draw(t, "soak")) * time.Minute},
		ProgressDeadline: rapid.SampledFrom([]string{"None", "3m"}).Draw(t, "deadline"),
		MaxFailures:      intstr.FromInt32(rapid.Int32Range(0, 3).Draw(t, "failures")),
	}
	f.allowed = config.MaxFailures.IntValue()
	var mandatory clusterv1alpha1.MandatoryDecisionGroups
	if rapid.Bool().Draw(t, "mandatory") {
		mandatory.MandatoryDecisionGroups = []clusterv1alpha1.MandatoryDecisionGroup{{GroupIndex: 1}}
		for name, g := range f.group {
			f.first[name] = g == 1
		}
	}
	f.limit = f.total
	f.in.Strategy.Type = rapid.SampledFrom([]clusterv1alpha1.RolloutType{clusterv1alpha1.Progressive, clusterv1alpha1.ProgressivePerGroup}).Draw(t, "type")
	if f.in.Strategy.Type == clusterv1alpha1.Progressive {
		concurrency := rapid.Int32Range(0, 4).Draw(t, "concurrency")
		f.in.Strategy.Progressive = &clusterv1alpha1.RolloutProgressive{RolloutConfig: config, MandatoryDecisionGroups: mandatory, MaxConcurrency: intstr.FromInt32(concurrency)}
		if concurrency > 0 {
			f.limit = int(concurrency)
		}
	} else {
		f.in.Strategy.ProgressivePerGroup = &clusterv1alpha1.RolloutProgressivePerGroup{RolloutConfig: config, MandatoryDecisionGroups: mandatory}
	}
	f.in.Progress, f.in.Now = map[string]rollout.Progress{}, start
	return f
}

func going(s rollout.State) bool {
	return slices.Contains([]rollout.State{rollout.Applying, rollout.Progressing, rollout.Failed, rollout.Soaking}, s)
}

// TestProperties plays rollouts: what clusters do is drawn, and what is decided
// keeps to the strategy at each step.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFleet(t)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			plan, err := rollout.Decide(f.in)
			require.NoError(t, err)
			f.check(t, plan)
			again, err := rollout.Decide(f.in)
			require.NoError(t, err)
			require.Equal(t, plan, again, "values in, values out")
			for _, name := range slices.Concat(plan.Apply, plan.Retry) {
				if rapid.IntRange(0, 3).Draw(t, "written") > 0 {
					f.in.Progress[name] = rollout.Progress{State: rollout.Applying, Since: f.in.Now}
				} else if f.in.Progress[name].State != rollout.Blocked {
					f.in.Progress[name] = rollout.Progress{State: rollout.Blocked, Since: f.in.Now}
				}
			}
			if len(f.in.Progress) > 0 {
				names := slices.Sorted(func(yield func(string) bool) {
					for name := range f.in.Progress {
						if !yield(name) {
							return
						}
					}
				})
				name := rapid.SampledFrom(names).Draw(t, "who")
				if f.in.Progress[name].State != rollout.Blocked { // who has nothing reports nothing
					f.in.Progress[name] = rollout.Progress{
						State: rapid.SampledFrom([]rollout.State{rollout.Progressing, rollout.Succeeded, rollout.Succeeded, rollout.Failed}).Draw(t, "what"), Since: f.in.Now,
					}
				}
			}
			f.in.Now = f.in.Now.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "minutes")) * time.Minute)
		}
	})
}

// check holds a plan against what the strategy promises.
func (f *fleet) check(t *rapid.T, plan rollout.Plan) {
	require.Len(t, plan.Clusters, f.total)
	flying, failed, sum := 0, 0, 0
	mandatoryDone := true
	for name, verdict := range plan.Clusters {
		if going(verdict.State) {
			flying++
		}
		if !f.first[name] && (verdict.State == rollout.Failed || verdict.State == rollout.TimeOut) {
			failed++
		}
		mandatoryDone = mandatoryDone && (!f.first[name] || verdict.State == rollout.Succeeded)
		_, begun := f.in.Progress[name]
		require.Equal(t, begun, verdict.State != rollout.ToApply, "%s: nothing is taken back", name)
		now := slices.Contains(plan.Apply, name)
		require.Equal(t, verdict.State == rollout.ToApply && !now, verdict.Waits != "", "%s: who waits knows why", name)
		if now {
			require.True(t, f.first[name] || f.mandatoryDone(plan), "%s: mandatory groups are first", name)
		}
	}
	for _, n := range plan.Counts {
		sum += n
	}
	require.Equal(t, f.total, sum)
	if f.in.Strategy.Type == clusterv1alpha1.Progressive {
		if given := len(plan.Apply) + len(plan.Retry); given > 0 {
			require.LessOrEqual(t, flying+given, f.limit, "maxConcurrency")
		}
		if failed > f.allowed {
			for _, name := range plan.Apply {
				require.True(t, f.first[name], "failures stop it")
			}
			require.False(t, plan.Done)
		}
	} else if len(plan.Apply) > 0 {
		for _, name := range plan.Apply[1:] {
			require.Equal(t, f.group[plan.Apply[0]], f.group[name], "one group at a time")
		}
	}
	if plan.Done {
		require.Zero(t, flying+plan.Counts[rollout.ToApply]+plan.Counts[rollout.Blocked], "done is done")
		require.True(t, mandatoryDone)
	} else {
		if flying == 0 && len(plan.Apply)+len(plan.Retry) == 0 {
			require.NotEmpty(t, plan.Stopped, "what is neither done nor stopped goes on")
		}
		if flying == 0 && plan.Stopped != "" {
			require.Empty(t, plan.Apply, "what is stopped does not go on")
		}
		for _, name := range plan.Retry {
			require.Equal(t, rollout.Blocked, f.in.Progress[name].State)
			require.True(t, plan.Stopped == "" || plan.Clusters[name].State == rollout.TimeOut, "and who has not failed is not tried then")
		}
	}
	if !plan.Again.IsZero() {
		require.True(t, plan.Again.After(f.in.Now))
	}
}

func (f *fleet) mandatoryDone(plan rollout.Plan) bool {
	for name, first := range f.first {
		if first && plan.Clusters[name].State != rollout.Succeeded {
			return false
		}
	}
	return true
}
