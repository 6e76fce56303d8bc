// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

// FuzzPredicate: whatever an author writes into a predicate or a toleration, the
// placement is decided, twice the same, and never gets at a cluster that is not
// bound.
func FuzzPredicate(f *testing.F) {
	for _, seed := range []string{
		`managedCluster.scores("s").exists(s, s.value > 1)`, `managedCluster.status.clusterClaims[0].value.parseJSON().a[0] == 1`,
		`managedCluster.metadata.labels["region"].matches("e.*")`, `{"a": managedCluster}.a.scores("s").size() > 0`, `quantity("1").isGreaterThan(quantity("2"))`, `1/0 == 1`, ``,
	} {
		f.Add(seed, "region", "In", "eu")
	}
	h := newHub(f)
	h.set("a")
	h.bind("n", "a")
	h.cluster("c1", "set=a", "region=eu", `claim:id={"a": [1]}`)
	h.cluster("c2", "set=a", "taint:k=v:NoSelect")
	h.cluster("secret", "set=b", "region=eu")
	h.score("c1", "s", "v=3")
	f.Fuzz(func(t *testing.T, expression, label, operator, value string) {
		p := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}}
		requirement := metav1.LabelSelectorRequirement{Key: label, Operator: metav1.LabelSelectorOperator(operator), Values: []string{value}}
		var by, other clusterv1beta1.ClusterPredicate
		by.RequiredClusterSelector.CelSelector.CelExpressions = []string{expression}
		other.RequiredClusterSelector.LabelSelector.MatchExpressions = []metav1.LabelSelectorRequirement{requirement}
		other.RequiredClusterSelector.ClaimSelector.MatchExpressions = []metav1.LabelSelectorRequirement{requirement}
		p.Spec.Predicates = []clusterv1beta1.ClusterPredicate{by, other}
		p.Spec.Tolerations = []clusterv1beta1.Toleration{{Key: label, Operator: clusterv1beta1.TolerationOperator(operator), Value: value}}
		h.t = t
		h.PutPlacement(p)
		outcome := h.decide("n/p")
		require.Equal(t, outcome, h.decide("n/p"))
		require.NotContains(t, outcome.Clusters, "secret")
		explained, _ := h.Explain(key("n/p"), h.now)
		require.Equal(t, outcome, explained.Outcome)
		require.Len(t, explained.All, 3)
	})
}
