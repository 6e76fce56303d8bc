// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package placement tests how clusters are chosen for Placements, row by row, with
// the hub's controller of placements on a real apiserver. Nothing else of the hub
// runs: no controller of sets, bindings or taints, no webhooks.
package placement

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard()) // the library logs to nobody
	env.Main(m, env.Options{Name: "placement", CRDs: append(deploy.HubCRDs(), deploy.SIGPlacementDecisionCRD())}, func() {
		if running.hub != nil {
			running.hub.stop()
		}
	})
}

const (
	patience = time.Minute
	poll     = 20 * time.Millisecond
)

// hub is controllers, running against the shared plane.
type hub struct {
	plane *env.Plane
	// kube is a person who may do everything, reading past all caches.
	kube    client.Client
	metrics *prometheus.Registry
	stop    func()
}

var running struct {
	sync.Once
	hub *hub
	err error
}

// theHub starts the controllers on first use; TestMain stops them.
func theHub(t *testing.T) *hub {
	t.Helper()
	plane := env.Shared(t)
	running.Do(func() {
		running.hub, running.err = startHub(context.WithoutCancel(t.Context()), plane, "placement,sigplacementdecision")
	})
	require.NoError(t, running.err)
	return running.hub
}

// startHub runs controllers, which see the objects of these namespaces alone if
// any are given.
func startHub(ctx context.Context, plane *env.Plane, controllers string, namespaces ...string) (*hub, error) {
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
	options := cache.Options{DefaultTransform: cache.TransformStripManagedFields()}
	if len(namespaces) > 0 {
		options.DefaultNamespaces = map[string]cache.Config{}
		for _, namespace := range namespaces {
			options.DefaultNamespaces[namespace] = cache.Config{}
		}
	}
	mgr, err := manager.New(cfg, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Cache: options,
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)}, // tests run more than one
	})
	if err != nil {
		return nil, err
	}
	selected, err := controller.Select(controllers)
	if err != nil {
		return nil, err
	}
	h := &hub{plane: plane, kube: kube, metrics: prometheus.NewRegistry()}
	if err := controller.Add(mgr, controller.Deps{Registerer: h.metrics, Log: slog.New(slog.DiscardHandler)}, selected); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { _ = mgr.Start(running) }) // a failure shows in every test
	h.stop = func() { cancel(); group.Wait() }
	return h, nil
}

func eventually(t *testing.T, check func(c *assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, check, patience, poll)
}

// scene is a namespace with a set of its own that is bound to it.
type scene struct {
	*hub
	namespace, set string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	h := theHub(t)
	s := &scene{hub: h, namespace: h.plane.Namespace(t, "place")}
	s.set = s.newSet(t)
	s.bind(t, s.set)
	return s
}

func (s *scene) create(t *testing.T, object client.Object) {
	t.Helper()
	require.NoError(t, s.kube.Create(t.Context(), object))
}

func (s *scene) newSet(t *testing.T) string {
	t.Helper()
	set := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: s.plane.Unique("set")}}
	s.create(t, set)
	return set.Name
}

func (s *scene) bind(t *testing.T, set string) *clusterv1beta2.ManagedClusterSetBinding {
	t.Helper()
	binding := &clusterv1beta2.ManagedClusterSetBinding{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: set}}
	binding.Spec.ClusterSet = set
	s.create(t, binding)
	return binding
}

// cluster makes a healthy ManagedCluster of the scene's set. Its name sorts behind
// those made before.
func (s *scene) cluster(t *testing.T, labels map[string]string, change ...func(*clusterv1.ManagedCluster)) string {
	t.Helper()
	return s.clusterIn(t, s.set, labels, change...)
}

func (s *scene) clusterIn(t *testing.T, set string, labels map[string]string, change ...func(*clusterv1.ManagedCluster)) string {
	t.Helper()
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: sortable(s.plane.Unique("c")), Labels: map[string]string{clusterv1beta2.ClusterSetLabel: set}}}
	maps.Copy(cluster.Labels, labels)
	wanted := cluster.DeepCopy()
	for _, each := range change {
		each(wanted)
	}
	cluster.Spec, cluster.Finalizers = wanted.Spec, wanted.Finalizers
	s.create(t, cluster)
	cluster.Status = wanted.Status
	meta.SetStatusCondition(&cluster.Status.Conditions, metav1.Condition{Type: clusterv1.ManagedClusterConditionAvailable, Status: metav1.ConditionTrue, Reason: "Test"})
	require.NoError(t, s.kube.Status().Update(t.Context(), cluster))
	return cluster.Name
}

// sortable makes c-7 and c-10 sort by number.
func sortable(name string) string {
	digits := name[2:]
	for len(digits) < 5 {
		digits = "0" + digits
	}
	return "c" + digits
}

func (s *scene) clusters(t *testing.T, count int) []string {
	t.Helper()
	names := make([]string, 0, count)
	for range count {
		names = append(names, s.cluster(t, nil))
	}
	return names
}

// place makes a Placement.
func (s *scene) place(t *testing.T, change func(*clusterv1beta1.PlacementSpec)) *clusterv1beta1.Placement {
	t.Helper()
	p := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.plane.Unique("p")}}
	if change != nil {
		change(&p.Spec)
	}
	s.create(t, p)
	return p
}

// change changes an object as it is now; for status, use report.
func change[T client.Object](t *testing.T, s *scene, object T, how func(T)) {
	t.Helper()
	require.NoError(t, s.kube.Get(t.Context(), client.ObjectKeyFromObject(object), object))
	before, ok := object.DeepCopyObject().(T)
	require.True(t, ok)
	how(object)
	require.NoError(t, s.kube.Patch(t.Context(), object, client.MergeFrom(before)))
}

