// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reliability kills, cuts and restores the real hub and agents on real
// apiservers, and has an independent journal of the spoke say what happened to
// every object.
package reliability

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clusterclient "open-cluster-management.io/api/client/cluster/clientset/versioned"
	workclient "open-cluster-management.io/api/client/work/clientset/versioned"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/netfault/check"
)

// patience bounds each wait for something that has to come about.
const patience = 90 * time.Second

// orphanGrace is what hubs and agents wait before they delete what is gone from the
// hub: so shortly that a test sees what should not have been believed gone.
const orphanGrace = time.Second

// parallel is how many tests run at once: they wait for time to pass more than
// they work.
const parallel = 3

// What the tests of the package share is made when the first of them asks.
var (
	dir    string // of the binaries, and of the shared hub
	built  house.Binaries
	ending house.Endings
	rounds round
)

// round is what tests share while each of them runs once: names and kinds that they
// make are new in the next round, as with -count=2.
type round struct {
	mu    sync.Mutex
	ran   map[string]*testing.T // by name
	sides *sides
}

type sides struct {
	spoke func() (*env.Plane, error)
	hub   func() (hubSide, error)
}

// of returns what a test shares. All tests of the last round have ended when one of
// them runs again.
func (r *round) of(t *testing.T) *sides {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if before := r.ran[t.Name()]; r.sides == nil || before != nil && before != t {
		ending.Run()
		r.ran = map[string]*testing.T{}
		r.sides = &sides{sync.OnceValues(func() (*env.Plane, error) { return startPlane("spoke") }), sync.OnceValues(startSharedHub)}
	}
	r.ran[t.Name()] = t
	return r.sides
}

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "fairlead-reliability-"); err == nil {
		built, err = house.Build(context.Background(), dir, env.Race)
	}
	if err == nil {
		err = flag.Set("test.parallel", strconv.Itoa(max(parallel, runtime.GOMAXPROCS(0))))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	env.Verify(m, func(code int) int {
		ending.Run()
		_ = os.RemoveAll(dir) // a temporary folder
		return house.Untold(code)
	})
}

// startPlane starts a plane that all tests share.
func startPlane(name string) (*env.Plane, error) {
	plane, err := env.Start(context.Background(), env.Options{Name: name})
	if err != nil {
		return nil, err
	}
	ending.Add(plane.Stop)
	ending.Add(func() { house.Search(context.Background(), plane.RESTConfig()) })
	return plane, nil
}

// hubSide is a hub and its apiserver.
type hubSide struct {
	hubPlane *env.Plane
	hub      *house.Hub
}

