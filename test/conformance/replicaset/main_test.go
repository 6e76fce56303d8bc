// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package replicaset tests ManifestWorkReplicaSets row by row, with the hub's
// controller and its index of works on a real apiserver. What schedulers and
// agents would write, decisions and statuses of works, the tests write.
package replicaset

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/server/store"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard()) // the library logs to nobody
	env.Main(m, env.Options{Name: "replicaset", CRDs: deploy.HubCRDs()}, func() {
		if running.stop != nil {
			running.stop()
		}
	})
}

const (
	patience = time.Minute
	poll     = 30 * time.Millisecond

	setLabel       = "work.open-cluster-management.io/manifestworkreplicaset"
	placementLabel = "work.open-cluster-management.io/placementname"
	finalizer      = "work.open-cluster-management.io/manifest-work-cleanup"
)

// hub is the controller, running against the shared plane.
type hub struct {
	plane *env.Plane
	// kube is a person who may do everything, reading past all caches.
	kube  client.Client
	index *store.Index
}

var running struct {
	sync.Once
	hub  *hub
	err  error
	stop func()
}

// theHub starts the controller on first use; TestMain stops it.
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
	cfg := plane.RESTConfig()
	cfg.QPS = -1
	kube, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	mgr, err := manager.New(cfg, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{ByObject: controller.CacheOptions(""), DefaultTransform: cache.TransformStripManagedFields()},
	})
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("FAIRLEAD_TEST_LOG") != "" {
		log = slog.Default()
	}
	index, err := store.NewIndex(store.IndexConfig{Config: cfg, Log: log})
	if err != nil {
		return nil, err
	}
	selected, err := controller.Select("replicaset")
	if err != nil {
		return nil, err
	}
	deps := controller.Deps{Log: log, ReplicaSets: server.ReplicaSetWorks{Index: index}, ReplicaSetSettle: 50 * time.Millisecond}
	if err := controller.Add(mgr, deps, selected); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { _ = mgr.Start(running) }) // a failure shows in every test
	group.Go(func() { _ = index.Run(running) })
	setStop(func() { cancel(); group.Wait() })
	return &hub{plane: plane, kube: kube, index: index}, nil
}

func setStop(stop func()) { running.stop = stop }

// world is a namespace with a placement or two, and what a test makes in it.
type world struct {
	*hub
	t         *testing.T
	namespace string
	clusters  []string
}

// newWorld makes n clusters, which no placement chooses yet. They are named in the
// order of the alphabet.
func newWorld(t *testing.T, n int) *world {
	t.Helper()
	w := &world{hub: theHub(t), t: t}
	w.namespace = w.plane.Namespace(t, "team")
	base := w.plane.Unique("c")
	for i := range n {
		w.clusters = append(w.clusters, w.cluster(fmt.Sprintf("%s-%02d", base, i)))
	}
	return w
}

