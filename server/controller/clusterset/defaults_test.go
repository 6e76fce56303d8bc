// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package clusterset

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestKept_RC_50_what_is_left_alone_queues_nothing(t *testing.T) {
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

// A set is changed, annotated and gone before the queue comes to the change.
func TestKept_RC_50_a_change_does_not_make_a_set_anew(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, clusterv1beta2.Install(scheme))
	kube := fake.NewClientBuilder().WithScheme(scheme).Build()
	r := &defaults{client: kube, events: events.NewFakeRecorder(1), log: slog.New(slog.DiscardHandler)}
	changed := reconcile.Request{NamespacedName: types.NamespacedName{Name: "default"}}
	_, err := r.Reconcile(t.Context(), changed)
	require.NoError(t, err)
	set := &clusterv1beta2.ManagedClusterSet{}
	require.True(t, apierrors.IsNotFound(kube.Get(t.Context(), client.ObjectKey{Name: "default"}, set)))
	_, err = r.Reconcile(t.Context(), missing("default"))
	require.NoError(t, err)
	require.NoError(t, kube.Get(t.Context(), client.ObjectKey{Name: "default"}, set))
}
