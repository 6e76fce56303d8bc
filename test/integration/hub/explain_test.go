// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/scheduling"
	"fairlead.dev/fairlead/test/env"
)

// TestExplainPlacement asks two replicas, of which one does not run the
// controller of placements: they say the same, and what the decisions are.
func TestExplainPlacement(t *testing.T) {
	plane := env.Shared(t)
	namespace := plane.Unique("apps")
	e := &explained{running: startHub(t, plane.RESTConfig(), func(c *server.Config) { c.LeaderElect = false }).ready(), namespace: namespace}
	other := startHub(t, plane.RESTConfig(), func(c *server.Config) { c.LeaderElect, c.Controllers = false, "registration" }).ready()
	e.fleet(t)
	agent := newAgent(t, e.running, plane.Unique("explains"))
	sees := e.person(plane, plane.Unique("sees"), viewer, "")
	e.limited(t, plane.Unique("limited"))
	desk, elsewhere := e.desk(agent.trust, sees, nil), other.desk(newAgent(t, other, plane.Unique("explains")).trust, sees, nil)

	t.Run("chosen_and_why", func(t *testing.T) {
		e.placement(t, "two", nil, clusterv1beta1.PlacementSpec{NumberOfClusters: new(int32(1)), Predicates: []clusterv1beta1.ClusterPredicate{{
			RequiredClusterSelector: clusterv1beta1.ClusterSelector{LabelSelector: metav1.LabelSelector{MatchLabels: map[string]string{"region": "eu"}}},
		}}})
		e.awaitDecided(t, "two", 1)
		var answer *adminv1.ExplainPlacementResponse
		until(t, "the decision to be seen", func() (err error) {
			answer, err = explainOn(desk, namespace, "two", 0, "")
			if err == nil && !answer.GetClusters()[0].GetDecided() {
				err = errors.New("not yet")
			}
			return err
		})
		require.Contains(t, answer.GetVerdict(), "chooses 1 of 2 clusters that pass its filters")
		require.Equal(t, []string{namespace}, answer.GetEligibleSets())
		require.Equal(t, "True", answer.GetSatisfied().GetStatus())
		require.Len(t, answer.GetPrioritizers(), 2)
		require.Equal(t, map[string]string{
			e.name(1): "chosen", e.name(2): "", e.name(3): scheduling.FilterPredicate,
			e.name(4): scheduling.FilterTaintToleration, e.name(5): scheduling.FilterClusterSet,
		}, e.verdicts(answer))
		same, err := explainOn(elsewhere, namespace, "two", 0, "")
		require.NoError(t, err)
		require.Equal(t, e.verdicts(answer), e.verdicts(same), "another replica says the same")
		require.Equal(t, answer.GetVerdict(), same.GetVerdict())
	})
	t.Run("page_by_page", func(t *testing.T) {
		desk := e.desk(agent.trust, sees, nil) // waiting may have used up the other connection's calls
		whole, err := explainOn(desk, namespace, "two", 0, "")
		require.NoError(t, err)
		var names, want []string
		for _, c := range whole.GetClusters() {
			want = append(want, c.GetName())
		}
		size := int32(max(2, len(want)/3)) // other tests' clusters too, as often as they ran
		for token := ""; ; {
			page, err := explainOn(desk, namespace, "two", size, token)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.GetClusters()), int(size))
			for _, c := range page.GetClusters() {
				names = append(names, c.GetName())
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		require.Equal(t, want, names)
		_, err = explainOn(desk, namespace, "two", 2, "mine")
		require.Equal(t, codes.InvalidArgument, status.Code(err))
	})
	t.Run("PL-62_others_are_for_who_may_list_clusters", func(t *testing.T) {
		limited := e.desk(agent.trust, e.token(t), nil)
		answer, err := explainOn(limited, namespace, "two", 0, "")
		require.NoError(t, err)
		require.True(t, answer.GetOthersHidden())
		verdicts := e.verdicts(answer)
		require.NotContains(t, verdicts, e.name(5))
		require.Len(t, verdicts, 4)
		_, err = explainOn(limited, "default", "two", 0, "")
		require.Equal(t, codes.PermissionDenied, status.Code(err))
		_, err = explainOn(limited, namespace, "none", 0, "")
		require.Equal(t, codes.NotFound, status.Code(err))
	})
	t.Run("replica_sets_are_off", func(t *testing.T) {
		_, err := desk.placements.ExplainReplicaSet(desk.ctx, &adminv1.ExplainReplicaSetRequest{Namespace: namespace, Name: "any"})
		require.Equal(t, codes.FailedPrecondition, status.Code(err))
		require.ErrorContains(t, err, "--feature-gates=ManifestWorkReplicaSet=true")
	})
	t.Run("another_scheduler", func(t *testing.T) {
		e.placement(t, "foreign", map[string]string{v1alpha1.AnnotationScheduler: "cheapest"}, clusterv1beta1.PlacementSpec{})
		decision := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: "foreign-decision-1", Labels: map[string]string{clusterv1beta1.PlacementLabel: "foreign"},
			Annotations: map[string]string{v1alpha1.AnnotationDecision: `{"scheduler": "cheapest", "explanation": "it costs least"}`},
		}}
		require.NoError(t, e.kube.Create(t.Context(), decision))
		was := decision.DeepCopy()
		decision.Status.Decisions = []clusterv1beta1.ClusterDecision{{ClusterName: e.name(3)}}
		require.NoError(t, e.kube.Status().Patch(t.Context(), decision, client.MergeFrom(was)))
		answer, err := explainOn(elsewhere, namespace, "foreign", 0, "")
		require.NoError(t, err)
		require.Equal(t, "cheapest", answer.GetScheduler())
		require.Equal(t, "it costs least", answer.GetExplanation())
		require.Contains(t, answer.GetVerdict(), `decided by scheduler "cheapest", which has chosen 1 clusters`)
		require.Equal(t, "chosen", e.verdicts(answer)[e.name(3)])
		require.Empty(t, e.verdicts(answer)[e.name(1)])
	})
}

