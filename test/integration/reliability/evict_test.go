// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	workclient "open-cluster-management.io/api/client/work/clientset/versioned"
	workv1 "open-cluster-management.io/api/work/v1"
)

// heldEviction has the spoke of a cluster keep what an earlier hub brought: this hub
// shows it, says how a person lets it go, cannot do so itself, and hears of it when it is done.
func (w *world) heldEviction(t *testing.T, applied workclient.Interface) {
	t.Helper()
	name := w.leftOver(t, applied, strings.Repeat("a", sha256.Size*2), "brought")
	_, err := w.hub.CLI(t.Context(), "kick", "rows") // an agent looks when it is in sync
	require.NoError(t, err)
	var out string
	w.until("the eviction to be shown", func(ctx context.Context) (bool, error) {
		out, err = w.hub.CLI(ctx, "release", "rows", "-o", "jsonpath={.items[0].batchId} {.items[0].reason} {.items[0].names[0]} {.items[0].onSpoke}")
		return err == nil && strings.Contains(out, name), fmt.Errorf("release says %q (%v)", out, err) //nolint:errorlint // it may be nil
	})
	batch, _, _ := strings.Cut(out, " ")
	require.Equal(t, batch+" no work of this hub has taken them over "+name+" true", strings.TrimSpace(out))
	w.until("the cluster's condition", func(ctx context.Context) (bool, error) {
		held, err := w.condition(ctx, "rows", "DeletesHeld")
		return held.Status == metav1.ConditionTrue, err
	})

	command := "«kubectl delete appliedmanifestwork " + name + "»"
	for _, args := range [][]string{{"explain", "work", "rows/brought"}, {"release", "rows", batch}} {
		_, err = w.hub.CLI(t.Context(), args...)
		require.ErrorContains(t, err, command, "%v", args)
	}
	require.ErrorContains(t, err, "HELD_ON_SPOKE")
	_, err = w.kube.CoreV1().ConfigMaps("default").Get(t.Context(), "brought", metav1.GetOptions{})
	require.NoError(t, err, "the hub removed nothing")

	require.NoError(t, applied.WorkV1().AppliedManifestWorks().Delete(t.Context(), name, metav1.DeleteOptions{}))
	w.until("it to be gone", func(ctx context.Context) (bool, error) {
		_, err := w.kube.CoreV1().ConfigMaps("default").Get(ctx, "brought", metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
	w.until("the hub to know that", func(ctx context.Context) (bool, error) {
		out, err = w.hub.CLI(ctx, "release", "rows", "-o", "name")
		return err == nil && !strings.Contains(out, batch), fmt.Errorf("release says %q (%v)", out, err) //nolint:errorlint // it may be nil
	})
}

// leftOver makes the AppliedManifestWork of a work of another hub, whose grace period
// is over, with one object; it returns its name.
func (w *world) leftOver(t *testing.T, applied workclient.Interface, hash, work string) string {
	t.Helper()
	api := applied.WorkV1().AppliedManifestWorks()
	left, err := api.Create(t.Context(), &workv1.AppliedManifestWork{
		ObjectMeta: metav1.ObjectMeta{Name: hash + "-" + work, Finalizers: []string{workv1.AppliedManifestWorkFinalizer}},
		Spec:       workv1.AppliedManifestWorkSpec{HubHash: hash, AgentID: "rows", ManifestWorkName: work},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	owner := metav1.OwnerReference{APIVersion: workv1.GroupVersion.String(), Kind: "AppliedManifestWork", Name: left.Name, UID: left.UID}
	object, err := w.kube.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: work, OwnerReferences: []metav1.OwnerReference{owner}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	began := metav1.NewTime(time.Now().Add(-100 * time.Hour))
	status, err := json.Marshal(map[string]any{"status": workv1.AppliedManifestWorkStatus{EvictionStartTime: &began, AppliedResources: []workv1.AppliedManifestResourceMeta{{
		Version: "v1", UID: string(object.UID),
		ResourceIdentifier: workv1.ResourceIdentifier{Resource: "configmaps", Namespace: "default", Name: work},
	}}}})
	require.NoError(t, err)
	_, err = api.Patch(t.Context(), left.Name, types.MergePatchType, status, metav1.PatchOptions{}, "status") // the agent writes it too
	require.NoError(t, err)
	return left.Name
}
