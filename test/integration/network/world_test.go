// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/netfault"
	"fairlead.dev/fairlead/test/netfault/check"
)

// patience bounds each wait for something that has to come about. It is for a
// machine that is busy with other things; what a threat allows is logged.
var patience = house.Scaled(3*time.Minute, time.Hour)

// orphanGrace is what hubs and agents wait before they delete what is gone from the
// hub: so shortly that a test sees what should not have been believed gone.
const orphanGrace = time.Second

// world is what one test has of its own on the shared apiservers.
type world struct {
	*hubSide

	t      *testing.T
	dir    string
	spoke  *spokeSide
	mark   int // of the journal, at the beginning
	hubs   []*house.Hub
	agents []*house.Agent
	values atomic.Int64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	side, err := shared()
	require.NoError(t, err)
	return newWorldOn(t, side)
}

func newWorldOn(t *testing.T, side *hubSide) *world {
	t.Helper()
	applies, err := spoke()
	require.NoError(t, err)
	return &world{hubSide: side, t: t, dir: t.TempDir(), spoke: applies, mark: applies.journal.Mark()}
}

// unique makes a name that no other test has, nor this one when it runs again:
// clusters and their works stay on the shared apiservers.
func (w *world) unique(name string) string { return fmt.Sprintf("%s-run%d", name, runs.Add(1)) }

// proxy is a network for agents, which leads nowhere yet.
func (w *world) proxy(target string) *netfault.Proxy {
	w.t.Helper()
	p, err := netfault.New(netfault.Config{Target: target})
	require.NoError(w.t, err)
	w.t.Cleanup(p.Close)
	return p
}

// hubOptions are what a test changes of its hub.
type hubOptions struct {
	rest        bool // Kubeconfig is set
	kubeconfig  string
	binary      string
	environment []string
	flags       []string
}

// replica starts a hub without controllers that agents reach through proxies,
// of which the first leads to it.
func (w *world) replica(options hubOptions, proxies ...*netfault.Proxy) *house.Hub {
	w.t.Helper()
	built, err := binaries()
	require.NoError(w.t, err)
	if options.binary != "" {
		built.Hub = options.binary
	}
	if !options.rest {
		options.kubeconfig = w.plane.Kubeconfig()
	}
	name := fmt.Sprintf("hub-%d", len(w.hubs))
	config := house.HubConfig{
		Binaries: built, Dir: w.dir, Name: name, Kubeconfig: options.kubeconfig, REST: w.plane.RESTConfig(),
		Flags: append([]string{"--controllers=", "--orphan-grace=" + orphanGrace.String()}, options.flags...), Environment: options.environment,
	}
	for _, p := range proxies {
		config.Endpoints = append(config.Endpoints, p.Address())
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	hub, err := house.StartHub(ctx, config)
	require.NoError(w.t, err)
	w.hubs = append(w.hubs, hub)
	w.t.Cleanup(func() { w.stopped(hub.Process) })
	proxies[0].Retarget(hub.AgentAddress)
	return hub
}

// throughFaults is a hub's start identity behind a proxy that can make its
// apiserver misbehave.
func (w *world) throughFaults() (*env.Proxy, hubOptions) {
	w.t.Helper()
	faults := env.StartProxy(w.t, w.plane.RESTConfig())
	file := filepath.Join(w.t.TempDir(), "faults.kubeconfig")
	require.NoError(w.t, env.WriteKubeconfig(file, faults.RESTConfig()))
	return faults, hubOptions{rest: true, kubeconfig: file}
}

// stopped ends a process; when the test has failed its log is shown.
func (w *world) stopped(p *house.Process) {
	p.Kill()
	if !w.t.Failed() {
		return
	}
	raw, err := os.ReadFile(p.Log)
	lines := strings.Split(string(raw), "\n")
	w.t.Logf("the end of %s's log (%v):\n%s", p.Name, err, strings.Join(lines[max(0, len(lines)-80):], "\n"))
}

// join enrolls a cluster at a hub and waits until it is available.
func (w *world) join(hub *house.Hub, cluster string, flags ...string) *house.Agent {
	w.t.Helper()
	out, err := hub.CLI(w.t.Context(), "token", "create", cluster, "--auto-accept")
	require.NoError(w.t, err)
	agent := w.agent(house.AgentConfig{Cluster: cluster, Join: strings.TrimSpace(out), Flags: flags})
	w.availability(cluster, metav1.ConditionTrue)
	return agent
}

// agent starts an agent whose inventories are told from other agents'.
func (w *world) agent(config house.AgentConfig) *house.Agent {
	w.t.Helper()
	built, err := binaries()
	require.NoError(w.t, err)
	if config.Binaries.Agent == "" {
		config.Binaries = built
	}
	config.Dir = w.dir
	if config.Kubeconfig == "" {
		config.Kubeconfig = w.spoke.plane.Kubeconfig()
	}
	config.Flags = append([]string{"--agent-id=" + config.Cluster, "--appliedmanifestwork-eviction-grace-period=" + orphanGrace.String()}, config.Flags...)
	agent, err := house.StartAgent(config)
	require.NoError(w.t, err)
	w.agents = append(w.agents, agent)
	w.t.Cleanup(func() { w.stopped(agent.Process) })
	return agent
}

func (w *world) until(what string, check func(context.Context) (bool, error)) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	require.NoError(w.t, house.Until(ctx, what, check))
}

