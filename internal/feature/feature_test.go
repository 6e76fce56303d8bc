// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package feature

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/component-base/featuregate"
	ocmfeature "open-cluster-management.io/api/feature"
)

func TestGates(t *testing.T) {
	cases := map[string]struct {
		reason  string
		gates   func() *Gates
		row     featuregate.Feature
		initial bool
	}{
		"FG-01 DefaultClusterSet":      {"on at the hub", Hub, ocmfeature.DefaultClusterSet, true},
		"FG-02 auto approval":          {"off at the hub", Hub, ocmfeature.ManagedClusterAutoApproval, false},
		"FG-03 ResourceCleanup":        {"on at the hub", Hub, ocmfeature.ResourceCleanup, true},
		"FG-08 ClusterClaim":           {"on at the agent", Agent, ocmfeature.ClusterClaim, true},
		"FG-13 ManifestWorkReplicaSet": {"off at the hub", Hub, ocmfeature.ManifestWorkReplicaSet, false},
		"FG-20 SIGPlacementDecision":   {"off at the hub", Hub, SIGPlacementDecision, false},
		"FG-17 RawFeedbackJsonString":  {"off at the agent", Agent, ocmfeature.RawFeedbackJsonString, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			gates := tc.gates()
			require.Equal(t, tc.initial, gates.Enabled(tc.row), tc.reason)
			value := "true"
			if tc.initial {
				value = "false"
			}
			require.NoError(t, gates.Set(string(tc.row)+"="+value))
			require.Equal(t, !tc.initial, gates.Enabled(tc.row), "the flag turns it over")
			require.Equal(t, tc.initial, tc.gates().Enabled(tc.row), "sets are independent of each other")
		})
	}
}

func TestGates_FG21_unknown_name(t *testing.T) {
	err := Hub().Set("NoSuchGate=true")
	require.ErrorContains(t, err, "NoSuchGate")
	require.ErrorContains(t, err, "ResourceCleanup=true", "the error says what is known")
}

func TestGates_without_effect_are_named(t *testing.T) {
	gates := Agent()
	require.Empty(t, gates.Unheeded(), "defaults are no news")
	require.NoError(t, gates.Set("ClusterClaim=false,RawFeedbackJsonString=true,AddonManagement=true"))
	require.Equal(t, []string{"RawFeedbackJsonString=true"}, gates.Unheeded(ocmfeature.ClusterClaim))
	require.Empty(t, (*Gates)(nil).Unheeded())
}