// explained is a hub with a fleet to choose from.
type explained struct {
	*running
	namespace, person1 string
}

func (e *explained) name(i int) string { return fmt.Sprintf("%s-c%d", e.namespace, i) }

// fleet has, in the set that is bound: two clusters in eu, one in us and one that
// is tainted; and one cluster outside.
func (e *explained) fleet(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, e.kube.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.namespace}}))
	require.NoError(t, e.kube.Create(ctx, &clusterv1beta2.ManagedClusterSet{
		ObjectMeta: metav1.ObjectMeta{Name: e.namespace},
		Spec: clusterv1beta2.ManagedClusterSetSpec{ClusterSelector: clusterv1beta2.ManagedClusterSelector{
			SelectorType: clusterv1beta2.LabelSelector, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"fleet": e.namespace}},
		}},
	}))
	require.NoError(t, e.kube.Create(ctx, &clusterv1beta2.ManagedClusterSetBinding{
		ObjectMeta: metav1.ObjectMeta{Name: e.namespace, Namespace: e.namespace}, Spec: clusterv1beta2.ManagedClusterSetBindingSpec{ClusterSet: e.namespace},
	}))
	for i, region := range []string{"eu", "eu", "us", "eu", ""} {
		c := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: e.name(i + 1), Labels: map[string]string{"fleet": e.namespace, "region": region}}}
		if region == "" {
			c.Labels = nil
		}
		if i == 3 {
			c.Spec.Taints = []clusterv1.Taint{{Key: "broken", Effect: clusterv1.TaintEffectNoSelect}}
		}
		require.NoError(t, e.kube.Create(ctx, c))
		t.Cleanup(func() { _ = e.kube.Delete(context.WithoutCancel(ctx), c) })
	}
}

func (e *explained) placement(t *testing.T, name string, annotations map[string]string, spec clusterv1beta1.PlacementSpec) {
	t.Helper()
	// Clusters that no agent answers for become unreachable before long.
	spec.Tolerations = []clusterv1beta1.Toleration{{Key: clusterv1.ManagedClusterTaintUnreachable, Operator: clusterv1beta1.TolerationOpExists}}
	require.NoError(t, e.kube.Create(t.Context(), &clusterv1beta1.Placement{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: e.namespace, Annotations: annotations}, Spec: spec,
	}))
}

func (e *explained) awaitDecided(t *testing.T, name string, count int32) {
	t.Helper()
	until(t, "the placement to be decided", func() error {
		p := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: e.namespace}}
		if err := e.kube.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		if p.Status.NumberOfSelectedClusters != count {
			return fmt.Errorf("%d clusters", p.Status.NumberOfSelectedClusters)
		}
		return nil
	})
}

// limited is a person who may get placements of the namespace and nothing else.
func (e *explained) limited(t *testing.T, person string) {
	t.Helper()
	ctx := t.Context()
	e.person1 = person
	require.NoError(t, e.kube.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: person, Namespace: "default"}}))
	require.NoError(t, e.kube.Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: person, Namespace: e.namespace},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{clusterv1.GroupName}, Resources: []string{"placements"}, Verbs: []string{"get"}}},
	}))
	require.NoError(t, e.kube.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: person, Namespace: e.namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: person},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: person, Namespace: "default"}},
	}))
}

func (e *explained) token(t *testing.T) string {
	t.Helper()
	config, err := env.Shared(t).TokenConfig(t.Context(), "default", e.person1)
	require.NoError(t, err)
	return config.BearerToken
}

func explainOn(d *desk, namespace, name string, size int32, token string) (*adminv1.ExplainPlacementResponse, error) {
	return d.placements.ExplainPlacement(d.ctx, &adminv1.ExplainPlacementRequest{Namespace: namespace, Name: name, PageSize: size, PageToken: token})
}

// verdicts are "chosen" or the filter, of the fleet's clusters.
func (e *explained) verdicts(answer *adminv1.ExplainPlacementResponse) map[string]string {
	out := map[string]string{}
	for _, c := range answer.GetClusters() {
		for i := range 5 {
			if c.GetName() == e.name(i+1) {
				out[c.GetName()] = c.GetFilter()
				if c.GetChosen() {
					out[c.GetName()] = "chosen"
				}
			}
		}
	}
	return out
}
