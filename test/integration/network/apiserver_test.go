// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/netfault"
	"fairlead.dev/fairlead/test/netfault/check"
)

var (
	works    = env.Match{Resources: []string{"manifestworks"}}
	statuses = env.Match{Verbs: env.Writes(), Resources: []string{"manifestworks/status"}}
)

// TestT34_failing_status_writes: an apiserver that fails most status writes
// loses none of them.
func TestT34_failing_status_writes(t *testing.T) {
	t.Parallel()
	count, rounds := house.Scaled(8, 50), house.Scaled(4, 150)
	t.Logf("scale: %d works, %d rounds of changes", count, rounds)
	w := newWorld(t)
	c := w.unique("t34")
	faults, behind := w.throughFaults()
	hub := w.replica(behind, w.proxy(""))
	agent := w.join(hub, c)
	var remove []func()
	for status, share := range map[int]float64{http.StatusConflict: 0.3, http.StatusTooManyRequests: 0.2, http.StatusInternalServerError: 0.1} {
		remove = append(remove, faults.Inject(env.Fault{Match: statuses, Status: status, Share: share}))
	}
	for round := range rounds {
		w.put(c, nil, names(c, count)...)
		w.until(fmt.Sprintf("the spoke to have round %d", round), func(context.Context) (bool, error) {
			return len(w.spoke.journal.Of(w.mark, c)) >= count*(round+1), nil
		})
	}
	for _, r := range remove {
		r()
	}
	began := time.Now()
	w.equal(c)
	w.within(30*time.Second, began, "persisting every last status after the faults")
	w.verdict(c)
	t.Logf("%d of %d writes had been refused", faults.Refused(statuses), faults.Refused(statuses)+faults.Count(statuses))
	require.NotZero(t, faults.Refused(statuses))
	w.reaches(agent, "fairlead_agent_statuses_unpersisted", atMost(0))
}

// TestT19_acknowledgements_overtake_statuses: while no status can be written,
// new works are stored, acknowledged and applied all the same.
func TestT19_acknowledgements_overtake_statuses(t *testing.T) {
	t.Parallel()
	pending, more := house.Scaled(15, 5000), house.Scaled(5, 100)
	t.Logf("scale: %d statuses pending, %d works", pending, more)
	w := newWorld(t)
	c := w.unique("t19")
	faults, behind := w.throughFaults()
	hub := w.replica(behind, w.proxy(""))
	agent := w.join(hub, c)
	restore := faults.Inject(env.Fault{Match: statuses, Status: http.StatusTooManyRequests})
	defer restore()
	w.put(c, nil, names(c+"-old", pending)...)
	w.reaches(agent, "fairlead_agent_statuses_unpersisted", atLeast(float64(pending)))
	const soon = `le="0.5"`
	before, inTime := w.metric(hub, "fairlead_hub_delivery_seconds_count"), w.metric(hub, "fairlead_hub_delivery_seconds_bucket", soon)
	began := time.Now()
	w.put(c, nil, names(c+"-new", more)...)
	w.reaches(hub, "fairlead_hub_delivery_seconds_count", atLeast(before+float64(more)))
	inTime = w.metric(hub, "fairlead_hub_delivery_seconds_bucket", soon) - inTime
	t.Logf("%d works were made and acknowledged in %s, %v of them within 500 ms each, behind %d statuses", more, time.Since(began).Round(time.Millisecond), inTime, pending)
	if house.Soak() {
		require.GreaterOrEqual(t, inTime, float64(more)*0.99, "p99 of the acknowledgements")
	}
	require.GreaterOrEqual(t, w.metric(agent, "fairlead_agent_statuses_unpersisted"), float64(pending), "they are still waiting")
	require.Zero(t, w.metric(hub, "fairlead_hub_statuses_total", `code="PERSISTED"`), "nothing was written, so nothing is said to be")
	restore()
	w.verdict(c)
}

