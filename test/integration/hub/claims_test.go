// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/test/env"
)

// T59: an agent that is in one set claims the labels by which placements choose,
// and the other set's label, and tries both in every field of its report. The
// report is stored, and the placements choose the clusters that people labelled.
func TestT59_claims_do_not_attract_placements(t *testing.T) {
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	region := newRegion(hub, 2)
	trusted := region.name + "-trusted"
	region.create(&clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: trusted}})
	region.create(&clusterv1beta2.ManagedClusterSetBinding{
		ObjectMeta: metav1.ObjectMeta{Name: trusted, Namespace: region.namespace}, Spec: clusterv1beta2.ManagedClusterSetBindingSpec{ClusterSet: trusted},
	})
	region.cluster(trusted, map[string]string{clusterv1beta2.ClusterSetLabel: trusted})
	attacker := newAgent(t, hub, region.name+"-attacker")
	attacker.join(hub.token(attacker.cluster, true), false)
	region.label(attacker.cluster, clusterv1beta2.ClusterSetLabel, region.name)
	region.label(region.clusters[0], "zone", "gold")
	region.create(&clusterv1beta1.Placement{
		ObjectMeta: metav1.ObjectMeta{Name: "gold", Namespace: region.namespace},
		Spec: clusterv1beta1.PlacementSpec{Tolerations: unhealthy(), Predicates: []clusterv1beta1.ClusterPredicate{
			{RequiredClusterSelector: clusterv1beta1.ClusterSelector{LabelSelector: metav1.LabelSelector{MatchLabels: map[string]string{"zone": "gold"}}}},
			{RequiredClusterSelector: clusterv1beta1.ClusterSelector{LabelSelector: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: "zone", Operator: metav1.LabelSelectorOpExists},
			}}}},
		}},
	})
	region.create(&clusterv1beta1.Placement{
		ObjectMeta: metav1.ObjectMeta{Name: "trusted", Namespace: region.namespace},
		Spec:       clusterv1beta1.PlacementSpec{Tolerations: unhealthy(), ClusterSets: []string{trusted}},
	})
	region.create(&clusterv1beta1.Placement{
		ObjectMeta: metav1.ObjectMeta{Name: "by-claim", Namespace: region.namespace},
		Spec: clusterv1beta1.PlacementSpec{Tolerations: unhealthy(), Predicates: []clusterv1beta1.ClusterPredicate{{RequiredClusterSelector: clusterv1beta1.ClusterSelector{
			ClaimSelector: clusterv1beta1.ClusterClaimSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "zone", Operator: metav1.LabelSelectorOpExists}}},
		}}}},
	})
	region.becomes("gold", region.clusters[0])
	region.becomes("trusted", trusted)

	s := attacker.session(&agentv1.Hello{})
	zone, set := &agentv1.ClusterReport{}, &agentv1.ClusterReport{}
	fill(zone.ProtoReflect(), "zone", 1)
	zone.Claims = map[string]string{"zone": "gold", clusterv1beta2.ClusterSetLabel: trusted, "labels": "zone=gold", "metadata": `{"labels":{"zone":"gold"}}`}
	fill(set.ProtoReflect(), clusterv1beta2.ClusterSetLabel, 1)
	set.Claims = map[string]string{clusterv1beta2.ClusterSetLabel: trusted, "zone": "gold"}
	for _, report := range []*agentv1.ClusterReport{zone, set} {
		s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_ClusterReport{ClusterReport: report}})
		region.claims(attacker.cluster, len(report.GetClaims()))
		// Who chooses by claims gets it, so the claims were looked at; and what comes
		// after them was too.
		region.becomes("by-claim", attacker.cluster)
		region.label(region.clusters[1], "zone", "gold")
		region.becomes("gold", region.clusters[:2]...)
		region.label(region.clusters[1], "zone", "")
		region.becomes("gold", region.clusters[0])
		region.becomes("trusted", trusted)
	}
	var after clusterv1.ManagedCluster
	require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKey{Name: attacker.cluster}, &after))
	require.Equal(t, region.name, after.Labels[clusterv1beta2.ClusterSetLabel])
	require.NotContains(t, after.Labels, "zone")
}

// label puts a label onto a cluster, or takes it off.
func (r *region) label(cluster, key, value string) {
	r.t.Helper()
	var wanted any
	if value != "" {
		wanted = value
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]any{key: wanted}}})
	require.NoError(r.t, err)
	object := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: cluster}}
	require.NoError(r.t, r.kube.Patch(r.t.Context(), object, client.RawPatch("application/merge-patch+json", patch)))
}

// claims waits for a cluster to have so many.
func (r *region) claims(cluster string, count int) {
	r.t.Helper()
	until(r.t, "the claims to be stored", func() error {
		object := &clusterv1.ManagedCluster{}
		if err := r.kube.Get(r.t.Context(), client.ObjectKey{Name: cluster}, object); err != nil {
			return err
		}
		if len(object.Status.ClusterClaims) != count {
			return fmt.Errorf("there are %v", object.Status.ClusterClaims)
		}
		return nil
	})
}

// TestPlacementDebugServer asks a whole hub, whose gate is on, over its HTTP
// listener; one whose gate is off has no such path.
func TestPlacementDebugServer(t *testing.T) {
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), func(c *server.Config) { require.NoError(t, c.Gates.Set("PlacementDebugServer=true")) }).ready()
	region := newRegion(hub, 2)
	region.placement("web", "")
	region.hubs("web")
	path := "/debug/placements/" + region.namespace + "/web"
	status, answer := region.ask(path, region.person(plane, plane.Unique("sees"), viewer, ""))
	require.Equal(t, http.StatusOK, status, "%s", answer)
	var said struct {
		AggregatedScores []struct {
			ClusterName string `json:"clusterName"`
		} `json:"aggregatedScores"`
	}
	require.NoError(t, json.Unmarshal(answer, &said))
	var names []string
	for _, score := range said.AggregatedScores {
		names = append(names, score.ClusterName)
	}
	require.Equal(t, region.clusters, slices.Sorted(slices.Values(names)))
	status, _ = region.ask(path, "")
	require.Equal(t, http.StatusUnauthorized, status)
	status, _ = region.ask(path, region.person(plane, plane.Unique("sees-not"), nobody, ""))
	require.Equal(t, http.StatusForbidden, status)

	hub.stop()
	off := startHub(t, plane.RESTConfig(), nil).ready()
	status, text := off.get(path)
	require.Equal(t, http.StatusNotFound, status, text)
}

// ask reads an HTTP path of the hub with a bearer token.
func (r *running) ask(path, token string) (int, []byte) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.addresses.HTTP+path, http.NoBody)
	require.NoError(r.t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(r.t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	return response.StatusCode, text
}
