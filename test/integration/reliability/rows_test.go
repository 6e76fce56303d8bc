// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	workclient "open-cluster-management.io/api/client/work/clientset/versioned"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/internal/identity"
)

// TestWork shows the rows that need hub and agent together.
func TestWork(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t)
	w.join("rows")
	applied, err := workclient.NewForConfig(w.spoke.RESTConfig())
	require.NoError(t, err)
	inventories := func(t *testing.T) []workv1.AppliedManifestWork { // of this agent
		t.Helper()
		list, err := applied.WorkV1().AppliedManifestWorks().List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		return slices.DeleteFunc(list.Items, func(w workv1.AppliedManifestWork) bool { return w.Spec.AgentID != "rows" })
	}

	t.Run("MW-01_only_its_own_namespace", func(t *testing.T) {
		_, err := w.works.WorkV1().ManifestWorks("default").Create(t.Context(), newWork("of-nobody", "1"), metav1.CreateOptions{})
		require.NoError(t, err)
		w.create("rows", "of-rows", "1")
		w.settled("rows", "of-rows", "1")
		require.Empty(t, w.journal.Since(0, "of-nobody"))
		require.Len(t, inventories(t), 1)
	})

	t.Run("MW-02_finalizer_before_it_is_applied", func(t *testing.T) {
		work := w.create("rows", "plain", "1")
		require.Empty(t, work.Finalizers, "kubectl sets none")
		w.settled("rows", "plain", "1")
		stored, err := w.works.WorkV1().ManifestWorks("rows").Get(t.Context(), "plain", metav1.GetOptions{})
		require.NoError(t, err)
		require.Contains(t, stored.Finalizers, identity.ManifestWorkFinalizer)
	})

	t.Run("MW-04_named_by_the_hub's_id", func(t *testing.T) {
		config, err := w.hubKube.CoreV1().ConfigMaps(identity.HubNamespace).Get(t.Context(), "fairlead-hub", metav1.GetOptions{})
		require.NoError(t, err)
		hash := fmt.Sprintf("%x", sha256.Sum256([]byte(config.Data["hub-id"])))
		inventory, err := applied.WorkV1().AppliedManifestWorks().Get(t.Context(), hash+"-plain", metav1.GetOptions{})
		require.NoError(t, err, "no address is in the name, so moving the hub evicts nothing")
		require.Equal(t, hash, inventory.Spec.HubHash)
	})

	t.Run("MW-60_goes_after_its_AppliedManifestWork", func(t *testing.T) {
		finalizers := func(value string) {
			patch := fmt.Appendf(nil, `{"metadata":{"finalizers":%s}}`, value)
			_, err := w.kube.CoreV1().ConfigMaps("default").Patch(t.Context(), "plain", types.MergePatchType, patch, metav1.PatchOptions{})
			require.NoError(t, err)
		}
		finalizers(`["example.com/stays"]`)
		require.NoError(t, w.works.WorkV1().ManifestWorks("rows").Delete(t.Context(), "plain", metav1.DeleteOptions{}))
		w.until("the ConfigMap to be deleting", func(ctx context.Context) (bool, error) {
			object, err := w.kube.CoreV1().ConfigMaps("default").Get(ctx, "plain", metav1.GetOptions{})
			return err == nil && object.DeletionTimestamp != nil, err
		})
		_, err := w.works.WorkV1().ManifestWorks("rows").Get(t.Context(), "plain", metav1.GetOptions{})
		require.NoError(t, err, "the work waits for its objects")
		finalizers("null")
		w.until("the work to be gone", func(ctx context.Context) (bool, error) {
			_, err := w.works.WorkV1().ManifestWorks("rows").Get(ctx, "plain", metav1.GetOptions{})
			return apierrors.IsNotFound(err), err
		})
		require.Len(t, inventories(t), 1, "only that of the other work is left")
	})

	t.Run("MW-62_held_is_shown_on_the_hub", func(t *testing.T) { w.heldEviction(t, applied) })
}