func report[T client.Object](t *testing.T, s *scene, object T, how func(T)) {
	t.Helper()
	require.NoError(t, s.kube.Get(t.Context(), client.ObjectKeyFromObject(object), object))
	before, ok := object.DeepCopyObject().(T)
	require.True(t, ok)
	how(object)
	require.NoError(t, s.kube.Status().Patch(t.Context(), object, client.MergeFrom(before)))
}

func named(name string) *clusterv1.ManagedCluster {
	return &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func (s *scene) relabel(t *testing.T, name, key, value string) {
	t.Helper()
	change(t, s, named(name), func(c *clusterv1.ManagedCluster) {
		if value == "" {
			delete(c.Labels, key)
			return
		}
		c.Labels[key] = value
	})
}

func (s *scene) taint(t *testing.T, name string, taints ...clusterv1.Taint) {
	t.Helper()
	for i := range taints {
		if taints[i].TimeAdded.IsZero() {
			taints[i].TimeAdded = metav1.Now()
		}
	}
	change(t, s, named(name), func(c *clusterv1.ManagedCluster) { c.Spec.Taints = taints })
}

// score makes an AddOnPlacementScore of a cluster, or changes it.
func (s *scene) score(t *testing.T, cluster, name string, until time.Time, scores map[string]int32) {
	t.Helper()
	s.ensureNamespace(t, cluster)
	score := &clusterv1alpha1.AddOnPlacementScore{ObjectMeta: metav1.ObjectMeta{Namespace: cluster, Name: name}}
	require.NoError(t, client.IgnoreAlreadyExists(s.kube.Create(t.Context(), score)))
	report(t, s, score, func(o *clusterv1alpha1.AddOnPlacementScore) {
		o.Status.Scores, o.Status.ValidUntil = nil, nil
		for key, value := range scores {
			o.Status.Scores = append(o.Status.Scores, clusterv1alpha1.AddOnPlacementScoreItem{Name: key, Value: value})
		}
		if !until.IsZero() {
			o.Status.ValidUntil = &metav1.Time{Time: until}
		}
	})
}

// decisions are those of a Placement, by name.
func (s *scene) decisions(t require.TestingT, p *clusterv1beta1.Placement) []clusterv1beta1.PlacementDecision {
	list := &clusterv1beta1.PlacementDecisionList{}
	require.NoError(t, s.kube.List(context.Background(), list, client.InNamespace(p.Namespace), client.MatchingLabels{clusterv1beta1.PlacementLabel: p.Name}))
	return list.Items
}

// chosen are the clusters of all decisions, sorted; never nil.
func chosen(decisions []clusterv1beta1.PlacementDecision) []string {
	names := []string{}
	for i := range decisions {
		for _, d := range decisions[i].Status.Decisions {
			names = append(names, d.ClusterName)
		}
	}
	slices.Sort(names)
	return names
}

// await waits until a Placement, as it is now, has exactly these clusters, and all
// of its status agrees.
func (s *scene) await(t *testing.T, p *clusterv1beta1.Placement, clusters ...string) {
	t.Helper()
	want := append([]string{}, clusters...)
	slices.Sort(want)
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, s.kube.Get(t.Context(), client.ObjectKeyFromObject(p), p))
		require.Equal(c, want, chosen(s.decisions(c, p)))
		require.Len(c, want, int(p.Status.NumberOfSelectedClusters))
		satisfied := meta.FindStatusCondition(p.Status.Conditions, clusterv1beta1.PlacementConditionSatisfied)
		require.NotNil(c, satisfied)
		require.Equal(c, p.Generation, satisfied.ObservedGeneration)
	})
}

// awaitCondition waits until a Placement, as it is now, has it.
func (s *scene) awaitCondition(t *testing.T, p *clusterv1beta1.Placement, kind string, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, s.kube.Get(t.Context(), client.ObjectKeyFromObject(p), p))
		found := meta.FindStatusCondition(p.Status.Conditions, kind)
		require.NotNil(c, found)
		require.Equal(c, []string{string(status), reason}, []string{string(found.Status), found.Reason})
		require.Equal(c, p.Generation, found.ObservedGeneration)
		if message != "" {
			require.Equal(c, message, found.Message)
		}
	})
}

func (s *scene) awaitSatisfied(t *testing.T, p *clusterv1beta1.Placement, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	s.awaitCondition(t, p, clusterv1beta1.PlacementConditionSatisfied, status, reason, message)
}

// awaitMisconfigured waits until a Placement is; its message begins like that.
func (s *scene) awaitMisconfigured(t *testing.T, p *clusterv1beta1.Placement, message string) {
	t.Helper()
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, s.kube.Get(t.Context(), client.ObjectKeyFromObject(p), p))
		found := meta.FindStatusCondition(p.Status.Conditions, clusterv1beta1.PlacementConditionMisconfigured)
		require.NotNil(c, found)
		require.Equal(c, []string{"True", "Misconfigured"}, []string{string(found.Status), found.Reason})
		require.Contains(c, found.Message, message)
	})
}

// settle returns when the controllers have seen what was written before.
func (s *scene) settle(t *testing.T) {
	t.Helper()
	s.await(t, s.place(t, func(spec *clusterv1beta1.PlacementSpec) { spec.ClusterSets = []string{"no-such-set"} }))
}

func (s *scene) ensureNamespace(t *testing.T, name string) {
	t.Helper()
	err := s.kube.Create(t.Context(), namespaceOf(name))
	require.NoError(t, errors.Join(client.IgnoreAlreadyExists(err)))
}
