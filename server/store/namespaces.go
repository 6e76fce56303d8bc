// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/internal/identity"
)

// conditionNamespace is the condition of a managed namespace (RA-37).
const conditionNamespace = "NamespaceAvailable"

// ApplyNamespaces shows on the ManagedCluster what became of its managed
// namespaces: by name, empty where it is there, else why it is not. Those that the
// cluster is not to have (any more), and those that are not reported, are left as
// they are. Nothing is written without a change.
func (c *Clusters) ApplyNamespaces(ctx context.Context, scope identity.Scope, namespaces map[string]string) error {
	managed, err := c.scoped(ctx, scope)
	if err != nil {
		return err
	}
	path := []string{"apis", clusterv1.GroupName, clusterv1.GroupVersion.Version, "managedclusters", managed.Name}
	if err := checkSegment(managed.Name); err != nil {
		return fmt.Errorf("namespaces of cluster %q: %w", managed.Name, err)
	}
	for try := 0; ; try++ {
		entries, changed := c.withConditions(managed.Status.ManagedNamespaces, namespaces)
		if !changed {
			return nil
		}
		err := c.patchNamespaces(ctx, path, managed.ResourceVersion, entries)
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) || try == tries {
			return fmt.Errorf("namespaces of cluster %q: %w", managed.Name, err)
		}
		live := &clusterv1.ManagedCluster{}
		if err := c.read(ctx, path, live); err != nil {
			return fmt.Errorf("namespaces of cluster %q: %w", managed.Name, err)
		}
		if live.UID != managed.UID {
			return fmt.Errorf("cluster %q with UID %q: %w", managed.Name, managed.UID, ErrNoCluster)
		}
		managed = live
	}
}

// withConditions is the list with the conditions that the report makes.
func (c *Clusters) withConditions(have []clusterv1.ClusterSetManagedNamespaceConfig, namespaces map[string]string) (entries []clusterv1.ClusterSetManagedNamespaceConfig, changed bool) {
	for i := range have {
		entry := *have[i].DeepCopy()
		if message, reported := namespaces[entry.Name]; reported {
			condition := metav1.Condition{
				Type: conditionNamespace, Status: metav1.ConditionTrue, Reason: "NamespaceApplied",
				Message: "the namespace is there", LastTransitionTime: metav1.NewTime(c.clock.Now().UTC()),
			}
			if message != "" {
				condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, "NamespaceApplyFailed", message
			}
			if meta.SetStatusCondition(&entry.Conditions, condition) {
				changed = true
			}
		}
		entries = append(entries, entry)
	}
	return entries, changed
}

// patchNamespaces writes the list whole, as the controller of sets does, on top of
// exactly the version that it was made from: applying it would keep entries alive
// that are not wanted any more.
func (c *Clusters) patchNamespaces(ctx context.Context, path []string, version string, entries []clusterv1.ClusterSetManagedNamespaceConfig) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": version}, "status": map[string]any{"managedNamespaces": entries},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = do(ctx, c.rest.Patch(types.MergePatchType).AbsPath(append(slices.Clip(path), "status")...).
		Param("fieldManager", sessionManager+"-namespaces").Body(body))
	return err
}
