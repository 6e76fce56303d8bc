// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package decide

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/sets"
	"pgregory.net/rapid"
)

// contents draws objects with clusters, each cluster in at most one of them.
func contents(t *rapid.T, label string, clusters int) map[string]sets.Set[string] {
	drawn := map[string]sets.Set[string]{}
	count := rapid.IntRange(1, 4).Draw(t, label+" objects")
	for i := range count {
		drawn[fmt.Sprintf("o%d", i)] = sets.New[string]()
	}
	for c := range clusters {
		object := fmt.Sprintf("o%d", rapid.IntRange(-1, count-1).Draw(t, label))
		if content := drawn[object]; content != nil && content.Len() < MaxClusters {
			content.Insert(fmt.Sprintf("c%03d", c))
		}
	}
	return drawn
}

func newChange(have, want map[string]sets.Set[string]) *change {
	c := &change{have: have, want: want, visit: map[string]bool{}}
	for name := range have {
		c.visit[name] = !have[name].Equal(want[name]) || want[name] == nil
	}
	for name := range want {
		c.visit[name] = c.visit[name] || have[name] == nil
	}
	for name, visited := range c.visit {
		if !visited {
			delete(c.visit, name)
		}
	}
	n := 0
	c.spare = func() string { n++; return fmt.Sprintf("spare%d", n) }
	return c
}

// replay applies steps and checks every state in between.
func replay(t require.TestingT, have, want map[string]sets.Set[string], done []step) {
	state, before, after := map[string]sets.Set[string]{}, sets.New[string](), sets.New[string]()
	for name, content := range have {
		state[name] = content
		before = before.Union(content)
	}
	for _, content := range want {
		after = after.Union(content)
	}
	kept := before.Intersection(after)
	for i, s := range done {
		if s.remove {
			delete(state, s.object)
		} else {
			state[s.object] = s.clusters
		}
		there := sets.New[string]()
		for name, content := range state {
			require.LessOrEqual(t, content.Len(), MaxClusters, "step %d: object %s is too long", i, name)
			there = there.Union(content)
		}
		require.Empty(t, kept.Difference(there), "step %d of %v: missing for a moment", i, done)
		require.Empty(t, there.Difference(before.Union(after)), "step %d: from nowhere", i)
	}
	require.Len(t, state, len(want))
	for name, content := range want {
		require.True(t, content.Equal(state[name]), "%s is %v at last", name, state[name])
	}
}

func TestSteps_never_lose_a_cluster_that_stays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clusters := rapid.SampledFrom([]int{0, 1, 5, 30, 380}).Draw(t, "clusters")
		have, want := contents(t, "have", clusters), contents(t, "want", clusters)
		replay(t, have, want, newChange(have, want).steps())
	})
}

func TestSteps(t *testing.T) {
	t.Parallel()
	row := func(first, count int) sets.Set[string] {
		made := sets.New[string]()
		for i := range count {
			made.Insert(fmt.Sprintf("c%04d", first+i))
		}
		return made
	}
	for name, tc := range map[string]struct {
		reason     string
		have, want map[string]sets.Set[string]
		steps      []string
	}{
		"nothing": {"no step without a change", map[string]sets.Set[string]{"o1": row(0, 3)}, map[string]sets.Set[string]{"o1": row(0, 3)}, nil},
		"inserted": {
			"each object hands its last cluster on, so the last goes first",
			map[string]sets.Set[string]{"o1": row(1, 100), "o2": row(101, 100), "o3": row(201, 50)},
			map[string]sets.Set[string]{"o1": row(0, 100), "o2": row(100, 100), "o3": row(200, 51)},
			[]string{"o3", "o2", "o1"},
		},
		"swapped": {
			"one has all of both for a moment",
			map[string]sets.Set[string]{"o1": row(0, 1), "o2": row(1, 1)}, map[string]sets.Set[string]{"o1": row(1, 1), "o2": row(0, 1)},
			[]string{"o1", "o2", "o1"},
		},
		"swapped, full": {
			"neither has room",
			map[string]sets.Set[string]{"o1": row(0, 100), "o2": row(100, 100)}, map[string]sets.Set[string]{"o1": row(100, 100), "o2": row(0, 100)},
			[]string{"spare1", "o1", "o2", "-spare1"},
		},
		"joined": {
			"the rest goes when it is elsewhere",
			map[string]sets.Set[string]{"o1": row(0, 2), "o2": row(2, 2)}, map[string]sets.Set[string]{"o1": row(0, 4)}, []string{"o1", "-o2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			done := newChange(tc.have, tc.want).steps()
			var order []string
			for _, s := range done {
				if s.remove {
					order = append(order, "-"+s.object)
					continue
				}
				order = append(order, s.object)
			}
			require.Equal(t, tc.steps, order, tc.reason)
			replay(t, tc.have, tc.want, slices.Clip(done))
		})
	}
}
