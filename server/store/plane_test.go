// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "store", CRDs: deploy.HubCRDs()}) }

func worksGVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "work.open-cluster-management.io", Version: "v1", Resource: "manifestworks"}
}

// user is a person with kubectl, in one cluster's namespace of their own.
type user struct {
	t       testing.TB
	dynamic dynamic.Interface
	cluster string
}

var clusterNumber atomic.Int64

// newUser makes a namespace for a cluster that no other test has.
func newUser(t testing.TB, cfg *rest.Config) user {
	t.Helper()
	client, err := dynamic.NewForConfig(cfg)
	require.NoError(t, err)
	clients, err := kubernetes.NewForConfig(cfg)
	require.NoError(t, err)
	cluster := fmt.Sprintf("cluster-%d", clusterNumber.Add(1))
	_, err = clients.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: cluster}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return user{t: t, dynamic: client, cluster: cluster}
}

func (u user) works() dynamic.ResourceInterface {
	return u.dynamic.Resource(worksGVR()).Namespace(u.cluster)
}

// create makes a work with one ConfigMap in it.
func (u user) create(name string) *unstructured.Unstructured {
	u.t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"workload": map[string]any{"manifests": []any{configMap("one")}}},
	}}
	o, err := u.works().Create(u.t.Context(), o, metav1.CreateOptions{})
	require.NoError(u.t, err)
	return o
}

func configMap(value string) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "web", "namespace": "default"}, "data": map[string]any{"key": value}}
}

func (u user) patch(name, patch string, subresources ...string) *unstructured.Unstructured {
	u.t.Helper()
	o, err := u.works().Patch(u.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, subresources...)
	require.NoError(u.t, err)
	return o
}

func (u user) get(name string) *unstructured.Unstructured {
	u.t.Helper()
	o, err := u.works().Get(u.t.Context(), name, metav1.GetOptions{})
	require.NoError(u.t, err)
	return o
}

func (u user) delete(name string) {
	u.t.Helper()
	require.NoError(u.t, u.works().Delete(u.t.Context(), name, metav1.DeleteOptions{}))
}

// status is the stored status of a work as JSON.
func (u user) status(name string) string {
	u.t.Helper()
	raw, err := json.Marshal(u.get(name).Object["status"])
	require.NoError(u.t, err)
	return string(raw)
}

// conditionTypes lists the conditions of a work.
func (u user) conditionTypes(name string) []string {
	u.t.Helper()
	conditions, _, err := unstructured.NestedSlice(u.get(name).Object, "status", "conditions")
	require.NoError(u.t, err)
	var all []string
	for _, c := range conditions {
		all = append(all, c.(map[string]any)["type"].(string))
	}
	return all
}

// runs keeps a task running until the test ends.
func runs(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// startIndex runs an index until the test ends, and waits until it has synced.
func startIndex(t testing.TB, cfg *rest.Config) *Index {
	t.Helper()
	x, err := NewIndex(IndexConfig{Config: cfg})
	require.NoError(t, err)
	runs(t, x.Run)
	synced(t, x)
	return x
}

// reaches waits until the index has a work in this or a newer state.
func reaches(t testing.TB, x *Index, o *unstructured.Unstructured) Work {
	t.Helper()
	var w Work
	eventually(t, "the index has "+o.GetName(), func() bool {
		var ok bool
		w, ok = x.View(o.GetNamespace()).Get(key(o.GetName()))
		return ok && parseRV(w.ResourceVersion) >= parseRV(o.GetResourceVersion())
	})
	return w
}

func parseRV(text string) (rv uint64) {
	_, _ = fmt.Sscan(text, &rv)
	return rv
}

func mustWorks(t testing.TB, cfg *rest.Config) works {
	t.Helper()
	w, err := newWorks(cfg)
	require.NoError(t, err)
	return w
}
