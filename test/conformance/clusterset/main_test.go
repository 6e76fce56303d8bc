// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clusterset tests what the hub makes of ManagedClusterSets: memberships,
// the sets that are always there, bindings, managed namespaces and ClusterProfiles,
// row by row, with the hub's controllers on a real apiserver. The plane has no
// controller-manager: a namespace that is deleted stays Terminating.
package clusterset

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard()) // the library logs to nobody
	env.Main(m, env.Options{Name: "clusterset", CRDs: append(deploy.HubCRDs(), deploy.ClusterProfileCRD())}, func() {
		if running.stop != nil {
			running.stop()
		}
	})
}

const (
	patience = time.Minute
	poll     = 30 * time.Millisecond
)

// hub is the controllers of sets, running against the shared plane.
type hub struct {
	plane *env.Plane
	// kube is a person who may do everything, reading past all caches.
	kube client.Client
}

var running struct {
	sync.Once
	hub  *hub
	err  error
	stop func()
}

// theHub starts the controllers on first use; TestMain stops them.
func theHub(t *testing.T) *hub {
	t.Helper()
	plane := env.Shared(t)
	running.Do(func() { running.hub, running.err = startHub(context.WithoutCancel(t.Context()), plane) })
	require.NoError(t, running.err)
	return running.hub
}

func startHub(ctx context.Context, plane *env.Plane) (*hub, error) {
	scheme := runtime.NewScheme()
	if err := controller.AddToScheme(scheme); err != nil {
		return nil, err
	}
	kube, err := client.New(plane.RESTConfig(), client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	cfg := plane.RESTConfig()
	cfg.QPS = -1
	mgr, err := manager.New(cfg, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{ByObject: controller.CacheOptions(""), DefaultTransform: cache.TransformStripManagedFields()},
	})
	if err != nil {
		return nil, err
	}
	selected, err := controller.Select("clusterset,clustersetbinding,defaultclusterset,managednamespaces,clusterprofile")
	if err != nil {
		return nil, err
	}
	if err := controller.Add(mgr, controller.Deps{Log: slog.New(slog.DiscardHandler)}, selected); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { _ = mgr.Start(running) }) // a failure shows in every test
	setStop(func() { cancel(); group.Wait() })
	return &hub{plane: plane, kube: kube}, nil
}

func setStop(stop func()) { running.stop = stop }

// cluster makes a ManagedCluster with these labels.
func (h *hub) cluster(t *testing.T, labels map[string]string) *clusterv1.ManagedCluster {
	t.Helper()
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: h.plane.Unique("cluster"), Labels: labels}}
	require.NoError(t, h.kube.Create(t.Context(), cluster))
	return cluster
}

// set makes a ManagedClusterSet; without a selector, one of its label.
func (h *hub) set(t *testing.T, selector *metav1.LabelSelector, namespaces ...string) *clusterv1beta2.ManagedClusterSet {
	t.Helper()
	set := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: h.plane.Unique("set")}}
	if selector != nil {
		set.Spec.ClusterSelector = clusterv1beta2.ManagedClusterSelector{SelectorType: clusterv1beta2.LabelSelector, LabelSelector: selector}
	}
	for _, name := range namespaces {
		set.Spec.ManagedNamespaces = append(set.Spec.ManagedNamespaces, clusterv1.ManagedNamespaceConfig{Name: name})
	}
	require.NoError(t, h.kube.Create(t.Context(), set))
	return set
}

func (h *hub) bind(t *testing.T, namespace, set string) *clusterv1beta2.ManagedClusterSetBinding {
	t.Helper()
	binding := &clusterv1beta2.ManagedClusterSetBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: set}}
	binding.Spec.ClusterSet = set
	require.NoError(t, h.kube.Create(t.Context(), binding))
	return binding
}

// patch changes an object as it is now.
func patch[T client.Object](t *testing.T, h *hub, object T, change func(T)) {
	t.Helper()
	require.NoError(t, h.kube.Get(t.Context(), client.ObjectKeyFromObject(object), object))
	before, ok := object.DeepCopyObject().(T)
	require.True(t, ok)
	change(object)
	require.NoError(t, h.kube.Patch(t.Context(), object, client.MergeFrom(before)))
}

// label puts a label onto a cluster, or takes it off if value is "".
func (h *hub) label(t *testing.T, cluster *clusterv1.ManagedCluster, key, value string) {
	t.Helper()
	patch(t, h, cluster, func(c *clusterv1.ManagedCluster) {
		if value == "" {
			delete(c.Labels, key)
			return
		}
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[key] = value
	})
}

func eventually(t *testing.T, check func(c *assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, check, patience, poll)
}

// awaitCount waits until a set says so of its clusters.
func (h *hub) awaitCount(t *testing.T, set *clusterv1beta2.ManagedClusterSet, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(set), set))
		found := meta.FindStatusCondition(set.Status.Conditions, "ClusterSetEmpty")
		require.NotNil(c, found)
		require.Equal(c, []string{string(status), reason, message}, []string{string(found.Status), found.Reason, found.Message})
	})
}

func (h *hub) awaitBound(t *testing.T, binding *clusterv1beta2.ManagedClusterSetBinding, status metav1.ConditionStatus, reason string) {
	t.Helper()
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, h.kube.Get(t.Context(), client.ObjectKeyFromObject(binding), binding))
		found := meta.FindStatusCondition(binding.Status.Conditions, "Bound")
		require.NotNil(c, found)
		require.Equal(c, []string{string(status), reason}, []string{string(found.Status), found.Reason})
	})
}

// awaitEvent waits for an event of that reason, regarding that object.
func (h *hub) awaitEvent(t *testing.T, reason, name string) {
	t.Helper()
	eventually(t, func(c *assert.CollectT) { require.Positive(c, h.events(t, c, reason, name)) })
}

// events counts the events of a reason, regarding an object.
func (h *hub) events(t *testing.T, c require.TestingT, reason, name string) (count int) {
	t.Helper()
	list := &eventsv1.EventList{}
	require.NoError(c, h.kube.List(t.Context(), list))
	for i := range list.Items {
		if list.Items[i].Reason == reason && list.Items[i].Regarding.Name == name {
			count++
			if series := list.Items[i].Series; series != nil {
				count += int(series.Count) - 1
			}
		}
	}
	return count
}
