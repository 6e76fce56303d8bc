// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
)

func TestSelector(t *testing.T) {
	labelled := func(selector *metav1.LabelSelector) clusterv1beta2.ManagedClusterSelector {
		return clusterv1beta2.ManagedClusterSelector{SelectorType: clusterv1beta2.LabelSelector, LabelSelector: selector}
	}
	east := map[string]string{"region": "east", clusterv1beta2.ClusterSetLabel: "a"}
	for name, tc := range map[string]struct {
		by     clusterv1beta2.ManagedClusterSelector
		labels map[string]string
		in     bool
		err    string
	}{
		"RC-44 exclusive if unset":      {clusterv1beta2.ManagedClusterSelector{}, east, true, ""},
		"RC-45 by label":                {clusterv1beta2.ManagedClusterSelector{SelectorType: clusterv1beta2.ExclusiveClusterSetLabel}, east, true, ""},
		"RC-45 of another set":          {clusterv1beta2.ManagedClusterSelector{}, map[string]string{clusterv1beta2.ClusterSetLabel: "b"}, false, ""},
		"RC-45 of none":                 {clusterv1beta2.ManagedClusterSelector{}, nil, false, ""},
		"RC-46 empty is all":            {labelled(&metav1.LabelSelector{}), nil, true, ""},
		"RC-46 nil is none":             {labelled(nil), east, false, ""},
		"RC-46 some":                    {labelled(&metav1.LabelSelector{MatchLabels: map[string]string{"region": "east"}}), east, true, ""},
		"RC-46 not these":               {labelled(&metav1.LabelSelector{MatchLabels: map[string]string{"region": "west"}}), east, false, ""},
		"a selector nobody understands": {labelled(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: "Near"}}}), east, false, `labelSelector of ManagedClusterSet "a"`},
		"a type nobody knows":           {clusterv1beta2.ManagedClusterSelector{SelectorType: "Legacy"}, east, false, `"Legacy"`},
	} {
		t.Run(name, func(t *testing.T) {
			set := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: clusterv1beta2.ManagedClusterSetSpec{ClusterSelector: tc.by}}
			require.Equal(t, tc.in, Has(set, tc.labels))
			_, err := Selector(set)
			if tc.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.err)
		})
	}
}
