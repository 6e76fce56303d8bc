// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/netfault"
)

const (
	sessions = "fairlead_hub_sessions"
	starts   = "fairlead_hub_session_starts_total"
	ends     = "fairlead_hub_session_ends_total"
)

// beating is a hub whose sessions are dead after 6 s of silence, or after the
// minute that the threats count with.
func beating() hubOptions {
	return hubOptions{flags: []string{"--heartbeat-interval=" + scaled("2s", "20s")}}
}

// two starts two replicas behind a network each, which agents know both.
func (w *world) two(options hubOptions) (nets [2]*netfault.Proxy, hubs [2]*house.Hub) {
	w.t.Helper()
	nets = [2]*netfault.Proxy{w.proxy(""), w.proxy("")}
	hubs[0] = w.replica(options, nets[0], nets[1])
	hubs[1] = w.replica(options, nets[1], nets[0])
	// Both give out the same order, so that agents begin at the first.
	return nets, hubs
}

// TestT14_half_open: a network that drops everything without a word is noticed
// on both sides, and the agent goes to another replica.
func TestT14_half_open(t *testing.T) {
	t.Parallel()
	t.Logf("scale: heartbeats each %s", scaled("2s (a tenth)", "20s (full)"))
	w := newWorld(t)
	nets, hubs := w.two(beating())
	agent := w.join(hubs[0], "t14")
	w.put("t14", nil, "t14-before")
	w.equal("t14")
	before := w.metric(hubs[0], ends)
	began := time.Now()
	nets[0].Set(netfault.Rule{Drop: true})
	w.put("t14", nil, "t14-meanwhile")
	w.reaches(hubs[1], sessions, atLeast(1))
	t.Logf("the agent was elsewhere after %s", time.Since(began).Round(time.Millisecond))
	w.reaches(hubs[0], sessions, atMost(0))
	t.Logf("the session had ended on the hub after %s (both: at most 75 s at full scale)", time.Since(began).Round(time.Millisecond))
	require.Greater(t, w.metric(hubs[0], ends), before)
	w.equal("t14")
	require.True(t, agent.Alive())
	nets[0].Set(netfault.Rule{})
	w.verdict("t14")
}

// TestT31_frozen_processes: a frozen agent is Unknown soon, and a frozen hub is
// left for another replica.
func TestT31_frozen_processes(t *testing.T) {
	t.Parallel()
	lease := scaled(6, 60)
	t.Logf("scale: a lease of %d s", lease)
	w := newWorld(t)
	_, hubs := w.two(beating())
	agent := w.join(hubs[0], "t31")
	w.lease("t31", lease)
	w.put("t31", nil, "t31-before")
	w.equal("t31")

	began := time.Now()
	require.NoError(t, agent.Signal(syscall.SIGSTOP))
	w.availability("t31", metav1.ConditionUnknown)
	took := time.Since(began)
	t.Logf("Unknown after %s", took.Round(time.Millisecond))
	require.Greater(t, took, time.Duration(lease)*time.Second*2/3, "silence of less than a lease is no news")
	require.NoError(t, agent.Signal(syscall.SIGCONT))
	w.availability("t31", metav1.ConditionTrue)

	holder, other := hubs[0], hubs[1]
	w.until("a session", func(ctx context.Context) (bool, error) {
		n, err := holder.Metric(ctx, sessions)
		if n == 0 {
			holder, other = other, holder
		}
		return n > 0, err
	})
	began = time.Now()
	require.NoError(t, holder.Signal(syscall.SIGSTOP))
	w.reaches(other, sessions, atLeast(1))
	t.Logf("the agent had left the frozen hub after %s (at most 75 s at full scale)", time.Since(began).Round(time.Millisecond))
	w.put("t31", nil, "t31-meanwhile")
	w.equal("t31")
	require.NoError(t, holder.Signal(syscall.SIGCONT))
	w.reaches(holder, sessions, atMost(0))
	w.put("t31", nil, "t31-after")
	w.verdict("t31")
}

// TestT61_two_agents_of_one_cluster: a second pod takes the session over while
// the first is paused, and the first changes nothing when it goes on.
func TestT61_two_agents_of_one_cluster(t *testing.T) {
	t.Parallel()
	t.Log("scale: paused until the other one has taken over, instead of 5 min")
	w := newWorld(t)
	net := w.proxy("")
	hub := w.replica(hubOptions{}, net)
	_, err := w.spoke.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "t61"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	inCluster := []string{"--store=secrets", "--namespace=t61"}
	first := w.join(hub, "t61", inCluster...)
	w.put("t61", nil, names("t61", 3)...)
	w.equal("t61")
	began := w.metric(hub, starts)
	require.NoError(t, first.Signal(syscall.SIGSTOP))

	second := w.agent(house.AgentConfig{Cluster: "t61", Name: "t61-second", Flags: inCluster})
	w.reaches(hub, starts, atLeast(began+1))
	require.InDelta(t, 1, w.metric(hub, sessions), 0, "one session at any time")
	w.put("t61", nil, names("t61", 3)...)
	w.equal("t61")

	require.NoError(t, first.Signal(syscall.SIGCONT))
	w.reaches(first, "fairlead_agent_connected", atMost(0))
	out, err := hub.CLI(t.Context(), "get", "sessions", "t61", "-o", "name")
	require.NoError(t, err)
	require.Len(t, strings.Fields(out), 1, "one session at any time: %s", out)
	w.verdict("t61")
	require.LessOrEqual(t, w.metric(hub, starts)-began, 2.0, "takeovers")
	require.True(t, second.Alive())
	t.Log(fmt.Sprintf("takeovers: %v", w.metric(hub, starts)-began))
}

// TestT68_stale_replica: an agent that moves to a replica whose watch hangs is
// never sent back to what it had before.
func TestT68_stale_replica(t *testing.T) {
	t.Parallel()
	t.Log("scale: frozen until the agent has been there, instead of 60 s")
	w := newWorld(t)
	net := w.proxy("")
	faults, behind := w.throughFaults()
	stale := w.replica(behind, net)
	fresh := w.replica(hubOptions{}, net)
	w.join(fresh, "t68")
	all := names("t68", scaled(5, 50))
	w.put("t68", nil, all...)
	w.equal("t68")
	w.until("the other replica to know the works", func(ctx context.Context) (bool, error) {
		out, err := stale.CLI(ctx, "explain", "work", "t68/t68-0")
		return err == nil, fmt.Errorf("%w: %s", err, out)
	})
	thaw := faults.Freeze(works)
	defer thaw()
	w.put("t68", nil, all...)
	w.equal("t68")
	net.Retarget(stale.AgentAddress)
	net.Reset()
	w.reaches(stale, sessions, atLeast(1))
	w.put("t68", nil, "t68-0") // cannot arrive before the thaw, and must not do harm
	w.reaches(stale, "fairlead_hub_dirty_objects", atMost(0))
	thaw()
	w.put("t68", nil, all...)
	w.verdict("t68")
}
