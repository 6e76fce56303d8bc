// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/server/rpc/admin"
	"fairlead.dev/fairlead/test/env"
)

// explainer stands in for the World that explains, and counts how often it is made.
type explainer struct{ made atomic.Int32 }

const (
	explainedClusters = 7 // of which the last may not be chosen
	explainedPage     = 2
)

func (e *explainer) Explain(context.Context, *clusterv1beta1.Placement) (*adminv1.ExplainPlacementResponse, error) {
	answer := &adminv1.ExplainPlacementResponse{Verdict: fmt.Sprintf("explained %d times", e.made.Add(1))}
	for i := range explainedClusters {
		answer.Clusters = append(answer.Clusters, &adminv1.ClusterChoice{Name: fmt.Sprintf("c%d", i)})
	}
	answer.Clusters[explainedClusters-1].Filter = "ClusterSet"
	return answer, nil
}

// TestExplanationsArePaged: the pages of an explanation cost one explanation, and are
// for the person who asked for the first, of that placement, for a minute.
func TestExplanationsArePaged(t *testing.T) {
	worlds := &explainer{}
	f := newFaceOf(t, env.Shared(t).RESTConfig(), func(c *admin.Config) { c.Placements = worlds })
	namespace := f.plane.Unique("paged")
	_, err := f.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	placements := f.clusters.ClusterV1beta1().Placements(namespace)
	for _, name := range []string{"one", "two"} {
		_, err := placements.Create(t.Context(), &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	group := clusterv1beta1.GroupName
	all := f.as(t, namespace+"-all", "", rule(group, "placements", "get"), rule(group, "managedclusters", "list"))
	some := f.as(t, namespace+"-some", namespace, rule(group, "placements", "get"))
	page := func(who context.Context, name, token string) *adminv1.ExplainPlacementResponse {
		t.Helper()
		answer, err := f.Placements.ExplainPlacement(who, &adminv1.ExplainPlacementRequest{Namespace: namespace, Name: name, PageSize: explainedPage, PageToken: token})
		require.NoError(t, err)
		require.LessOrEqual(t, len(answer.GetClusters()), explainedPage)
		return answer
	}
	// rest reads on, and says what it saw and how many explanations that took.
	rest := func(who context.Context, name string, from *adminv1.ExplainPlacementResponse) (names []string, made int32) {
		t.Helper()
		before := worlds.made.Load()
		for token := from.GetNextPageToken(); token != ""; {
			next := page(who, name, token)
			if worlds.made.Load() == before {
				require.Equal(t, from.GetVerdict(), next.GetVerdict(), "all pages are of one moment")
			}
			for _, c := range next.GetClusters() {
				names = append(names, c.GetName())
			}
			token = next.GetNextPageToken()
		}
		return names, worlds.made.Load() - before
	}

	first := page(all, "one", "")
	require.False(t, first.GetOthersHidden())
	names, made := rest(all, "one", first)
	require.Equal(t, []string{"c2", "c3", "c4", "c5", "c6"}, names)
	require.Zero(t, made)
	require.Equal(t, int32(1), worlds.made.Load())
	require.NotEqual(t, first.GetVerdict(), page(all, "one", "").GetVerdict(), "a first page is always new")

	first = page(some, "one", "")
	require.True(t, first.GetOthersHidden())
	names, made = rest(some, "one", first)
	require.Equal(t, []string{"c2", "c3", "c4", "c5"}, names, "c6 is in no set of this namespace")
	require.Zero(t, made)

	_, made = rest(all, "one", first)
	require.Equal(t, int32(1), made, "another person's page token is where a page begins, and no more")
	first = page(all, "one", "")
	_, made = rest(all, "two", first)
	require.Equal(t, int32(1), made, "another placement's as well")

	first = page(all, "one", "")
	placement, err := placements.Get(t.Context(), "one", metav1.GetOptions{})
	require.NoError(t, err)
	placement.Spec.NumberOfClusters = new(int32(3))
	_, err = placements.Update(t.Context(), placement, metav1.UpdateOptions{})
	require.NoError(t, err)
	_, made = rest(all, "one", first)
	require.Equal(t, int32(1), made, "the placement is another one now")

	first = page(all, "one", "")
	f.later.Store(int64(61 * time.Second))
	names, made = rest(all, "one", first)
	require.Equal(t, int32(1), made, "a minute later it is explained anew, and that is kept")
	require.Len(t, names, 5)
}