// TestT33_apiserver_away: a hub that loses its apiserver stays up and unready,
// its agents correct drift, and nothing is deleted when it is back.
func TestT33_apiserver_away(t *testing.T) {
	t.Parallel()
	t.Logf("scale: away %s", house.Scaled("until the hub has given its sessions up and drift was healed", "10 min (full)"))
	w := newWorld(t)
	c := w.unique("t33")
	away := w.proxy(strings.TrimPrefix(w.plane.RESTConfig().Host, "https://"))
	config := w.plane.RESTConfig()
	config.Host = "https://" + away.Address()
	file := filepath.Join(w.dir, "away.kubeconfig")
	require.NoError(t, env.WriteKubeconfig(file, config))
	hub := w.replica(hubOptions{rest: true, kubeconfig: file}, w.proxy(""))
	agent := w.join(hub, c)
	w.put(c, nil, names(c, 5)...)
	w.equal(c)
	pid := hub.PID()
	away.Set(netfault.Rule{Refuse: true})
	away.Reset()
	w.until("the hub to be unready", func(ctx context.Context) (bool, error) {
		ok, err := ready(ctx, hub)
		return err == nil && !ok, err
	})
	w.reaches(agent, "fairlead_agent_connected", atMost(0))
	w.put(c, nil, c+"-meanwhile")

	mark := w.spoke.journal.Mark()
	_, err := w.spoke.kube.CoreV1().ConfigMaps(check.Namespace).Patch(t.Context(), c+"-0", types.MergePatchType, []byte(`{"data":{"drift":"made by hand"}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	w.until("the drift to be healed", func(ctx context.Context) (bool, error) {
		object, err := w.spoke.kube.CoreV1().ConfigMaps(check.Namespace).Get(ctx, c+"-0", metav1.GetOptions{})
		return err == nil && (object.Data["drift"] == "" || len(w.spoke.journal.Since(mark, c+"-0")) > 1), err
	})
	w.linger(10 * time.Minute)
	require.True(t, hub.Alive())
	away.Set(netfault.Rule{})
	w.until("the hub to be ready again", func(ctx context.Context) (bool, error) { return ready(ctx, hub) })
	w.verdict(c)
	require.Equal(t, pid, hub.PID(), "the hub was not restarted")
	for _, e := range w.spoke.journal.Of(w.mark, c) {
		require.NotEqual(t, watch.Deleted, e.What, "%+v", e)
	}
}

// TestT08_restored_hub_is_the_authority restores a hub's etcd from a backup in
// which the works have older generations: agents go back to them.
func TestT08_restored_hub_is_the_authority(t *testing.T) {
	t.Parallel()
	count := house.Scaled(6, 100)
	t.Logf("scale: %d works", count)
	side, err := startHubSide("t8")
	require.NoError(t, err)
	w := newWorldOn(t, side)
	c := w.unique("t8")
	faults, behind := w.throughFaults()
	hub := w.replica(behind, w.proxy(""))
	w.join(hub, c)
	all := names(c, count)
	w.put(c, nil, all...)
	w.equal(c)
	backup, err := w.plane.Snapshot(t.Context())
	require.NoError(t, err)
	for range 3 {
		w.put(c, nil, all...)
	}
	w.equal(c)
	faults.ResetCounts()
	w.history.Close() // a restore is beyond what it can tell
	mark := w.spoke.journal.Mark()
	require.NoError(t, w.plane.Restore(t.Context(), backup))
	w.equal(c) // the objects, and the statuses with the generations of the backup
	read := faults.Count(env.Match{Verbs: []string{"get"}, Resources: []string{"manifestworks"}})
	t.Logf("%d quorum reads for %d works", read, count)
	require.GreaterOrEqual(t, read, count, "nothing goes back on the word of a cache")
	for _, e := range w.spoke.journal.Of(mark, c) {
		require.Equal(t, watch.Modified, e.What, "%+v", e)
	}
	w.noAlarm(0)
}

// TestT18_slow_spoke has every answer of the spoke's apiserver come late: what
// was sent is not sent again because nothing came of it yet.
func TestT18_slow_spoke(t *testing.T) {
	t.Parallel()
	delay, count, rounds := house.Scaled(time.Second, 5*time.Second), house.Scaled(10, 50), 2
	t.Logf("scale: answers take %s, %d works, %d revisions each", delay, count, rounds)
	w := newWorld(t)
	c := w.unique("t18")
	slow := env.StartProxy(t, w.spoke.plane.RESTConfig())
	file := filepath.Join(t.TempDir(), "slow.kubeconfig")
	require.NoError(t, env.WriteKubeconfig(file, slow.RESTConfig()))
	hub := w.replica(hubOptions{}, w.proxy(""))
	out, err := hub.CLI(t.Context(), "token", "create", c, "--auto-accept")
	require.NoError(t, err)
	agent := w.agent(house.AgentConfig{Cluster: c, Join: strings.TrimSpace(out), Kubeconfig: file})
	w.availability(c, metav1.ConditionTrue)
	slow.Inject(env.Fault{Match: env.Match{Resources: []string{"configmaps", "appliedmanifestworks", "appliedmanifestworks/status"}}, Delay: delay})
	for range rounds {
		w.put(c, nil, names(c, count)...)
		w.equal(c)
	}
	w.verdict(c)
	sent := w.metric(agent, "fairlead_agent_objects_total")
	t.Logf("%v objects were sent for %d revisions", sent, count*rounds)
	require.LessOrEqual(t, sent, 1.05*float64(count*rounds))
}
