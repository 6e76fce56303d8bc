// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	inventoryv1alpha1 "sigs.k8s.io/cluster-inventory-api/apis/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/test/env"
)

// The gates of SIG Multicluster's kinds on a whole hub: it installs the kinds, and
// a decision points at the profile of the cluster that it is about.
func TestHub_gates_of_sig_multicluster(t *testing.T) {
	hub := startHub(t, env.Shared(t).RESTConfig(), func(cfg *server.Config) {
		cfg.InstallCRDs = true
		require.NoError(t, cfg.Gates.Set("SIGPlacementDecision=true,ClusterProfile=true"))
	}).ready()
	region := newRegion(hub, 1)
	region.placement("web", "")
	until(t, "the decision and the profile that it points at", func() error {
		decision, profile := &inventoryv1alpha1.PlacementDecision{}, &inventoryv1alpha1.ClusterProfile{}
		if err := hub.kube.Get(t.Context(), client.ObjectKey{Namespace: region.namespace, Name: "web-decision-1"}, decision); err != nil {
			return err
		}
		if len(decision.Decisions) != 1 {
			return fmt.Errorf("decisions: %v", decision.Decisions)
		}
		ref := decision.Decisions[0].ClusterProfileRef
		require.Equal(t, inventoryv1alpha1.ClusterProfileReference{Name: region.clusters[0], Namespace: region.namespace}, ref)
		return hub.kube.Get(t.Context(), client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, profile)
	})
	foreign := &inventoryv1alpha1.ClusterProfile{}
	err := hub.kube.Get(t.Context(), client.ObjectKey{Namespace: region.namespace, Name: region.name + "-foreign"}, foreign)
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}
