// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reliability kills, cuts and restores the real hub and agents on real
// apiservers, and has an independent journal of the spoke say what happened to
// every object.
package reliability

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
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

// built are the binaries, made once for all tests of the package.
var built house.Binaries

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "fairlead-reliability-")
	if err == nil {
		built, err = house.Build(context.Background(), dir, env.Race)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	env.Verify(m, func(code int) int {
		_ = os.RemoveAll(dir) // a temporary folder
		return code
	})
}

// world is one hub and one spoke apiserver with the processes around them.
type world struct {
	t        *testing.T
	dir      string
	hubPlane *env.Plane
	spoke    *env.Plane
	hub      *house.Hub
	clusters clusterclient.Interface
	works    workclient.Interface
	hubKube  kubernetes.Interface
	kube     kubernetes.Interface // of the spoke
	journal  *check.Journal
}

// newWorld starts planes and hub. The hub reaches its apiserver through
// kubeconfig when that is not empty.
func newWorld(t *testing.T, kubeconfig func(*env.Plane) string, hubFlags ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.hubPlane = env.StartPlane(t, env.Options{Name: "hub"})
	w.spoke = env.StartPlane(t, env.Options{Name: "spoke"})
	config := house.HubConfig{Binaries: built, Dir: w.dir, Kubeconfig: w.hubPlane.Kubeconfig(), REST: w.hubPlane.RESTConfig(), Flags: hubFlags}
	if kubeconfig != nil {
		config.Kubeconfig = kubeconfig(w.hubPlane)
	}
	hub, err := house.StartHub(t.Context(), config)
	require.NoError(t, err)
	w.hub = hub
	t.Cleanup(func() { w.stopped(w.hub.Process) })
	w.clusters, err = clusterclient.NewForConfig(w.hubPlane.RESTConfig())
	require.NoError(t, err)
	w.works, err = workclient.NewForConfig(w.hubPlane.RESTConfig())
	require.NoError(t, err)
	w.hubKube, err = kubernetes.NewForConfig(w.hubPlane.RESTConfig())
	require.NoError(t, err)
	w.kube, err = kubernetes.NewForConfig(w.spoke.RESTConfig())
	require.NoError(t, err)
	w.journal, err = check.NewJournal(t.Context(), w.kube)
	require.NoError(t, err)
	t.Cleanup(w.journal.Close)
	return w
}

// stopped ends a process; when the test has failed its log is shown.
func (w *world) stopped(p *house.Process) {
	took, err := p.Stop()
	w.t.Logf("%s stopped in %s (%v)", p.Name, took.Round(time.Millisecond), err)
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
	agent, err := house.StartAgent(house.AgentConfig{Binaries: built, Dir: w.dir, Cluster: name, Join: strings.TrimSpace(out), Kubeconfig: w.spoke.Kubeconfig(), Flags: flags})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { w.stopped(agent.Process) })
	w.available(name)
	return agent
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
		Data:       map[string]string{"value": value},
	}
	return workv1.Manifest{RawExtension: runtime.RawExtension{Object: object}}
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
