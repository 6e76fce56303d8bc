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

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/netfault"
)

const (
	sessions = "fairlead_hub_sessions"
	starts   = "fairlead_hub_session_starts_total"
	ends     = "fairlead_hub_session_ends_total"
)

// longestSilence is what the threats allow until silence was noticed and acted on.
const longestSilence = 75 * time.Second

// beating is a hub whose sessions are dead after 6 s of silence, or after the
// minute that the threats count with.
func beating() hubOptions {
	return hubOptions{flags: []string{"--heartbeat-interval=" + house.Scaled("2s", "20s")}}
}

// two starts two replicas behind a network each. Agents know both, and begin at
// that of the replica which made their token.
func (w *world) two(options hubOptions) (nets [2]*netfault.Proxy, hubs [2]*house.Hub) {
	w.t.Helper()
	nets = [2]*netfault.Proxy{w.proxy(""), w.proxy("")}
	hubs[0] = w.replica(options, nets[0], nets[1])
	hubs[1] = w.replica(options, nets[1], nets[0])
	return nets, hubs
}

// TestT14_half_open: a network that drops everything without a word is noticed
// on both sides, and the agent goes to another replica.
func TestT14_half_open(t *testing.T) {
	t.Parallel()
	t.Logf("scale: heartbeats each %s", house.Scaled("2s (a tenth)", "20s (full)"))
	w := newWorld(t)
	c := w.unique("t14")
	nets, hubs := w.two(beating())
	agent := w.join(hubs[0], c)
	w.put(c, nil, c+"-before")
	w.equal(c)
	began := time.Now()
	nets[0].Set(netfault.Rule{Drop: true})
	w.put(c, nil, c+"-meanwhile")
	w.reaches(hubs[1], sessions, atLeast(1))
	w.within(longestSilence, began, "going elsewhere")
	w.reaches(hubs[0], sessions, atMost(0))
	w.within(longestSilence, began, "the end of the session on the hub")
	noticed := w.metric(hubs[0], ends, `reason="`+reason.LivenessLost+`"`) + w.metric(hubs[0], ends, `reason="`+reason.Superseded+`"`)
	require.NotZero(t, noticed, "by its own silence, or by the other one's session")
	w.equal(c)
	require.True(t, agent.Alive())
	nets[0].Set(netfault.Rule{})
	w.verdict(c)
}

// TestT31_frozen_processes: a frozen agent is Unknown soon, and a frozen hub is
// left for another replica.
func TestT31_frozen_processes(t *testing.T) {
	t.Parallel()
	lease := house.Scaled(6, 60)
	t.Logf("scale: a lease of %d s", lease)
	w := newWorld(t)
	c := w.unique("t31")
	_, hubs := w.two(beating())
	agent := w.join(hubs[0], c)
	w.lease(c, lease)
	w.put(c, nil, c+"-before")
	w.equal(c)

	began := time.Now()
	require.NoError(t, agent.Signal(syscall.SIGSTOP))
	w.availability(c, metav1.ConditionUnknown)
	w.within(longestSilence, began, "Unknown")
	require.Greater(t, time.Since(began), time.Duration(lease)*time.Second/2, "silence of less than a lease is no news")
	require.NoError(t, agent.Signal(syscall.SIGCONT))
	w.availability(c, metav1.ConditionTrue)

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
	w.within(longestSilence, began, "leaving the frozen hub")
	w.put(c, nil, c+"-meanwhile")
	w.equal(c)
	require.NoError(t, holder.Signal(syscall.SIGCONT))
	w.reaches(holder, sessions, atMost(0))
	w.put(c, nil, c+"-after")
	w.verdict(c)
}

