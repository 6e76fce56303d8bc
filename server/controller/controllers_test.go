// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-base/featuregate"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	ocmfeature "open-cluster-management.io/api/feature"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard()) //nolint:forbidigo // the library logs to nobody in tests
	goleak.VerifyTestMain(m)
}

func TestSelect(t *testing.T) {
	t.Parallel()
	sets := []string{"clusterset", "clustersetbinding", "defaultclusterset", "managednamespaces", "clusterprofile", "sigplacementdecision"}
	for name, tc := range map[string]struct {
		reason string
		spec   string
		want   []string
		err    string
	}{
		"all":             {"the default", "*", append([]string{"registration", "enrollment", "lease", "taint", "cleanup", "placement", "workttl", "replicaset", "gc"}, sets...), ""},
		"all but one":     {"a minus leaves out", "*,-lease", append([]string{"registration", "enrollment", "taint", "cleanup", "placement", "workttl", "replicaset", "gc"}, sets...), ""},
		"minus wins":      {"wherever it stands", "-lease,*,lease", append([]string{"registration", "enrollment", "taint", "cleanup", "placement", "workttl", "replicaset", "gc"}, sets...), ""},
		"some":            {"in the order of the list, spaces allowed", "lease, registration", []string{"registration", "lease"}, ""},
		"none":            {"a replica that only serves agents", "", nil, ""},
		"unknown":         {"a typing error must not run less than was meant", "registration,leese", nil, `no controller "leese"; known are registration, enrollment, lease`},
		"unknown minus":   {"nor more", "*,-leese", nil, `no controller "leese"`},
		"only minus":      {"all others, or none? ask", "-lease", nil, `"*,-lease"`},
		"star with minus": {"no such name", "-*", nil, `no controller "*"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := controller.Select(tc.spec)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err, tc.reason)
				return
			}
			require.NoError(t, err, tc.reason)
			require.ElementsMatch(t, tc.want, controller.Names(got), tc.reason)
		})
	}
}

// log is what was logged, readable while it is written.
type log struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *log) has(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buffer.String()) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			return true
		}
	}
	return false
}

func eventually(t *testing.T, check func(*assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, check, 2*time.Minute, 50*time.Millisecond)
}

// TestMissingCRDs starts all controllers on an apiserver without a single CRD,
// and then brings the CRDs one after the other.
func TestMissingCRDs(t *testing.T) {
	cfg := env.StartPlane(t, env.Options{Name: "controllers"}).RESTConfig()
	scheme := runtime.NewScheme()
	require.NoError(t, controller.AddToScheme(scheme))
	admin, err := client.New(cfg, client.Options{Scheme: scheme})
	require.NoError(t, err)
	require.NoError(t, kube.EnsureNamespace(t.Context(), admin, identity.HubNamespace))
	mgr, err := manager.New(cfg, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Cache:      cache.Options{ByObject: controller.CacheOptions(""), DefaultTransform: cache.TransformStripManagedFields()},
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)}, // the test may run again
	})
	require.NoError(t, err)
	said := &log{}
	all, err := controller.Select("*")
	require.NoError(t, err)
	list := controller.Gated(all, func(featuregate.Feature) bool { return false })
	require.Len(t, all, len(list)+5, "MH-01, MH-03, PL-63, RC-48 and RC-58 are behind gates")
	require.NoError(t, controller.Add(mgr, controller.Deps{Log: slog.New(slog.NewTextHandler(said, nil))}, list))

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	eventually(t, func(c *assert.CollectT) {
		for _, name := range controller.Names(list) {
			if name == "clustersetbinding" {
				continue // it does without clusters
			}
			require.True(c, said.has("controller="+name, "waits", "ManagedCluster.cluster.open-cluster-management.io/v1"), name)
		}
	})

	require.NoError(t, env.InstallCRDs(t.Context(), cfg, crds(t, "managedclusters.cluster")...))
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: "c1"}}
	cluster.Spec.HubAcceptsClient = true
	eventually(t, func(c *assert.CollectT) { // it is served, and discovery tells so a moment later
		require.NoError(c, client.IgnoreAlreadyExists(admin.Create(t.Context(), cluster)))
	})
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, admin.Get(t.Context(), client.ObjectKey{Name: "c1"}, &corev1.Namespace{}), "registration runs")
		require.NoError(c, admin.Get(t.Context(), client.ObjectKey{Namespace: "c1", Name: "managed-cluster-lease"}, &coordinationv1.Lease{}), "lease runs")
	})
	require.False(t, said.has(`"controller set up"`, "controller=enrollment"), "it still lacks its own kind")

	require.NoError(t, env.InstallCRDs(t.Context(), cfg, crds(t, "clusterenrollments")...))
	eventually(t, func(c *assert.CollectT) { require.True(c, said.has(`"controller set up"`, "controller=enrollment")) })
}

// crds are the hub's CRDs whose name contains a word.
func crds(t *testing.T, word string) [][]byte {
	t.Helper()
	var found [][]byte
	for _, doc := range deploy.HubCRDs() {
		if bytes.Contains(doc, []byte("\n  name: "+word)) {
			found = append(found, doc)
		}
	}
	require.NotEmpty(t, found)
	return found
}

// TestReplicaSets: without its gate, which is off by default, nobody looks at them.
func TestReplicaSets(t *testing.T) {
	t.Run("MH-03_its_gate", func(t *testing.T) {
		all, err := controller.Select("*")
		require.NoError(t, err)
		gates := func(on bool) func(featuregate.Feature) bool {
			return func(f featuregate.Feature) bool { return on && f == ocmfeature.ManifestWorkReplicaSet }
		}
		require.NotContains(t, controller.Names(controller.Gated(all, gates(false))), "replicaset")
		require.Contains(t, controller.Names(controller.Gated(all, gates(true))), "replicaset")
	})
}
