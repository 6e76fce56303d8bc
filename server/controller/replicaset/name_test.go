// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNames(t *testing.T) {
	seen := map[string]types.NamespacedName{}
	for _, set := range []types.NamespacedName{
		{Namespace: "ns", Name: "web"},
		{Namespace: "other", Name: "web"},
		{Namespace: "ns", Name: "web.v2"},
		{Namespace: "ns", Name: strings.Repeat("a", 60)},
		{Namespace: "ns", Name: strings.Repeat("a", 61)},
		{Namespace: "ns", Name: strings.Repeat("a", 253)},
		{Namespace: "ns", Name: strings.Repeat("a", 252) + "b"},
		{Namespace: strings.Repeat("n", 63), Name: strings.Repeat("a.", 126) + "a"},
	} {
		label, name := LabelValue(set), workName(set)
		require.Empty(t, validation.IsValidLabelValue(label))
		require.Empty(t, validation.IsDNS1123Subdomain(name))
		require.LessOrEqual(t, len(name), 63)
		require.NotContains(t, seen, label)
		require.NotContains(t, seen, name)
		seen[label], seen[name] = set, set
		if back, ok := setOf(label); ok {
			require.Equal(t, set, back)
		} else {
			require.Greater(t, len(set.Namespace)+1+len(set.Name), 63, "MH-08: a digest where there is no other way")
		}
		require.Equal(t, name, workName(set), "it never changes")
	}
	require.Equal(t, "ns.web", LabelValue(types.NamespacedName{Namespace: "ns", Name: "web"}), "MH-07")
}
