// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// The hub wants a namespace, and wants it no more before the watch has told that
// it is there. (RA-38)
func TestNamespaces_RA_38_what_the_watch_has_not_told_is_released(t *testing.T) {
	var patches []string
	kube := fake.NewClientset()
	kube.PrependReactor("patch", "namespaces", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch, ok := action.(clienttesting.PatchAction)
		require.True(t, ok)
		patches = append(patches, patch.GetName()+" "+string(patch.GetPatch()))
		return true, &corev1.Namespace{}, nil
	})
	wanted := []string{"a"}
	n := NewNamespaces(NamespacesConfig{
		Kube: kube, Label: "managed", Log: slog.New(slog.DiscardHandler), Changed: func() {},
		Wanted: func() ([]string, bool) { return wanted, true }, Event: func(context.Context, string, string) {},
	})
	unheard := informers.NewSharedInformerFactory(kube, 0).Core().V1().Namespaces().Informer()
	n.reconcile(t.Context(), unheard)
	require.Len(t, patches, 1)
	wanted = nil
	n.reconcile(t.Context(), unheard)
	require.Equal(t, []string{`a {"metadata":{"labels":{"managed":"false"}}}`}, patches[1:])
	n.reconcile(t.Context(), unheard)
	require.Len(t, patches, 2, "once")
}
