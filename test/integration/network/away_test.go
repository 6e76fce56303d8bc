// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/netfault"
)

// TestT01_reconnects_lose_nothing cuts every connection at another byte, again
// and again, while works change, so that sessions break in the handshake, in the
// exchange of digests and in the middle of objects.
func TestT01_reconnects_lose_nothing(t *testing.T) {
	t.Parallel()
	agents, works, rounds := house.Scaled(2, 5), house.Scaled(6, 50), house.Scaled(5, 100)
	t.Logf("scale: %d agents, %d works each, %d rounds of cuts", agents, works, rounds)
	w := newWorld(t)
	c := w.unique("t1")
	net := w.proxy("")
	hub := w.replica(hubOptions{}, net)
	clusters := names(c, agents)
	for _, cluster := range clusters {
		w.join(hub, cluster)
	}
	change := func() {
		for _, cluster := range clusters {
			w.put(cluster, nil, names(cluster, works)...)
		}
	}
	change()
	for round := range rounds {
		before := net.Accepted()
		net.Set(netfault.Rule{Cut: [2]int64{netfault.Down: int64(1+round) * 1999}})
		if round%2 == 0 {
			net.Reset()
		} else {
			net.Cut()
		}
		change()
		w.until("the agents to dial again", func(context.Context) (bool, error) {
			now := net.Accepted()
			return now >= before+int64(agents), fmt.Errorf("%d connections, %d before", now, before)
		})
	}
	net.Set(netfault.Rule{})
	net.Reset()
	change()
	w.verdict(clusters...)
}

// TestT04_deletes_wait_for_the_agent deletes works of an agent that is off.
func TestT04_deletes_wait_for_the_agent(t *testing.T) {
	t.Parallel()
	const count = 10
	t.Logf("scale: full, %d works", count)
	w := newWorld(t)
	c := w.unique("t4")
	hub := w.replica(hubOptions{}, w.proxy(""))
	agent := w.join(hub, c)
	gone, kept := names(c+"-gone", count), names(c+"-kept", 2)
	w.put(c, nil, append(gone, kept...)...)
	w.equal(c)
	agent.Kill()
	w.remove(c, gone...)
	for _, name := range gone {
		work, err := w.works.WorkV1().ManifestWorks(c).Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err, "it waits for its agent")
		require.NotNil(t, work.DeletionTimestamp)
		require.Contains(t, work.Finalizers, identity.ManifestWorkFinalizer)
	}
	out, err := hub.CLI(t.Context(), "explain", "work", c+"/"+gone[0])
	t.Logf("explain says: %s (%v)", out, err)
	require.Contains(t, out, c, "there is a reason")
	began := time.Now()
	require.NoError(t, agent.Launch())
	for _, name := range gone {
		w.until(name+" to be gone on both sides", func(ctx context.Context) (bool, error) {
			_, err := w.works.WorkV1().ManifestWorks(c).Get(ctx, name, metav1.GetOptions{})
			return apierrors.IsNotFound(err), err
		})
	}
	w.within(10*time.Second, began, "deleting all after the agent's start")
	w.verdict(c)
}

// TestT03_edits_while_the_agent_is_paused: many edits are one delivery.
func TestT03_edits_while_the_agent_is_paused(t *testing.T) {
	t.Parallel()
	works, edits := house.Scaled(8, 100), house.Scaled(20, 1000)
	t.Logf("scale: %d works, %d edits each", works, edits)
	w := newWorld(t)
	c := w.unique("t3")
	hub := w.replica(hubOptions{}, w.proxy(""))
	agent := w.join(hub, c)
	w.put(c, nil, names(c, works)...)
	w.equal(c)
	const objects = "fairlead_agent_objects_total"
	before := w.metric(agent, objects)
	require.NoError(t, agent.Signal(syscall.SIGSTOP))
	for range edits {
		w.put(c, nil, names(c, works)...)
	}
	require.NoError(t, agent.Signal(syscall.SIGCONT))
	w.verdict(c)
	sent := w.metric(agent, objects) - before
	t.Logf("%v objects were received for %d edits of %d works", sent, works*edits, works)
	require.LessOrEqual(t, sent, float64(3*works), "one that was on its way when the agent stopped, the last one, and one between for a late watch")
}
