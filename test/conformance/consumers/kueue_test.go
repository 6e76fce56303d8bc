// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package consumers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	inventoryv1alpha1 "sigs.k8s.io/cluster-inventory-api/apis/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/decide"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/test/env"
)

// inventory runs the hub's controllers that make ClusterProfiles.
func inventory(t *testing.T, c client.Client) {
	t.Helper()
	mgr, err := manager.New(env.Shared(t).RESTConfig(), manager.Options{
		Scheme: c.Scheme(), Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"}, Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	require.NoError(t, err)
	list, err := controller.Select("clustersetbinding,clusterprofile")
	require.NoError(t, err)
	require.NoError(t, controller.Add(mgr, controller.Deps{}, list))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
}

// check reads as Kueue's controllers do: from the AdmissionCheck to the config that
// its parameters name, from there to the MultiKueueClusters, and from each by name to
// the ClusterProfile in Kueue's own namespace. It gives the profiles' names.
func check(ctx context.Context, c client.Client, namespace, name string) ([]string, error) {
	read := func(kind, name string) (*unstructured.Unstructured, error) {
		object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind}}
		return object, c.Get(ctx, client.ObjectKey{Name: name}, object)
	}
	admission, err := read("AdmissionCheck", name)
	if err != nil {
		return nil, err
	}
	controllerName, _, _ := unstructured.NestedString(admission.Object, "spec", "controllerName")
	parameters, _, _ := unstructured.NestedStringMap(admission.Object, "spec", "parameters")
	if controllerName != "kueue.x-k8s.io/multikueue" || parameters["apiGroup"] != "kueue.x-k8s.io" || parameters["kind"] != "MultiKueueConfig" {
		return nil, fmt.Errorf("MultiKueue does not look at AdmissionCheck %q: %v", name, admission.Object["spec"])
	}
	config, err := read("MultiKueueConfig", parameters["name"])
	if err != nil {
		return nil, err
	}
	clusters, _, _ := unstructured.NestedStringSlice(config.Object, "spec", "clusters")
	var profiles []string
	for _, name := range clusters {
		cluster, err := read("MultiKueueCluster", name)
		if err != nil {
			return nil, err
		}
		ref, _, _ := unstructured.NestedString(cluster.Object, "spec", "clusterSource", "clusterProfileRef", "name")
		profile := &inventoryv1alpha1.ClusterProfile{}
		if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref}, profile); err != nil {
			return nil, err
		}
		profiles = append(profiles, profile.Name)
	}
	return profiles, nil
}