// startSharedHub starts the hub of the tests that leave their hub alone.
func startSharedHub() (hubSide, error) {
	plane, err := startPlane("hub")
	if err != nil {
		return hubSide{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	hub, err := house.StartHub(ctx, house.HubConfig{
		Binaries: built, Dir: dir, Kubeconfig: plane.Kubeconfig(), REST: plane.RESTConfig(),
		Flags: []string{"--feature-gates=ManifestWorkReplicaSet=true", "--orphan-grace=" + orphanGrace.String()},
	})
	if err != nil {
		return hubSide{}, err
	}
	ending.Add(hub.Kill)
	return hubSide{plane, hub}, nil
}

// world is one hub with the processes around it, and the spoke apiserver that
// the agents of all tests apply to: each test has clusters and names of its own.
type world struct {
	hubSide
	t        *testing.T
	dir      string
	spoke    *env.Plane
	clusters clusterclient.Interface
	works    workclient.Interface
	hubKube  kubernetes.Interface
	kube     kubernetes.Interface // of the spoke
	journal  *journal
	shared   bool // other tests use the hub too
}

// journal is what happened on the spoke to objects of this test's works, whose
// names begin with the cluster's and "-".
type journal struct {
	*check.Journal
	cluster string // set by join
}

// Since is that of check.Journal; an empty name is every name of this test.
func (j *journal) Since(n int, name string) []check.Entry {
	return slices.DeleteFunc(j.Journal.Since(n, name), func(e check.Entry) bool { return name == "" && !j.ours(e.Name) })
}

// Deletions is that of check.Journal, of this test's objects.
func (j *journal) Deletions(n int) []string {
	return slices.DeleteFunc(j.Journal.Deletions(n), func(deletion string) bool { return !j.ours(deletion) })
}

func (j *journal) ours(name string) bool { return strings.HasPrefix(name, j.cluster+"-") }

// newWorld starts a hub of its own, for tests that do something to their hub. It
// reaches its apiserver through kubeconfig when that is not empty.
func newWorld(t *testing.T, kubeconfig func(*env.Plane) string, hubFlags ...string) *world {
	t.Helper()
	dir, plane := t.TempDir(), env.StartPlane(t, env.Options{Name: "hub"})
	config := house.HubConfig{Binaries: built, Dir: dir, Kubeconfig: plane.Kubeconfig(), REST: plane.RESTConfig()}
	config.Flags = append([]string{"--orphan-grace=" + orphanGrace.String()}, hubFlags...)
	if kubeconfig != nil {
		config.Kubeconfig = kubeconfig(plane)
	}
	hub, err := house.StartHub(t.Context(), config)
	require.NoError(t, err)
	w := &world{hubSide: hubSide{plane, hub}, t: t, dir: dir}
	t.Cleanup(func() { w.stopped(hub.Process) })
	w.connect()
	return w
}

// sharedWorld has the hub that other tests use meanwhile.
func sharedWorld(t *testing.T) *world {
	t.Helper()
	side, err := rounds.of(t).hub()
	require.NoError(t, err)
	w := &world{hubSide: side, t: t, dir: t.TempDir(), shared: true}
	t.Cleanup(func() { w.told(side.hub.Process) })
	w.connect()
	return w
}

// connect makes the clients of a world.
func (w *world) connect() {
	w.t.Helper()
	var err error
	w.spoke, err = rounds.of(w.t).spoke()
	require.NoError(w.t, err)
	w.clusters, err = clusterclient.NewForConfig(w.hubPlane.RESTConfig())
	require.NoError(w.t, err)
	w.works, err = workclient.NewForConfig(w.hubPlane.RESTConfig())
	require.NoError(w.t, err)
	w.hubKube, err = kubernetes.NewForConfig(w.hubPlane.RESTConfig())
	require.NoError(w.t, err)
	w.kube, err = kubernetes.NewForConfig(w.spoke.RESTConfig())
	require.NoError(w.t, err)
	all, err := check.NewJournal(w.t.Context(), w.kube)
	require.NoError(w.t, err)
	w.journal = &journal{Journal: all}
	w.t.Cleanup(all.Close)
}

// stopped ends a process; when the test has failed its log is shown.
func (w *world) stopped(p *house.Process) {
	took, err := p.Stop()
	w.t.Logf("%s stopped in %s (%v)", p.Name, took.Round(time.Millisecond), err)
	w.told(p)
}

// told shows the log of a process when the test has failed.
func (w *world) told(p *house.Process) {
	if !w.t.Failed() {
		return
	}
	raw, err := os.ReadFile(p.Log)
	lines := strings.Split(string(raw), "\n")
	w.t.Logf("the end of %s's log (%v):\n%s", p.Name, err, strings.Join(lines[max(0, len(lines)-60):], "\n"))
}

// join enrolls a cluster with an auto-accept token and waits until it is
// available.
func (w *world) join(name string, flags ...string) *house.Agent {
	w.t.Helper()
	out, err := w.hub.CLI(w.t.Context(), "token", "create", name, "--auto-accept")
	require.NoError(w.t, err)
	flags = append([]string{"--appliedmanifestwork-eviction-grace-period=" + orphanGrace.String()}, flags...)
	if w.shared { // agents of one hub on one spoke need it, to tell their inventories apart
		flags = append(flags, "--agent-id="+name)
	}
	agent, err := house.StartAgent(house.AgentConfig{Binaries: built, Dir: w.dir, Cluster: name, Join: strings.TrimSpace(out), Kubeconfig: w.spoke.Kubeconfig(), Flags: flags})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { w.stopped(agent.Process) })
	w.journal.cluster = name
	w.available(name)
	return agent
}

// nothingGone requires that no object of the cluster was deleted since the mark, and
// that none is to be: a work that really goes by force is an orphan whose grace period
// ends after that of whatever was taken for one before.
func (w *world) nothingGone(agent *house.Agent, cluster string, mark int) {
	w.t.Helper()
	w.until("the agent to say what it holds", func(ctx context.Context) (bool, error) { // it may have begun just now
		held, err := agent.Metric(ctx, "fairlead_agent_held_deletes")
		require.Zero(w.t, held, "deletes that are held")
		return err == nil, err
	})
	orphan := cluster + "-orphan"
	w.create(cluster, orphan, "1")
	w.settled(cluster, orphan, "1")
	works := w.works.WorkV1().ManifestWorks(cluster)
	w.until("the work to go without its finalizer, which the hub puts back", func(ctx context.Context) (bool, error) {
		bare, err := works.Patch(ctx, orphan, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		if err != nil {
			return false, err
		}
		err = works.Delete(ctx, orphan, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &bare.ResourceVersion}})
		return err == nil, err
	})
	w.until("what it left to go", func(ctx context.Context) (bool, error) {
		_, err := w.kube.CoreV1().ConfigMaps("default").Get(ctx, orphan, metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
	require.NoError(w.t, w.journal.Settle(w.t.Context()))
	gone := w.journal.Deletions(mark)
	require.Len(w.t, gone, 1, "%v", gone)
	require.Contains(w.t, gone[0], orphan)
}

func (w *world) available(name string) {
	w.t.Helper()
	w.until(name+" to be available", func(ctx context.Context) (bool, error) {
		cluster, err := w.clusters.ClusterV1().ManagedClusters().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		ok := meta.IsStatusConditionTrue(cluster.Status.Conditions, clusterv1.ManagedClusterConditionAvailable)
		return ok, fmt.Errorf("conditions %+v", cluster.Status.Conditions)
	})
}

func (w *world) until(what string, check func(context.Context) (bool, error)) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	require.NoError(w.t, house.Until(ctx, what, check))
}

// configMap is a manifest whose content tells the work's version.
func configMap(name, value string) workv1.Manifest {
	object := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Data:       map[string]string{"value": value, "secret": house.Canary},
	}
	return workv1.Manifest{RawExtension: k8sruntime.RawExtension{Object: object}}
}

func newWork(name, value string) *workv1.ManifestWork {
	work := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Name: name}}
	work.Spec.Workload.Manifests = []workv1.Manifest{configMap(name, value)}
	return work
}

func (w *world) create(cluster, name, value string) *workv1.ManifestWork {
	w.t.Helper()
	work, err := w.works.WorkV1().ManifestWorks(cluster).Create(w.t.Context(), newWork(name, value), metav1.CreateOptions{})
	require.NoError(w.t, err)
	return work
}

// settled waits until the spoke has the value and the hub the report of it.
func (w *world) settled(cluster, name, value string) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s/%s to be %q on the spoke and reported", cluster, name, value), func(ctx context.Context) (bool, error) {
		object, err := w.kube.CoreV1().ConfigMaps("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if object.Data["value"] != value {
			return false, fmt.Errorf("the spoke has %q", object.Data["value"])
		}
		work, err := w.works.WorkV1().ManifestWorks(cluster).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		applied := meta.FindStatusCondition(work.Status.Conditions, workv1.WorkApplied)
		ok := applied != nil && applied.Status == metav1.ConditionTrue && applied.ObservedGeneration == work.Generation
		return ok, fmt.Errorf("Applied of generation %d: %+v", work.Generation, applied)
	})
}

// names are base-0 to base-(n-1).
func names(base string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%d", base, i)
	}
	return out
}
