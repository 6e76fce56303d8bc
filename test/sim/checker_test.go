// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/internal/wire"
)

// TestCheckerProvenBeforeARestore: what an agent was told to be gone before a
// restore took it, it may take away later, whatever was restored meanwhile (seed
// 811997); what only a restore took, it may not.
func TestCheckerProvenBeforeARestore(t *testing.T) {
	o := object{name: "w", uid: "u", generation: 1}
	orphan := link.Delete{Key: wire.Key{Kind: wire.KindWork, Name: "w"}, Revision: wire.Revision{UID: "u"}, Orphan: true}
	gone := work.Desired{Work: &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Name: "w", UID: "u"}}}
	for name, first := range map[string]bool{"by a person": false, "by a restore": true} {
		t.Run(name, func(t *testing.T) {
			w := &World{}
			c := newChecker(w)
			c.absent(o, first)
			c.deleteStored(nil, orphan, link.DeleteStored)
			c.absent(o, true)
			c.removed("w", applied{uid: "u"}, gone)
			if !first {
				require.Nil(t, w.failure)
				return
			}
			require.NotNil(t, w.failure)
			require.Equal(t, "restore not held", w.failure.Kind)
		})
	}
}

// TestStoreErrorsTakeTime: a store that fails is never faster than a write at its
// fastest, however the dice fall (seed 821374).
func TestStoreErrorsTakeTime(t *testing.T) {
	w := &World{spoke: &spoke{backend: &backend{}}}
	d := w.dice("test")
	for range 100_000 {
		w.storeErrors(d)
		require.GreaterOrEqual(t, w.spoke.slow, time.Millisecond)
	}
}
