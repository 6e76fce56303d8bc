// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	workv1 "open-cluster-management.io/api/work/v1"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func entry(group, version, name, uid string) Resource {
	return Resource{ResourceIdentifier: workv1.ResourceIdentifier{Group: group, Resource: "r", Namespace: "n", Name: name}, Version: version, UID: uid}
}

func TestMerge(t *testing.T) {
	before := []Resource{entry("a", "v1", "x", "1"), entry("", "v1", "y", "2")}
	wanted := []Resource{entry("a", "v2", "x", ""), entry("", "v1", "z", ""), entry("", "v1", "y", "3")}
	require.Equal(t, []Resource{entry("", "v1", "y", "3"), entry("", "v1", "z", ""), entry("a", "v2", "x", "1")}, Merge(before, wanted),
		"a new version is the same object, a UID is kept until a newer one is known, and the list is sorted (MW-57)")
	require.Equal(t, []Resource{entry("", "v1", "y", "2")}, Without(before, wanted[:1]))
	require.Empty(t, Merge(nil, nil))
}

func TestMergeLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.Custom(func(t *rapid.T) Resource {
			return entry(rapid.SampledFrom([]string{"", "a"}).Draw(t, "group"), rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "version"),
				rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "name"), rapid.SampledFrom([]string{"", "1"}).Draw(t, "uid"))
		})
		before, wanted := rapid.SliceOf(list).Draw(t, "before"), rapid.SliceOf(list).Draw(t, "wanted")
		merged := Merge(before, wanted)
		keys := map[Key]bool{}
		for _, r := range merged {
			if keys[KeyOf(r)] {
				t.Fatalf("%v is listed twice", KeyOf(r))
			}
			keys[KeyOf(r)] = true
		}
		for _, r := range append(before, wanted...) {
			if !keys[KeyOf(r)] {
				t.Fatalf("%v was lost", KeyOf(r))
			}
		}
		if len(Without(merged, before))+len(Without(merged, Without(merged, before))) != len(merged) {
			t.Fatal("Without does not split the list")
		}
	})
}
