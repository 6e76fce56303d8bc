// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGeneratedWritten: a work got its content when the hub last wrote it, which
// no agent's clock says.
func TestGeneratedWritten(t *testing.T) {
	entry := func(manager, at, more string) string {
		return fmt.Sprintf(`{"manager":%q,"operation":"Update","time":%q,"fieldsV1":{"f:spec":{"manager":"x"}}%s}`, manager, at, more)
	}
	const label = `"labels":{"work.open-cluster-management.io/manifestworkreplicaset":"ns.web"}`
	for name, tc := range map[string]struct {
		metadata string
		want     int64
	}{
		"created":        {`"creationTimestamp":"2026-01-02T03:04:05Z",` + label, 1767323045},
		"written":        {`"creationTimestamp":"2026-01-02T03:04:05Z",` + label + `,"managedFields":[` + entry("kubectl", "2026-01-02T09:00:00Z", "") + "," + entry(ReplicaSetManager, "2026-01-02T03:04:15Z", "") + `]`, 1767323055},
		"its status":     {`"creationTimestamp":"2026-01-02T03:04:05Z",` + label + `,"managedFields":[` + entry(ReplicaSetManager, "2026-01-02T03:04:15Z", `,"subresource":"status"`) + `]`, 1767323045},
		"nobody can say": {`"creationTimestamp":"yesterday",` + label, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Scan([]byte(`{"metadata":{"name":"w","namespace":"c","uid":"u",` + tc.metadata + `},"spec":{}}`))
			require.NoError(t, err)
			require.Equal(t, "ns.web", s.Generated.ReplicaSet)
			require.Equal(t, tc.want, s.Generated.Written)
		})
	}
	s, err := Scan([]byte(`{"metadata":{"name":"w","namespace":"c","uid":"u","labels":{"a":"work.open-cluster-management.io/manifestworkreplicaset"}},"spec":{}}`))
	require.NoError(t, err)
	require.Nil(t, s.Generated)
}
