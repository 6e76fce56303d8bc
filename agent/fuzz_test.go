// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/work/apply"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// FuzzWork takes any bytes for a work of the hub, and for a manifest in one. What
// is accepted is the object that it was announced as; what is refused says why.
// Whatever its manifests are, decoding them gives objects with a kind and a name,
// or an error, and changes only what a manifest does not decide.
func FuzzWork(f *testing.F) {
	const work = `{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"web","uid":"u"},"spec":{"workload":{"manifests":[%s]}}}`
	const manifest = `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","labels":{"a-":"","b":"c"},"uid":"x"},"stringData":{"k":"v"},"status":{}}`
	f.Add([]byte(fmt.Sprintf(work, manifest)), []byte(manifest))
	f.Add([]byte(fmt.Sprintf(work, `{"kind":"List","apiVersion":"v1","items":[]}`)), []byte(`{"kind":"List","apiVersion":"v1","items":[1]}`))
	f.Add([]byte(`{"metadata":{"name":"web","uid":"u"},"spec":null}`), []byte(`{"apiVersion":"v1","kind":"K","metadata":{"name":"n","labels":5,"annotations":{"x-":1}}}`))
	f.Add([]byte(`null`), []byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"data":[],"stringData":{"a":1}}`))
	f.Fuzz(func(t *testing.T, content, raw []byte) {
		key := wire.Key{Kind: wire.KindWork, Name: "web"}
		for _, one := range [][]byte{content, []byte(strings.Replace(work, "%s", string(raw), 1))} {
			if err := checkWork(key, wire.Revision{UID: "u"}, one); err != nil {
				var rejected *link.Rejected
				require.ErrorAs(t, err, &rejected)
				require.Equal(t, reason.Undecodable, rejected.Reason)
				require.NotEmpty(t, rejected.Message)
				continue
			}
			decoded, err := decodeWork(one)
			require.NoError(t, err)
			require.Equal(t, "web u", decoded.Name+" "+string(decoded.UID))
			for _, m := range decoded.Spec.Workload.Manifests {
				requireManifest(t, m.Raw)
			}
		}
		requireManifest(t, raw)
	})
}

func requireManifest(t *testing.T, raw []byte) {
	t.Helper()
	m, err := apply.Decode(raw)
	if err != nil {
		require.NotEmpty(t, err.Error())
		return
	}
	require.NotEmpty(t, m.Object.GetKind())
	require.NotEmpty(t, m.Object.GetAPIVersion())
	require.NotEmpty(t, m.Object.GetName())
	require.Empty(t, m.Object.GetUID(), "a manifest does not decide it")
	require.NotContains(t, m.Object.Object, "status")
	again, err := m.Object.MarshalJSON()
	require.NoError(t, err)
	twice, err := apply.Decode(again)
	require.NoError(t, err, "what was decoded decodes")
	require.Equal(t, m.Object.Object, twice.Object.Object)
}
