// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package consumers

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/test/env"
)

// What KubeVela deploys to: it lists ManagedClusters, leaves out those that nobody
// accepted, and matches a topology policy's labels with theirs.
func TestKubeVela(t *testing.T) {
	ctx, c, plane := t.Context(), hub(t), env.Shared(t)
	application := example(t, "kubevela/application.yaml")
	require.Len(t, application, 1)
	policies, _, err := unstructured.NestedSlice(application[0].Object, "spec", "policies")
	require.NoError(t, err)
	require.Len(t, policies, 1)
	policy, ok := policies[0].(map[string]any)
	require.True(t, ok)
	require.Equal(t, "topology", policy["type"])
	selector, _, err := unstructured.NestedStringMap(policy, "properties", "clusterLabelSelector")
	require.NoError(t, err)

	made := map[string]*clusterv1.ManagedCluster{}
	for kind, labels := range map[string]map[string]string{
		"production": {"environment": "production"}, "unaccepted": {"environment": "production"}, "test": {"environment": "test"},
	} {
		made[kind] = &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: plane.Unique(kind), Labels: labels}}
		made[kind].Spec.HubAcceptsClient = kind != "unaccepted"
		require.NoError(t, c.Create(ctx, made[kind]))
	}
	var list clusterv1.ManagedClusterList
	require.NoError(t, c.List(ctx, &list, client.MatchingLabels(selector)))
	var names []string
	for i := range list.Items {
		if list.Items[i].Spec.HubAcceptsClient {
			names = append(names, list.Items[i].Name)
		}
	}
	require.Equal(t, []string{made["production"].Name}, names)
}
