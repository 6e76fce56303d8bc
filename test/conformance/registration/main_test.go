// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package registration has the whole life of a cluster, row by row, with the real hub, agent and CLI: one hub plane, one spoke
// plane and one hub are shared by all tests, and each test has a cluster of its own.
package registration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
)

const (
	// patience bounds each wait for something that has to come about.
	patience = 90 * time.Second
	// listed is the user as whom the hub's CLI acts.
	listed = "system:serviceaccount:open-cluster-management-hub:fairlead-admin"
)

// the is what all tests share.
var the world

type world struct {
	dir        string
	binaries   house.Binaries
	plane      *env.Plane // of the hub
	spokePlane *env.Plane
	hub        *house.Hub
	kube       client.Client // on the hub, with every right
	spoke      client.Client // likewise
}

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	if err := the.start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		the.stop()
		os.Exit(1)
	}
	env.Verify(m, func(code int) int {
		the.stop()
		return house.Untold(code)
	})
}

func (w *world) start() (err error) {
	ctx := context.Background()
	if w.dir, err = os.MkdirTemp("", "fairlead-registration-"); err != nil {
		return err
	}
	if w.binaries, err = house.Build(ctx, w.dir, env.Race); err != nil {
		return err
	}
	if w.plane, err = env.Start(ctx, env.Options{Name: "hub"}); err != nil {
		return err
	}
	// With a garbage collector, so that what is to stay stays although there is one.
	if w.spokePlane, err = env.Start(ctx, env.Options{Name: "spoke", ControllerManager: true}); err != nil {
		return err
	}
	w.hub, err = house.StartHub(ctx, house.HubConfig{
		Binaries: w.binaries, Dir: w.dir, Kubeconfig: w.plane.Kubeconfig(), REST: w.plane.RESTConfig(),
		Flags: []string{"--feature-gates=ManagedClusterAutoApproval=true", "--cluster-auto-approval-users=" + listed},
	})
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), clusterv1.Install(scheme), clusterv1beta2.Install(scheme), workv1.Install(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	var errHub, errSpoke error
	w.kube, errHub = client.New(w.plane.RESTConfig(), client.Options{Scheme: scheme})
	w.spoke, errSpoke = client.New(w.spokePlane.RESTConfig(), client.Options{Scheme: scheme})
	if err := errors.Join(errHub, errSpoke); err != nil {
		return err
	}
	// The apiserver hears of the roles that were just made a moment later.
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := w.hub.CLI(ctx, "token", "list")
		return err == nil, nil
	})
}

func (w *world) stop() {
	if w.hub != nil && w.hub.Process != nil {
		_, _ = w.hub.Stop() // what does not stop is killed
	}
	for _, plane := range []*env.Plane{w.plane, w.spokePlane} {
		if plane != nil {
			plane.Stop()
		}
	}
	_ = os.RemoveAll(w.dir) // a temporary folder
}

// town is one test's part of the world: a cluster and its agent.
type town struct {
	*world
	t     *testing.T
	name  string
	agent *house.Agent
}

func newTown(t *testing.T) *town {
	t.Helper()
	return &town{world: &the, t: t, name: the.plane.Unique("life")}
}

// cli runs the CLI, which has to succeed.
func (w *town) cli(args ...string) string {
	w.t.Helper()
	out, err := w.hub.CLI(w.t.Context(), args...)
	require.NoError(w.t, err)
	return strings.TrimSpace(out)
}

// join starts an agent with a join string that the hub's admin, who is on the
// list, made.
func (w *town) join(flags ...string) *town {
	w.t.Helper()
	w.start(w.cli("token", "create", w.name), flags...)
	w.available()
	return w
}

func (w *town) start(join string, flags ...string) {
	w.t.Helper()
	agent, err := house.StartAgent(house.AgentConfig{
		Binaries: w.binaries, Dir: w.dir, Cluster: w.name, Join: join, Kubeconfig: w.spokePlane.Kubeconfig(),
		Flags: append([]string{"--agent-id=" + w.name}, flags...), // another town's leftovers are not its own
	})
	require.NoError(w.t, err)
	w.agent = agent
	w.t.Cleanup(func() {
		_, _ = agent.Stop()
		if w.t.Failed() {
			for _, log := range []string{agent.Log, w.hub.Log} {
				raw, _ := os.ReadFile(log)
				lines := strings.Split(string(raw), "\n")
				w.t.Logf("the end of %s:\n%s", filepath.Base(log), strings.Join(lines[max(0, len(lines)-40):], "\n"))
			}
		}
	})
}