// What MultiKueue dispatches to: the example as it is shipped, on Kueue's own CRDs,
// with the rights that it gives.
func TestKueue(t *testing.T) {
	ctx, c, plane := t.Context(), hub(t), env.Shared(t)
	texts := [][]byte{deploy.ClusterProfileCRD()}
	for _, kind := range []string{"multikueueclusters", "multikueueconfigs", "admissionchecks"} {
		text, err := os.ReadFile("testdata/kueue/kueue.x-k8s.io_" + kind + ".yaml")
		require.NoError(t, err)
		texts = append(texts, text)
	}
	require.NoError(t, env.InstallCRDs(ctx, plane.RESTConfig(), texts...))
	inventory(t, c)
	const namespace = "kueue-system"
	require.NoError(t, c.Create(ctx, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace}}}))
	require.NoError(t, c.Create(ctx, &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: "default"}}))
	for _, file := range []string{"kueue/placement.yaml", "kueue/rbac.yaml"} {
		for _, object := range example(t, file) {
			require.NoError(t, c.Create(ctx, object), object.GetName())
		}
	}
	names := []string{plane.Unique("worker"), plane.Unique("worker")}
	for _, name := range names {
		require.NoError(t, c.Create(ctx, &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{clusterv1beta2.ClusterSetLabel: "default"}}}))
	}
	sync := program(t, namespace)
	placement := &clusterv1beta1.Placement{}
	key := types.NamespacedName{Namespace: namespace, Name: "multikueue"}
	require.NoError(t, c.Get(ctx, key, placement))
	decided := func(t *testing.T, clusters ...string) {
		t.Helper()
		_, err := decide.Submitter{Reader: c, Writer: c}.Submit(ctx, decide.Decision{Placement: key, UID: placement.UID, ObservedGeneration: placement.Generation, Clusters: clusters})
		require.NoError(t, err)
	}
	out, err := sync()
	require.Error(t, err)
	require.Contains(t, out, "has no PlacementDecision", "nothing is written before anybody decided")

	for name, want := range map[string][]string{"PL-44_both": names, "PL-44_one": names[1:]} {
		t.Run(name, func(t *testing.T) {
			decided(t, want...)
			out, err := sync()
			require.NoError(t, err, out)
			require.EventuallyWithT(t, func(collect *assert.CollectT) {
				profiles, err := check(ctx, c, namespace, "multikueue")
				require.NoError(collect, err)
				require.Equal(collect, want, profiles)
			}, 30*time.Second, 50*time.Millisecond)
		})
	}
	t.Run("PL-44_not_said_yet", func(t *testing.T) {
		decision := &clusterv1beta1.PlacementDecision{}
		require.NoError(t, c.Get(ctx, types.NamespacedName{Namespace: namespace, Name: "multikueue-decision-1"}, decision))
		require.NoError(t, c.Delete(ctx, decision))
		decision.ResourceVersion, decision.UID, decision.Status.Decisions = "", "", nil
		require.NoError(t, c.Create(ctx, decision), "as after a restore: its status is yet to come")
		out, err := sync()
		require.Error(t, err)
		require.Contains(t, out, "has no status yet")
		profiles, err := check(ctx, c, namespace, "multikueue")
		require.NoError(t, err)
		require.NotEmpty(t, profiles, "what there is stays")
	})
	t.Run("PL-43_nobody", func(t *testing.T) {
		theirs := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "MultiKueueCluster", "metadata": map[string]any{"name": "by-hand"},
			"spec": map[string]any{"clusterSource": map[string]any{"kubeConfig": map[string]any{"location": "secret"}}},
		}}
		require.NoError(t, c.Create(ctx, theirs))
		decided(t)
		out, err := sync()
		require.NoError(t, err, out)
		_, err = check(ctx, c, namespace, "multikueue")
		require.ErrorContains(t, err, `multikueueconfigs.kueue.x-k8s.io "multikueue" not found`, "Kueue admits nothing")
		left := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "MultiKueueClusterList"}}
		require.NoError(t, c.List(ctx, left))
		require.Len(t, left.Items, 1, "what the program made is gone")
		require.Equal(t, "by-hand", left.Items[0].GetName())

		theirs = &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "MultiKueueConfig", "metadata": map[string]any{"name": "multikueue"},
			"spec": map[string]any{"clusters": []any{"by-hand"}},
		}}
		require.NoError(t, c.Create(ctx, theirs))
		version := theirs.GetResourceVersion()
		out, err = sync()
		require.NoError(t, err, out)
		decided(t, names...)
		out, err = sync()
		require.Error(t, err)
		require.Contains(t, out, "made by somebody else")
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(theirs), theirs))
		require.Equal(t, version, theirs.GetResourceVersion(), "neither changed nor deleted")
	})
}

// program builds the example's program and gives what runs it once.
func program(t *testing.T, namespace string) func() (string, error) {
	t.Helper()
	binary, kubeconfig := filepath.Join(t.TempDir(), "kueue"), filepath.Join(t.TempDir(), "kubeconfig")
	built, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "fairlead.dev/fairlead/deploy/examples/kueue").CombinedOutput()
	require.NoError(t, err, string(built))
	config, err := env.Shared(t).TokenConfig(t.Context(), namespace, "fairlead-multikueue")
	require.NoError(t, err)
	require.NoError(t, env.WriteKubeconfig(kubeconfig, config))
	return func() (string, error) {
		out, err := exec.CommandContext(t.Context(), binary, "--once", "--kubeconfig", kubeconfig).CombinedOutput()
		return string(out), err
	}
}