func (w *world) cluster(name string) string {
	w.t.Helper()
	require.NoError(w.t, w.kube.Create(w.t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	require.NoError(w.t, w.kube.Create(w.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	return name
}

// placement makes one, with a default of maxConcurrency if it is not "".
func (w *world) placement(name string, groups ...[]string) {
	w.t.Helper()
	p := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	require.NoError(w.t, w.kube.Create(w.t.Context(), p))
	w.decide(name, groups...)
}

// decide has a placement choose these clusters, by decision group: group 0 is
// named canary.
func (w *world) decide(placement string, groups ...[]string) {
	w.t.Helper()
	old := &clusterv1beta1.PlacementDecisionList{}
	require.NoError(w.t, w.kube.List(w.t.Context(), old, client.InNamespace(w.namespace), client.MatchingLabels{clusterv1beta1.PlacementLabel: placement}))
	for i, clusters := range groups {
		d := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace, Name: fmt.Sprintf("%s-decision-%d", placement, i+1),
			Labels: map[string]string{clusterv1beta1.PlacementLabel: placement, clusterv1beta1.DecisionGroupIndexLabel: strconv.Itoa(i), clusterv1beta1.DecisionGroupNameLabel: ""},
		}}
		if i == 0 {
			d.Labels[clusterv1beta1.DecisionGroupNameLabel] = "canary"
		}
		if i < len(old.Items) {
			d = &old.Items[i]
		} else {
			require.NoError(w.t, w.kube.Create(w.t.Context(), d))
		}
		d.Status.Decisions = []clusterv1beta1.ClusterDecision{}
		for _, cluster := range clusters {
			d.Status.Decisions = append(d.Status.Decisions, clusterv1beta1.ClusterDecision{ClusterName: cluster})
		}
		require.NoError(w.t, w.kube.Status().Update(w.t.Context(), d))
	}
	for i := len(groups); i < len(old.Items); i++ {
		require.NoError(w.t, w.kube.Delete(w.t.Context(), &old.Items[i]))
	}
}

func configMap(value string) workv1.Manifest {
	raw := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default"},"data":{"v":%q,"big":"12345678901234567890"}}`, value)
	return workv1.Manifest{RawExtension: runtime.RawExtension{Raw: []byte(raw)}}
}

// set makes a replica set of a ConfigMap with value 1, for these placements.
func (w *world) set(name string, change func(*workv1alpha1.ManifestWorkReplicaSet), placements ...string) *workv1alpha1.ManifestWorkReplicaSet {
	w.t.Helper()
	s := &workv1alpha1.ManifestWorkReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	s.Spec.ManifestWorkTemplate.Workload.Manifests = []workv1.Manifest{configMap("1")}
	for _, p := range placements {
		s.Spec.PlacementRefs = append(s.Spec.PlacementRefs, workv1alpha1.LocalPlacementReference{Name: p, RolloutStrategy: clusterv1alpha1.RolloutStrategy{Type: clusterv1alpha1.All}})
	}
	if change != nil {
		change(s)
	}
	require.NoError(w.t, w.kube.Create(w.t.Context(), s))
	return s
}

// patch changes an object as it is now.
func patch[T client.Object](w *world, object T, change func(T)) {
	w.t.Helper()
	require.NoError(w.t, w.kube.Get(w.t.Context(), client.ObjectKeyFromObject(object), object))
	before, ok := object.DeepCopyObject().(T)
	require.True(w.t, ok)
	change(object)
	require.NoError(w.t, w.kube.Patch(w.t.Context(), object, client.MergeFrom(before)))
}

// works are those of a set, by cluster, and those that are being deleted not.
func (w *world) works(c require.TestingT, s *workv1alpha1.ManifestWorkReplicaSet) map[string]workv1.ManifestWork {
	list := &workv1.ManifestWorkList{}
	require.NoError(c, w.kube.List(w.t.Context(), list, client.MatchingLabels{setLabel: s.Namespace + "." + s.Name}))
	by := map[string]workv1.ManifestWork{}
	for _, work := range list.Items {
		if work.DeletionTimestamp == nil {
			require.NotContains(c, by, work.Namespace, "one work per cluster")
			by[work.Namespace] = work
		}
	}
	return by
}

// await waits until exactly these clusters have the work with this value.
func (w *world) await(s *workv1alpha1.ManifestWorkReplicaSet, value string, clusters ...string) map[string]workv1.ManifestWork {
	w.t.Helper()
	var works map[string]workv1.ManifestWork
	w.eventually(func(c *assert.CollectT) {
		works = w.works(c, s)
		var have []string
		for cluster, work := range works {
			if strings.Contains(string(work.Spec.Workload.Manifests[0].Raw), fmt.Sprintf(`"v":%q`, value)) {
				have = append(have, cluster)
			}
		}
		slices.Sort(have)
		require.Equal(c, strings.Join(clusters, " "), strings.Join(have, " "))
	})
	return works
}

func (w *world) eventually(check func(c *assert.CollectT)) {
	w.t.Helper()
	require.EventuallyWithT(w.t, check, patience, poll)
}

// awaitCondition waits until a set says so.
func (w *world) awaitCondition(s *workv1alpha1.ManifestWorkReplicaSet, kind, status, reason string) metav1.Condition {
	w.t.Helper()
	var found metav1.Condition
	w.eventually(func(c *assert.CollectT) {
		require.NoError(c, w.kube.Get(w.t.Context(), client.ObjectKeyFromObject(s), s))
		condition := meta.FindStatusCondition(s.Status.Conditions, kind)
		require.NotNil(c, condition)
		require.Equal(c, status+" "+reason, string(condition.Status)+" "+condition.Reason, condition.Message)
		require.Equal(c, s.Generation, condition.ObservedGeneration)
		found = *condition
	})
	return found
}

// state is what an agent says of a work.
type state string

const (
	succeeded   state = "Progressing=False"
	progressing state = "Progressing=True"
	failed      state = "Progressing=True Degraded=True"
	unsaid      state = "" // applied, and nothing more
)

// say has the agents of clusters report.
func (w *world) say(s *workv1alpha1.ManifestWorkReplicaSet, how state, clusters ...string) {
	w.t.Helper()
	w.sayAt(s, how, time.Now(), clusters...)
}

// sayAt is say with a lastTransitionTime.
func (w *world) sayAt(s *workv1alpha1.ManifestWorkReplicaSet, how state, at time.Time, clusters ...string) {
	w.t.Helper()
	for _, cluster := range clusters {
		w.eventually(func(c *assert.CollectT) {
			work, ok := w.works(c, s)[cluster]
			require.True(c, ok)
			work.Status.Conditions = nil
			for condition := range strings.FieldsSeq("Applied=True Available=True " + string(how)) {
				kind, status, _ := strings.Cut(condition, "=")
				work.Status.Conditions = append(work.Status.Conditions, metav1.Condition{
					Type: kind, Status: metav1.ConditionStatus(status), Reason: "R", ObservedGeneration: work.Generation, LastTransitionTime: metav1.NewTime(at),
				})
			}
			require.NoError(c, w.kube.Status().Update(w.t.Context(), &work))
		})
	}
}

// settled returns when the controller has seen all that was written before: it has
// judged a new cluster of a set of its own, whose changes it sees by the same
// watches.
func (w *world) settled(s *workv1alpha1.ManifestWorkReplicaSet) {
	w.t.Helper()
	mark := w.plane.Unique("mark")
	patch(w, s, func(s *workv1alpha1.ManifestWorkReplicaSet) {
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		s.Labels["mark"] = mark
	})
	w.eventually(func(c *assert.CollectT) {
		for _, work := range w.works(c, s) {
			require.Equal(c, mark, work.Labels["mark"])
		}
	})
}

func inJSON(t *testing.T, value any) string {
	t.Helper()
	raw, err := json.Marshal(value)
	require.NoError(t, err)
	return string(raw)
}
