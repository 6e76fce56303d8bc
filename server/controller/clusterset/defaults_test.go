// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A set that is left alone is changed, and gone before the queue comes to the
// change: that would have made it anew.
func TestKept_RC_50_a_change_of_what_is_left_alone_queues_nothing(t *testing.T) {
	set := func(name, value string) *clusterv1beta2.ManagedClusterSet {
		return &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{autoupdate: value}}}
	}
	for _, name := range []string{"default", "global"} {
		require.False(t, kept().Create(event.CreateEvent{Object: set(name, "false")}))
		require.False(t, kept().Update(event.UpdateEvent{ObjectOld: set(name, "true"), ObjectNew: set(name, "false")}))
		require.False(t, kept().Delete(event.DeleteEvent{Object: set(name, "false")}))
		require.True(t, kept().Create(event.CreateEvent{Object: set(name, "true")}))
		require.True(t, kept().Update(event.UpdateEvent{ObjectOld: set(name, "false"), ObjectNew: set(name, "true")}), "it is kept again")
		require.True(t, kept().Delete(event.DeleteEvent{Object: set(name, "true")}))
	}
	require.False(t, kept().Delete(event.DeleteEvent{Object: set("other", "true")}))
}