// TestT61_two_agents_of_one_cluster: a second pod takes the session over while
// the first is paused, and the first changes nothing when it goes on.
func TestT61_two_agents_of_one_cluster(t *testing.T) {
	t.Parallel()
	t.Logf("scale: paused %s", house.Scaled("until the other one has taken over", "5 min (full)"))
	w := newWorld(t)
	c := w.unique("t61")
	net := w.proxy("")
	hub := w.replica(hubOptions{}, net)
	_, err := w.spoke.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c}}, metav1.CreateOptions{})
	require.NoError(t, err)
	inCluster := []string{"--store=secrets", "--namespace=" + c}
	first := w.join(hub, c, inCluster...)
	w.put(c, nil, names(c, 3)...)
	w.equal(c)
	began := w.metric(hub, starts)
	require.NoError(t, first.Signal(syscall.SIGSTOP))

	second := w.agent(house.AgentConfig{Cluster: c, Name: c + "-second", Flags: inCluster})
	w.reaches(hub, starts, atLeast(began+1))
	require.InDelta(t, 1, w.metric(hub, sessions), 0, "one session at any time")
	w.put(c, nil, names(c, 3)...)
	w.equal(c)

	w.linger(5 * time.Minute)
	require.NoError(t, first.Signal(syscall.SIGCONT))
	w.reaches(first, "fairlead_agent_connected", atMost(0))
	out, err := hub.CLI(t.Context(), "get", "sessions", c, "-o", "name")
	require.NoError(t, err)
	require.Len(t, strings.Fields(out), 1, "one session at any time: %s", out)
	// Before it heard that it is superseded, the first may have taken what the
	// other one did for drift. From then on it leaves the spoke alone.
	w.put(c, nil, names(c, 3)...)
	w.equal(c)
	w.mark = w.spoke.journal.Mark()
	for range 3 {
		w.put(c, nil, names(c, 3)...)
		w.equal(c)
	}
	w.verdict(c)
	require.LessOrEqual(t, w.metric(hub, starts)-began, 2.0, "takeovers")
	require.True(t, second.Alive())
	t.Logf("takeovers: %v", w.metric(hub, starts)-began)
	if house.Soak() {
		second.Kill() // then the first comes back after a minute or two, and to its duties
		w.reaches(hub, starts, atLeast(began+2))
		w.put(c, nil, names(c, 3)...)
		w.verdict(c)
	}
}

// TestT68_stale_replica: an agent that moves to a replica whose watch hangs is
// never sent back to what it had before, and keeps what that replica does not know.
func TestT68_stale_replica(t *testing.T) {
	t.Parallel()
	t.Logf("scale: frozen %s", house.Scaled("until the agent has been there", "60 s (full)"))
	w := newWorld(t)
	c := w.unique("t68")
	net := w.proxy("")
	faults, behind := w.throughFaults()
	stale := w.replica(behind, net)
	fresh := w.replica(hubOptions{}, net)
	w.join(fresh, c)
	all := names(c, house.Scaled(5, 50))
	w.put(c, nil, all...)
	w.equal(c)
	w.until("the other replica to know the works", func(ctx context.Context) (bool, error) {
		out, err := stale.CLI(ctx, "explain", "work", c+"/"+c+"-0")
		return err == nil, fmt.Errorf("%w: %s", err, out)
	})
	thaw := faults.Freeze(works)
	defer thaw()
	all = append(all, c+"-new") // which the stale replica has never heard of
	w.put(c, nil, all...)
	w.equal(c)
	faults.ResetCounts()
	net.Retarget(stale.AgentAddress)
	net.Reset()
	w.reaches(stale, starts, atLeast(1))
	w.until("the stale replica to ask the apiserver about what it lacks", func(context.Context) (bool, error) {
		read := faults.Count(env.Match{Verbs: []string{"get"}, Resources: works.Resources})
		return read >= len(all), fmt.Errorf("it did %d times", read)
	})
	w.linger(time.Minute)
	w.equal(c) // the spoke has what it had
	w.nothingHeld()
	thaw()
	w.put(c, nil, all...)
	w.verdict(c)
}
