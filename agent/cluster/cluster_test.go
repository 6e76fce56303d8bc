// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const claimCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: clusterclaims.cluster.open-cluster-management.io}
spec:
  group: cluster.open-cluster-management.io
  names: {kind: ClusterClaim, listKind: ClusterClaimList, plural: clusterclaims, singular: clusterclaim}
  scope: Cluster
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {value: {type: string}}}}}}
`

// hurried is a clock that runs ten times as fast.
type hurried struct {
	clock.RealClock
	start time.Time
}

const speed = 10

func (h hurried) Now() time.Time { return h.start.Add(speed * time.Since(h.start)) }

func (h hurried) After(d time.Duration) <-chan time.Time { return h.RealClock.After(d / speed) }

type spoke struct {
	kube    kubernetes.Interface
	dynamic dynamic.Interface
	watcher *Watcher
	changed chan struct{}
}

func watch(t *testing.T, cfg *rest.Config, edit ...func(*Config)) *spoke {
	t.Helper()
	kube, err := kubernetes.NewForConfig(cfg)
	require.NoError(t, err)
	dyn, err := dynamic.NewForConfig(cfg)
	require.NoError(t, err)
	s := &spoke{kube: kube, dynamic: dyn, changed: make(chan struct{}, 1000)}
	config := Config{
		Kube: kube, Dynamic: dyn, Log: slog.New(slog.DiscardHandler), Clock: hurried{start: time.Now()}, Period: 2 * time.Second,
		Claims:  true,
		Changed: func() { s.changed <- struct{}{} },
	}
	for _, f := range edit {
		f(&config)
	}
	s.watcher, err = New(config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.watcher.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return s
}

// until waits for facts.
func (s *spoke) until(t *testing.T, what string, is func(Facts) bool) Facts {
	t.Helper()
	deadline := time.After(40 * time.Second)
	for !is(s.watcher.Facts()) {
		select {
		case <-s.changed:
		case <-deadline:
			require.FailNow(t, what, "%+v", s.watcher.Facts())
		}
	}
	return s.watcher.Facts()
}

func (s *spoke) node(t *testing.T, name, cpu string, schedulable bool) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Unschedulable: !schedulable}}
	made, err := s.kube.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	require.NoError(t, err)
	list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("1Gi")}
	made.Status.Capacity, made.Status.Allocatable = list, list
	_, err = s.kube.CoreV1().Nodes().UpdateStatus(t.Context(), made, metav1.UpdateOptions{})
	require.NoError(t, err)
}

func (s *spoke) claim(t *testing.T, name, value string, labels map[string]any) {
	t.Helper()
	claim := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cluster.open-cluster-management.io/v1alpha1", "kind": "ClusterClaim",
		"metadata": map[string]any{"name": name, "labels": labels}, "spec": map[string]any{"value": value},
	}}
	_, err := s.dynamic.Resource(claimResource()).Create(t.Context(), claim, metav1.CreateOptions{})
	require.NoError(t, err)
}

func TestWatcher(t *testing.T) {
	t.Parallel()
	plane := env.StartPlane(t, env.Options{Name: "spoke", NoAudit: true})
	told := make(chan string, 100)
	s := watch(t, plane.RESTConfig(), func(c *Config) {
		c.Properties, c.ReservedSuffixes = true, []string{".reserved.dev"}
		c.Event = func(_ context.Context, reason, _ string) { told <- reason }
	})
	system, err := Fingerprint(t.Context(), s.kube)
	require.NoError(t, err)

	t.Run("RA-31_version_and_fingerprint", func(t *testing.T) {
		facts := s.until(t, "the first look", func(f Facts) bool { return f.Healthy && f.Version != "" })
		require.Equal(t, system, facts.Fingerprint)
		require.Equal(t, map[string]string{ClaimID: system, ClaimVersion: facts.Version}, facts.Claims)
	})
	t.Run("RA-32_capacity_of_all_allocatable_of_schedulable_nodes", func(t *testing.T) {
		s.node(t, "n1", "2", true)
		s.node(t, "n2", "1500m", true)
		s.node(t, "n3", "4", false)
		facts := s.until(t, "three nodes", func(f Facts) bool { return f.Capacity["cpu"] == "7500m" && f.Allocatable["cpu"] == "3500m" })
		require.Equal(t, "3Gi", facts.Capacity["memory"])
		_, err := s.kube.CoreV1().Nodes().Patch(t.Context(), "n1", types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		s.until(t, "a cordoned node", func(f Facts) bool { return f.Allocatable["cpu"] == "1500m" && f.Capacity["cpu"] == "7500m" })
	})
	t.Run("RA-33_RA-35_RA-36_claims", func(t *testing.T) {
		require.NoError(t, env.InstallCRDs(t.Context(), plane.RESTConfig(), []byte(claimCRD)))
		s.claim(t, ClaimID, "chosen", nil)
		s.claim(t, "platform.open-cluster-management.io", "Metal", nil)
		s.claim(t, "hidden", "x", map[string]any{spokeOnlyLabel: ""})
		for i := range 25 {
			s.claim(t, fmt.Sprintf("custom-%02d", i), "x", nil)
		}
		facts := s.until(t, "23 claims", func(f Facts) bool { return len(f.Claims) == 23 && f.Claims["custom-19"] != "" })
		require.Equal(t, "chosen", facts.Claims[ClaimID])
		require.Equal(t, "Metal", facts.Claims["platform.open-cluster-management.io"])
		require.NotContains(t, facts.Claims, "hidden")
		require.NotContains(t, facts.Claims, "custom-20", "sorted, then cut")
		require.Equal(t, "CustomClusterClaimsTruncated", <-told)
		s.claim(t, "zone.reserved.dev", "z", nil)
		s.until(t, "a reserved suffix is not cut off", func(f Facts) bool { return f.Claims["zone.reserved.dev"] == "z" })
	})
	t.Run("RA-34_properties_override_claims", func(t *testing.T) {
		property := strings.NewReplacer("cluster.open-cluster-management.io", "about.k8s.io", "ClusterClaim", "ClusterProperty", "clusterclaim", "clusterproperty").Replace(claimCRD)
		property = strings.ReplaceAll(property, "clusterpropertys", "clusterproperties")
		property = strings.Replace(property, "metadata: {", `metadata: {annotations: {api-approved.kubernetes.io: "unapproved, for a test"}, `, 1)
		require.NoError(t, env.InstallCRDs(t.Context(), plane.RESTConfig(), []byte(property)))
		o := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "about.k8s.io/v1alpha1", "kind": "ClusterProperty", "metadata": map[string]any{"name": "custom-00"}, "spec": map[string]any{"value": "property"},
		}}
		_, err := s.dynamic.Resource(propertyResource()).Create(t.Context(), o, metav1.CreateOptions{})
		require.NoError(t, err)
		s.until(t, "the property's value", func(f Facts) bool { return f.Claims["custom-00"] == "property" })
	})
	t.Run("RA-29_changes_do_not_wait_for_the_period", func(t *testing.T) {
		patient := watch(t, plane.RESTConfig(), func(c *Config) { c.Properties, c.Period = true, 1000*time.Hour })
		patient.until(t, "the first look", func(f Facts) bool { return f.Capacity["cpu"] == "7500m" && f.Claims["custom-00"] == "property" })
		patient.node(t, "n4", "1", true)
		patient.until(t, "a node", func(f Facts) bool { return f.Capacity["cpu"] == "8500m" })
		patient.claim(t, "a-new-one", "x", nil)
		patient.until(t, "a claim", func(f Facts) bool { return f.Claims["a-new-one"] == "x" })
		_, err := patient.dynamic.Resource(propertyResource()).Patch(t.Context(), "custom-00", types.MergePatchType, []byte(`{"spec":{"value":"changed"}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		patient.until(t, "a property", func(f Facts) bool { return f.Claims["custom-00"] == "changed" })

		seen := s.watcher.Facts().Observed // nothing happens to this one, whose period is short
		require.Eventually(t, func() bool { return s.watcher.Facts().Observed.Sub(seen) > 4*time.Second }, 40*time.Second, 20*time.Millisecond)
	})
	t.Run("RA-28_unavailable_after_20_s_of_failed_probes", func(t *testing.T) {
		before := s.watcher.Facts()
		began := s.watcher.cfg.Clock.Now()
		plane.Kill(env.APIServer)
		facts := s.until(t, "unhealthy", func(f Facts) bool { return !f.Healthy })
		require.GreaterOrEqual(t, s.watcher.cfg.Clock.Now().Sub(began), unhealthyFor)
		require.Equal(t, before.Capacity, facts.Capacity, "what was known stays")
		require.Equal(t, before.Claims, facts.Claims)
		require.NoError(t, plane.Launch(t.Context(), env.APIServer))
		s.until(t, "healthy again", func(f Facts) bool { return f.Healthy })
	})
}

