// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/condition"
	"fairlead.dev/fairlead/agent/work/inventory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMatches(t *testing.T) {
	key := inventory.Key{Group: "apps", Resource: "deployments", Namespace: "prod", Name: "web-1"}
	cases := map[string]struct {
		reason string
		id     workv1.ResourceIdentifier
		want   bool
	}{
		"same":          {reason: "all equal", id: workv1.ResourceIdentifier{Group: "apps", Resource: "deployments", Namespace: "prod", Name: "web-1"}, want: true},
		"wild":          {reason: "wildcards in both", id: workv1.ResourceIdentifier{Group: "apps", Resource: "deployments", Namespace: "*", Name: "web-*"}, want: true},
		"middle":        {reason: "a wildcard in the middle", id: workv1.ResourceIdentifier{Group: "apps", Resource: "deployments", Namespace: "p*d", Name: "*1"}, want: true},
		"wild_resource": {reason: "no wildcards elsewhere", id: workv1.ResourceIdentifier{Group: "*", Resource: "*", Namespace: "*", Name: "*"}},
		"other_name":    {reason: "another name", id: workv1.ResourceIdentifier{Group: "apps", Resource: "deployments", Namespace: "prod", Name: "web-2"}},
		"prefix":        {reason: "a name is whole", id: workv1.ResourceIdentifier{Group: "apps", Resource: "deployments", Namespace: "prod", Name: "web"}},
		"bad_pattern":   {reason: "what is no pattern matches nothing", id: workv1.ResourceIdentifier{Group: "apps", Resource: "deployments", Namespace: "prod", Name: "["}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, matches(tc.id, key), tc.reason) })
	}
}

func TestOrphans(t *testing.T) {
	key := inventory.Key{Resource: "configmaps", Namespace: "n", Name: "c"}
	rule := workv1.OrphaningRule{Resource: "configmaps", Namespace: "n", Name: "c"}
	selective := &workv1.DeleteOption{
		PropagationPolicy: "SelectivelyOrphan", SelectivelyOrphan: &workv1.SelectivelyOrphan{OrphaningRules: []workv1.OrphaningRule{rule}},
	}
	require.False(t, orphans(nil, key))
	require.False(t, orphans(&workv1.DeleteOption{PropagationPolicy: "Foreground"}, key))
	require.True(t, orphans(&workv1.DeleteOption{PropagationPolicy: "Orphan"}, key))
	require.True(t, orphans(selective, key))
	require.False(t, orphans(selective, inventory.Key{Resource: "configmaps", Namespace: "n", Name: "d"}))
	require.False(t, orphans(&workv1.DeleteOption{PropagationPolicy: "SelectivelyOrphan"}, key))
}

func TestHolds(t *testing.T) {
	listed := inventory.Resource{ResourceIdentifier: workv1.ResourceIdentifier{Group: "g", Resource: "things", Namespace: "n", Name: "x"}}
	unresolved := func(meta workv1.ManifestResourceMeta) *pass {
		return &pass{items: []*item{{outcome: condition.Outcome{Meta: meta}}}}
	}
	require.True(t, (&pass{desired: Desired{HoldPrune: true}}).holds(listed))
	require.False(t, (&pass{}).holds(listed))
	require.True(t, unresolved(workv1.ManifestResourceMeta{}).holds(listed), "a manifest that does not decode may be any object")
	require.True(t, unresolved(workv1.ManifestResourceMeta{Group: "g", Kind: "Thing", Namespace: "n", Name: "x"}).holds(listed), "its kind is not served now")
	require.False(t, unresolved(workv1.ManifestResourceMeta{Group: "g", Kind: "Thing", Namespace: "n", Name: "y"}).holds(listed))
	require.False(t, unresolved(workv1.ManifestResourceMeta{Group: "h", Kind: "Thing", Namespace: "n", Name: "x"}).holds(listed))
}

func TestConfigNamesWhatIsMissing(t *testing.T) {
	_, err := New(Config{HubHash: "h"})
	require.ErrorContains(t, err, "must be set")
}
