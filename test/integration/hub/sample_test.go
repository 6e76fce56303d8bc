// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/test/env"
)

// The sample of deploy/examples/scheduler, with the rights of its own YAML: it gives
// placements the clusters with the most memory, moves them when that changes, leaves
// those of the hub's own scheduler alone, and reports scores.
func TestSchedulers_sample_decides(t *testing.T) {
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	region := newRegion(hub, 3)
	rights, err := os.ReadFile("../../../deploy/examples/scheduler/rbac.yaml")
	require.NoError(t, err)
	// A name of its own: a term of a run before this one may not be over.
	rights = bytes.ReplaceAll(rights, []byte("most-memory"), []byte(region.name))
	printed, err := plane.KubectlInput(t.Context(), bytes.NewReader(rights), "apply", "-f", "-")
	require.NoError(t, err, printed)
	for i, gibibytes := range []int{8, 64, 16} {
		region.memory(region.clusters[i], gibibytes)
	}
	region.memory(region.name+"-foreign", 512) // outside the set
	region.placement("web", region.name)
	region.placement("own", "")
	out := region.runSample()

	region.becomes("web", region.clusters[1])
	stored := &clusterv1alpha1.AddOnPlacementScore{}
	require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKey{Namespace: region.name + "-foreign", Name: region.name}, stored))
	require.EqualValues(t, 100, stored.Status.Scores[0].Value)
	region.memory(region.clusters[0], 128)
	region.becomes("web", region.clusters[0])
	two := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: region.namespace, Name: "web"}}
	require.NoError(t, hub.kube.Patch(t.Context(), two, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"numberOfClusters":2}}`))))
	region.becomes("web", region.clusters[:2]...)
	region.hubs("own")
	foreign := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: region.name + "-foreign"}}
	require.NoError(t, hub.kube.Patch(t.Context(), foreign, client.RawPatch(types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, clusterv1beta2.ClusterSetLabel, region.name))))
	region.becomes("web", region.clusters[0], foreign.Name) // once it asks again
	require.NoError(t, hub.kube.Delete(t.Context(), foreign))
	region.becomes("web", region.clusters[:2]...)
	until(t, "the sample to say so", func() error {
		if want := fmt.Sprintf("decided placement=%s/web clusters=\"%v\"", region.namespace, region.clusters[:2]); !strings.Contains(out(), want) {
			return fmt.Errorf("it says %q, not %q", out(), want)
		}
		return nil
	})
}

func (r *region) memory(cluster string, gibibytes int) {
	r.t.Helper()
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"status":{"allocatable":{"memory":"%s"}}}`, resource.NewQuantity(int64(gibibytes)<<30, resource.BinarySI)))
	object := &clusterv1.ManagedCluster{}
	object.Name = cluster
	require.NoError(r.t, r.kube.Status().Patch(r.t.Context(), object, patch))
}

// hubs waits for a placement to be decided, and shows that the hub's own scheduler
// did it: nobody's term is on the decision.
func (r *region) hubs(placement string) {
	r.t.Helper()
	until(r.t, "the hub to decide "+placement, func() error {
		if got := r.decided(placement); len(got) != 1 {
			return fmt.Errorf("it has %v", got)
		}
		return nil
	})
	decision := &clusterv1beta1.PlacementDecision{}
	require.NoError(r.t, r.kube.Get(r.t.Context(), client.ObjectKey{Namespace: r.namespace, Name: placement + "-decision-1"}, decision))
	require.NotContains(r.t, decision.Annotations, v1alpha1.AnnotationTerm)
}

func (r *region) becomes(placement string, want ...string) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("%s to have %v", placement, want), func() error {
		if got := slices.Sorted(slices.Values(r.decided(placement))); !slices.Equal(got, want) {
			return fmt.Errorf("it has %v", got)
		}
		return nil
	})
}

// runSample builds the sample and runs it until the test ends; out is what it says.
func (r *region) runSample() (out func() string) {
	t := r.t
	dir := t.TempDir()
	binary, ca, token := filepath.Join(dir, "scheduler"), filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	built, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "fairlead.dev/fairlead/deploy/examples/scheduler").CombinedOutput()
	require.NoError(t, err, "%s", built)
	var roots []byte
	for _, root := range newAgent(t, r.running, "none").trust.Roots {
		roots = append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})...)
	}
	require.NoError(t, os.WriteFile(ca, roots, 0o600))
	config, err := r.plane.TokenConfig(t.Context(), identity.HubNamespace, r.name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(token, []byte(config.BearerToken), 0o600))
	ctx, stop := context.WithCancel(t.Context())
	log := &journal{}
	sample := exec.CommandContext(ctx, binary, "--hub="+r.addresses.Admin, "--ca="+ca, "--token="+token, "--name="+r.name)
	sample.Stdout, sample.Stderr = log, log
	require.NoError(t, sample.Start())
	t.Cleanup(func() {
		stop()
		_ = sample.Wait() // it was killed
		require.NotContains(t, log.String(), "the scheduler ends")
	})
	return log.String
}