func TestWatcherWithFewRights(t *testing.T) {
	t.Parallel()
	plane := env.StartPlane(t, env.Options{Name: "poor", NoAudit: true})
	cfg, err := plane.ConfigFor("nobody")
	require.NoError(t, err)
	s := watch(t, cfg)
	facts := s.until(t, "the version, which anybody may read", func(f Facts) bool { return f.Version != "" })
	require.Empty(t, facts.Capacity)
	require.Empty(t, facts.Fingerprint)
	require.True(t, facts.Healthy)

	t.Run("RA-27_healthz_where_livez_is_not_served_or_not_allowed", func(t *testing.T) {
		for livez, want := range map[int]bool{http.StatusNotFound: true, http.StatusForbidden: true, http.StatusInternalServerError: false} {
			asked := &livezAnswers{status: livez}
			cfg := rest.CopyConfig(cfg)
			cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { asked.next = next; return asked })
			kube, err := kubernetes.NewForConfig(cfg)
			require.NoError(t, err)
			w, err := New(Config{Kube: kube, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}})
			require.NoError(t, err)
			require.Equal(t, want, w.healthy(t.Context()), "%d", livez)
			require.Equal(t, want, asked.healthz.Load())
		}
	})
}

// livezAnswers is an apiserver with another answer to /livez.
type livezAnswers struct {
	next    http.RoundTripper
	status  int
	healthz atomic.Bool
}

func (l *livezAnswers) RoundTrip(request *http.Request) (*http.Response, error) {
	switch request.URL.Path {
	case "/livez":
		return &http.Response{StatusCode: l.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("no")), Request: request}, nil
	case "/healthz":
		l.healthz.Store(true)
	}
	return l.next.RoundTrip(request)
}