func (w *town) available() {
	w.t.Helper()
	w.until("the cluster to be available", func() error {
		cluster := w.cluster()
		if meta.IsStatusConditionTrue(cluster.Status.Conditions, clusterv1.ManagedClusterConditionAvailable) {
			return nil
		}
		return fmt.Errorf("conditions %+v", cluster.Status.Conditions)
	})
}

// until waits for check to return nil.
func (w *town) until(what string, check func() error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	require.NoError(w.t, house.Until(ctx, what, func(context.Context) (bool, error) {
		err := check()
		return err == nil, err
	}))
}

// cluster is empty where there is none.
func (w *town) cluster() *clusterv1.ManagedCluster {
	cluster := &clusterv1.ManagedCluster{}
	if err := w.kube.Get(w.t.Context(), client.ObjectKey{Name: w.name}, cluster); err != nil {
		return &clusterv1.ManagedCluster{}
	}
	return cluster
}

func (w *town) gone() {
	w.t.Helper()
	w.until("the cluster to be gone", func() error {
		if cluster := w.cluster(); cluster.Name != "" {
			return fmt.Errorf("conditions %+v", cluster.Status.Conditions)
		}
		return nil
	})
}

func (w *town) condition(kind string) metav1.Condition {
	if found := meta.FindStatusCondition(w.cluster().Status.Conditions, kind); found != nil {
		return *found
	}
	return metav1.Condition{}
}

// enrollment is the one of the cluster that was made first.
func (w *town) enrollments() []v1alpha1.ClusterEnrollment {
	w.t.Helper()
	var list v1alpha1.ClusterEnrollmentList
	require.NoError(w.t, w.kube.List(w.t.Context(), &list, client.MatchingLabels{"open-cluster-management.io/cluster-name": w.name}))
	return list.Items
}

// work sends a ConfigMap of the cluster's name to the spoke and waits for the
// report that it is there.
func (w *town) work(name string) *workv1.ManifestWork {
	w.t.Helper()
	name = w.name + "-" + name // AppliedManifestWorks are of the hub and of that name, and all towns share a spoke
	work := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.name}}
	work.Spec.Workload.Manifests = []workv1.Manifest{{RawExtension: runtime.RawExtension{Object: &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
	}}}}
	require.NoError(w.t, w.kube.Create(w.t.Context(), work))
	return work
}

func (w *town) applied(work *workv1.ManifestWork) {
	w.t.Helper()
	w.until(work.Name+" to be applied", func() error {
		err := w.kube.Get(w.t.Context(), client.ObjectKeyFromObject(work), work)
		if err == nil && !meta.IsStatusConditionTrue(work.Status.Conditions, workv1.WorkAvailable) {
			err = fmt.Errorf("conditions %+v", work.Status.Conditions)
		}
		return err
	})
}

// there reads the ConfigMap of a work on the spoke.
func (w *town) there(work string) (*corev1.ConfigMap, error) {
	configMap := &corev1.ConfigMap{}
	err := w.spoke.Get(w.t.Context(), client.ObjectKey{Namespace: "default", Name: w.name + "-" + work}, configMap)
	return configMap, err
}

func (w *town) logged(log, text string) {
	w.t.Helper()
	w.until(fmt.Sprintf("the log to say %q", text), func() error {
		raw, err := os.ReadFile(log)
		if err == nil && !strings.Contains(string(raw), text) {
			err = errors.New("it does not yet")
		}
		return err
	})
}

// event waits for an Event about the cluster.
func (w *town) event(reason string) corev1.Event {
	w.t.Helper()
	var found corev1.Event
	w.until("event "+reason, func() error {
		var list corev1.EventList
		if err := w.kube.List(w.t.Context(), &list); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == reason && e.InvolvedObject.Name == w.name {
				found = e
				return nil
			}
		}
		return errors.New("there is none yet")
	})
	return found
}