// availability waits until the cluster's condition has this status.
func (w *world) availability(cluster string, want metav1.ConditionStatus) {
	w.t.Helper()
	w.until(cluster+" to have Available="+string(want), func(ctx context.Context) (bool, error) {
		got, err := w.clusters.ClusterV1().ManagedClusters().Get(ctx, cluster, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		c := meta.FindStatusCondition(got.Status.Conditions, clusterv1.ManagedClusterConditionAvailable)
		return c != nil && c.Status == want, fmt.Errorf("it has %+v", c)
	})
}

// lease sets how soon a silent cluster is Unknown.
func (w *world) lease(cluster string, seconds int) {
	w.t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"leaseDurationSeconds":%d}}`, seconds)
	_, err := w.clusters.ClusterV1().ManagedClusters().Patch(w.t.Context(), cluster, types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(w.t, err)
}

// value is one that was never used before.
func (w *world) value() string { return strconv.FormatInt(w.values.Add(1), 10) }

// put makes works, or gives them new content; each has one object of its name.
func (w *world) put(cluster string, payload func() string, names ...string) {
	w.t.Helper()
	group, ctx := errgroup.WithContext(w.t.Context())
	group.SetLimit(4)
	for _, name := range names {
		group.Go(func() error {
			work := check.Work(cluster, name, map[string]string{name: w.value()})
			content := house.Canary
			if payload != nil {
				content += payload()
			}
			check.WithPayload(work, content)
			return w.write(ctx, work)
		})
	}
	require.NoError(w.t, group.Wait())
}

func (w *world) write(ctx context.Context, work *workv1.ManifestWork) error {
	works := w.works.WorkV1().ManifestWorks(work.Namespace)
	_, err := works.Create(ctx, work, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	// The hub may write statuses faster than some tries.
	return wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		stored, err := works.Get(ctx, work.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		stored.Spec = work.Spec
		_, err = works.Update(ctx, stored, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			return false, nil
		}
		return err == nil, err
	})
}

func (w *world) remove(cluster string, names ...string) {
	w.t.Helper()
	for _, name := range names {
		require.NoError(w.t, w.works.WorkV1().ManifestWorks(cluster).Delete(w.t.Context(), name, metav1.DeleteOptions{}))
	}
}

// equal waits until each key is equal on both sides.
func (w *world) equal(clusters ...string) {
	w.t.Helper()
	began := time.Now()
	sides := check.Sides{Hub: w.works, Spoke: w.spoke.kube, Applied: w.spoke.applied}
	for _, cluster := range clusters {
		w.until("every key of "+cluster+" to be equal on both sides", func(ctx context.Context) (bool, error) {
			found, err := sides.Compare(ctx, cluster)
			if err == nil {
				err = found.Err()
			}
			return err == nil, err
		})
	}
	w.t.Logf("every key was equal after %s", time.Since(began).Round(time.Millisecond))
}

// verdict is the checker's last word: everything equal, nothing deleted that
// was not to be, nor held or about to be, nothing back that was gone, and no alarm
// on any hub.
func (w *world) verdict(clusters ...string) {
	w.t.Helper()
	w.equal(clusters...)
	w.nothingHeld()
	w.pace(time.Now().Add(2 * orphanGrace)) // until what was taken for an orphan would be gone
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for _, cluster := range clusters {
		found, err := check.Judge(ctx, w.history, w.spoke.journal, w.mark, cluster)
		require.NoError(w.t, err)
		require.NoError(w.t, found.Err())
	}
	w.noAlarm(0)
}

// nothingHeld requires that no agent holds a delete, as none of these tests has one
// that a person has to release.
func (w *world) nothingHeld() {
	w.t.Helper()
	for _, agent := range w.agents {
		w.until(agent.Name+" to say what it holds", func(ctx context.Context) (bool, error) { // it may have begun just now
			if !agent.Alive() {
				return true, nil
			}
			held, err := agent.Metric(ctx, "fairlead_agent_held_deletes")
			require.Zero(w.t, held, agent.Name)
			return err == nil, err
		})
	}
}

// noAlarm checks what must stay zero, but for mismatches that the test made.
func (w *world) noAlarm(mismatches float64) {
	w.t.Helper()
	sum := 0.0
	for _, hub := range w.hubs {
		for _, metric := range []string{"fairlead_hub_panics_total", "fairlead_hub_session_panics_total"} {
			require.Zero(w.t, w.metric(hub, metric), metric)
		}
		sum += w.metric(hub, "fairlead_hub_antientropy_mismatch_total")
	}
	require.InDelta(w.t, mismatches, sum, 0, "mismatches that nothing explains")
}

// measured is a process with metrics.
type measured interface {
	Metric(ctx context.Context, name string, labels ...string) (float64, error)
}

func (w *world) metric(of measured, name string, labels ...string) float64 {
	w.t.Helper()
	value, err := of.Metric(w.t.Context(), name, labels...)
	require.NoError(w.t, err)
	return value
}

// reaches waits until a metric is at least, or with less at most, a value.
func (w *world) reaches(of measured, name string, ok func(float64) bool, labels ...string) {
	w.t.Helper()
	w.until(name+" to get there", func(ctx context.Context) (bool, error) {
		value, err := of.Metric(ctx, name, labels...)
		if err == nil {
			err = fmt.Errorf("it is %v", value)
		}
		return ok(value), err
	})
}

func atLeast(n float64) func(float64) bool { return func(v float64) bool { return v >= n } }

func atMost(n float64) func(float64) bool { return func(v float64) bool { return v <= n } }

// pace returns at a time, so that changes come as fast as a threat says.
func (w *world) pace(at time.Time) {
	select {
	case <-time.After(time.Until(at)):
	case <-w.t.Context().Done():
	}
}

// linger lets a fault last as long as its threat says, in a soak; in CI what
// the fault brings about has been waited for already, and no more is needed.
func (w *world) linger(full time.Duration) {
	select {
	case <-time.After(house.Scaled(0, full)):
	case <-w.t.Context().Done():
	}
}

// within logs how long something took; in a soak it has to be what its threat allows.
func (w *world) within(limit time.Duration, began time.Time, what string) {
	w.t.Helper()
	took := time.Since(began)
	w.t.Logf("%s took %s (the threat says %s)", what, took.Round(time.Millisecond), limit)
	if house.Soak() {
		require.LessOrEqual(w.t, took, limit, what)
	}
}

// ready tells whether a hub says that it is.
func ready(ctx context.Context, hub *house.Hub) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+hub.HTTPAddress+"/readyz", http.NoBody)
	if err != nil {
		return false, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	return response.StatusCode == http.StatusOK, response.Body.Close()
}

// names are base-0 to base-(n-1).
func names(base string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%d", base, i)
	}
	return out
}
