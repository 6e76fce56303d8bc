// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/failpoint"
	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/netfault/check"
)

// joinMortal enrolls a cluster whose agent can be told to end at a failpoint.
func (w *world) joinMortal(hub *house.Hub, cluster string) *house.Agent {
	w.t.Helper()
	binary, err := mortal()
	require.NoError(w.t, err)
	out, err := hub.CLI(w.t.Context(), "token", "create", cluster, "--auto-accept")
	require.NoError(w.t, err)
	agent := w.agent(house.AgentConfig{Binaries: house.Binaries{Agent: binary}, Cluster: cluster, Join: strings.TrimSpace(out)})
	w.availability(cluster, metav1.ConditionTrue)
	return agent
}

// writer changes the works of one cluster by chance. Every object has one work
// and never the same value twice.
type writer struct {
	*world
	cluster string
	dice    *rand.Rand
	works   []string
}

// content is some of the objects that a work may have, the first one always.
func (c *writer) content(work string) map[string]string {
	objects := map[string]string{work + "-o0": c.value()}
	for i := range 4 {
		if c.dice.IntN(2) == 0 {
			objects[fmt.Sprintf("%s-o%d", work, i)] = c.value()
		}
	}
	return objects
}

// step gives each of some works other objects, or deletes it and makes it anew.
func (c *writer) step() {
	c.t.Helper()
	for _, work := range c.works {
		switch c.dice.IntN(6) {
		case 0, 1:
		case 2:
			err := c.hubSide.works.WorkV1().ManifestWorks(c.cluster).Delete(c.t.Context(), work, metav1.DeleteOptions{})
			if !apierrors.IsNotFound(err) {
				require.NoError(c.t, err)
			}
		default:
			c.rewrite(work)
		}
	}
}

// rewrite writes a work, unless one of its name is still being deleted.
func (c *writer) rewrite(work string) {
	c.t.Helper()
	stored, err := c.hubSide.works.WorkV1().ManifestWorks(c.cluster).Get(c.t.Context(), work, metav1.GetOptions{})
	if err == nil && stored.DeletionTimestamp != nil {
		return
	}
	err = c.write(c.t.Context(), check.Work(c.cluster, work, c.content(work)))
	if !apierrors.IsNotFound(err) { // it ended its deletion in between
		require.NoError(c.t, err)
	}
}

// points are all failpoints, with how often a restart with some changes passes
// each of them at least about.
func points() map[failpoint.Point]int {
	return map[failpoint.Point]int{
		failpoint.Receive: 2, failpoint.Store: 12, failpoint.Ack: 4, failpoint.Apply: 12, failpoint.Prune: 4, failpoint.Inventory: 16,
		failpoint.Status: 6,
	}
}

// TestT77_killed_at_each_point has the agent end with SIGKILL at the n-th pass of
// each point while works change, and starts it again, many times: in the end
// nothing is lost, everything that it made is in an inventory, and no content
// ever went back.
func TestT77_killed_at_each_point(t *testing.T) {
	t.Parallel()
	rounds := house.Scaled(42, 1000)
	t.Logf("scale: %d rounds, 7 points, 3 works of up to 4 objects", rounds)
	w := newWorld(t)
	c := w.unique("t77")
	hub := w.replica(hubOptions{}, w.proxy(""))
	agent := w.joinMortal(hub, c)
	writer := &writer{world: w, cluster: c, dice: rand.New(rand.NewPCG(77, 77)), works: names(c, 3)}
	all, died := slices.Sorted(maps.Keys(points())), map[failpoint.Point]int{}
	kill := func(point failpoint.Point) {
		agent.Kill()
		n := 1 + writer.dice.IntN(points()[point])
		writer.step()
		require.NoError(t, agent.Launch(fmt.Sprintf("FAIRLEAD_FAULT_KILL=%s:%d", point, n)))
		writer.step()
		if w.diedOrEqual(agent, c) {
			died[point]++
		}
	}
	for round := range rounds {
		kill(all[round%len(all)])
		if round%100 == 99 {
			t.Logf("%d rounds; died at %v", round+1, died)
		}
	}
	for _, point := range all { // a round may be one that has no use for its point
		for tries := 0; died[point] == 0 && tries < 20; tries++ {
			kill(point)
		}
	}
	agent.Kill()
	require.NoError(t, agent.Launch())
	w.verdict(c)
	t.Logf("died at %v", died)
	for _, point := range all {
		require.GreaterOrEqual(t, died[point], max(1, rounds/len(all)/4), "%s: it must have been reached in many of its rounds", point)
	}
}

// diedOrEqual waits until the agent has ended, or has nothing left to do.
func (w *world) diedOrEqual(agent *house.Agent, cluster string) (died bool) {
	w.t.Helper()
	sides := check.Sides{Hub: w.works, Spoke: w.spoke.kube, Applied: w.spoke.applied}
	w.until("the agent to die or to have done everything", func(ctx context.Context) (bool, error) {
		if died = !agent.Alive(); died {
			return true, nil
		}
		found, err := sides.Compare(ctx, cluster)
		if err == nil {
			err = found.Err()
		}
		return err == nil, err
	})
	return died
}

// TestT11_rapid_changes_and_kills exchanges the manifests of one work again and
// again while the agent is killed each second.
func TestT11_rapid_changes_and_kills(t *testing.T) {
	t.Parallel()
	changes, during := house.Scaled(60, 200), house.Scaled(6*time.Second, 20*time.Second)
	t.Logf("scale: %d changes in %s, a kill each second", changes, during)
	w := newWorld(t)
	c := w.unique("t11")
	hub := w.replica(hubOptions{}, w.proxy(""))
	agent := w.joinMortal(hub, c)
	writer := &writer{world: w, cluster: c, dice: rand.New(rand.NewPCG(11, 11)), works: names(c, 1)}
	began, kills := time.Now(), 0
	for n := range changes {
		w.pace(began.Add(during * time.Duration(n) / time.Duration(changes)))
		writer.rewrite(writer.works[0])
		if int(time.Since(began).Seconds()) > kills {
			kills++
			agent.Kill()
			require.NoError(t, agent.Launch())
		}
	}
	t.Logf("%d changes and %d kills in %s", changes, kills, time.Since(began).Round(time.Millisecond))
	require.GreaterOrEqual(t, kills, 3)
	w.verdict(c)
}
