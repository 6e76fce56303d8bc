// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package version

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersion(t *testing.T) {
	cases := map[string]struct {
		reason   string
		build    debug.BuildInfo
		version  string
		commit   string
		contains string
	}{
		"release": {
			reason:  "a tagged module version is shown as it is",
			build:   debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}},
			version: "v1.2.3", contains: "fairlead v1.2.3 go",
		},
		"work tree": {
			reason: "a build from a work tree names the commit and that it was changed",
			build: debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"},
			}},
			version: "devel", commit: "abc-dirty", contains: "(abc-dirty)",
		},
		"nothing known": {reason: "no build information is no reason to fail", version: "devel", contains: "fairlead devel"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			info := from(&tc.build)
			require.Equal(t, tc.version, info.Version, tc.reason)
			require.Equal(t, tc.commit, info.Commit, tc.reason)
			require.Contains(t, info.String(), tc.contains, tc.reason)
		})
	}
	require.NotEmpty(t, Get().Go)
}
