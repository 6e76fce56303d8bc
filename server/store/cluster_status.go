// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/internal/identity"
)

// maxClaimValue bounds a claim's value, as the CRD does.
const maxClaimValue = 1024

// ErrNoCluster is returned when the scope's ManagedCluster is not there any more.
var ErrNoCluster = errors.New("the ManagedCluster is not there any more")

// Report is what an agent says of its cluster.
type Report struct {
	KubernetesVersion             string
	Claims, Capacity, Allocatable map[string]string
}

// ApplyReport shows a report on the ManagedCluster, together with the condition
// ManagedClusterJoined (RA-25). Nothing is written without a change. Claims and
// quantities that the CRD would refuse are left out and logged.
func (c *Clusters) ApplyReport(ctx context.Context, scope identity.Scope, report Report) error {
	managed, err := c.scoped(ctx, scope)
	if err != nil {
		return err
	}
	joined := metav1.Condition{
		Type: clusterv1.ManagedClusterConditionJoined, Status: metav1.ConditionTrue,
		Reason: "ManagedClusterJoined", Message: "Managed cluster joined",
	}
	claims := c.claims(scope, report.Claims)
	capacity, allocatable := c.quantities(scope, report.Capacity), c.quantities(scope, report.Allocatable)
	same := managed.Status.Version.Kubernetes == report.KubernetesVersion && slices.Equal(managed.Status.ClusterClaims, claims) &&
		sameQuantities(managed.Status.Capacity, capacity) && sameQuantities(managed.Status.Allocatable, allocatable)
	if c.date(managed, &joined) && same {
		return nil
	}
	return c.apply(ctx, managed, sessionManager, map[string]any{
		"conditions": []metav1.Condition{joined}, "version": map[string]string{"kubernetes": report.KubernetesVersion},
		"clusterClaims": claims, "capacity": capacity, "allocatable": allocatable,
	})
}

// ApplyCondition shows one condition on the ManagedCluster. Each type has a field
// manager of its own, so conditions do not take each other away. Nothing is
// written without a change, and a condition that is False is not begun.
func (c *Clusters) ApplyCondition(ctx context.Context, scope identity.Scope, condition metav1.Condition) error {
	managed, err := c.scoped(ctx, scope)
	if err != nil {
		return err
	}
	if condition.Status == metav1.ConditionFalse && meta.FindStatusCondition(managed.Status.Conditions, condition.Type) == nil {
		return nil
	}
	if c.date(managed, &condition) {
		return nil
	}
	manager := sessionManager + "-" + strings.ToLower(condition.Type)
	return c.apply(ctx, managed, manager, map[string]any{"conditions": []metav1.Condition{condition}})
}

// scoped is the scope's ManagedCluster, and no other of the same name.
func (c *Clusters) scoped(ctx context.Context, scope identity.Scope) (*clusterv1.ManagedCluster, error) {
	managed, ok := c.managed(ctx, scope.Cluster())
	if !ok || scope.Cluster() == "" || string(managed.UID) != scope.UID() {
		return nil, fmt.Errorf("cluster %q with UID %q: %w", scope.Cluster(), scope.UID(), ErrNoCluster)
	}
	return managed, nil
}

// date sets when the condition changed last; true if it is there already.
func (c *Clusters) date(managed *clusterv1.ManagedCluster, condition *metav1.Condition) (same bool) {
	condition.LastTransitionTime = metav1.NewTime(c.clock.Now().UTC().Truncate(time.Second))
	have := meta.FindStatusCondition(managed.Status.Conditions, condition.Type)
	if have == nil {
		return false
	}
	if have.Status == condition.Status {
		condition.LastTransitionTime = have.LastTransitionTime
	}
	return have.Status == condition.Status && have.Reason == condition.Reason && have.Message == condition.Message
}

// apply applies a part of the status of exactly the ManagedCluster that was
// looked at: the apiserver ignores a UID here, so its resourceVersion goes along,
// and is taken anew, with a look at the UID, where the cache was behind.
func (c *Clusters) apply(ctx context.Context, managed *clusterv1.ManagedCluster, manager string, status map[string]any) error {
	name, uid, version := managed.Name, managed.UID, managed.ResourceVersion
	if err := checkSegment(name); err != nil {
		return fmt.Errorf("status of cluster %q: %w", name, err)
	}
	path := []string{"apis", clusterv1.GroupName, clusterv1.GroupVersion.Version, "managedclusters", name}
	for try := 0; ; try++ {
		err := c.applyTo(ctx, path, version, manager, status)
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) || try == tries {
			return fmt.Errorf("status of cluster %q: %w", name, err)
		}
		live, err := c.live(ctx, path)
		if err != nil {
			return fmt.Errorf("status of cluster %q: %w", name, err)
		}
		if live.UID != uid {
			return fmt.Errorf("cluster %q with UID %q: %w", name, uid, ErrNoCluster)
		}
		version = live.ResourceVersion
	}
}

func (c *Clusters) applyTo(ctx context.Context, path []string, version, manager string, status map[string]any) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": clusterv1.GroupVersion.String(), "kind": "ManagedCluster",
		"metadata": map[string]any{"name": path[len(path)-1], "resourceVersion": version}, "status": status,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = do(ctx, c.rest.Patch(types.ApplyPatchType).AbsPath(append(slices.Clip(path), "status")...).
		Param("fieldManager", manager).Param("force", "true").Body(body))
	return err
}

// live is a quorum read of a ManagedCluster's metadata.
func (c *Clusters) live(ctx context.Context, path []string) (*metav1.PartialObjectMetadata, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	raw, err := do(ctx, c.rest.Get().AbsPath(path...))
	if err != nil {
		return nil, err
	}
	var o metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	return &o, nil
}

// claims are those that the CRD takes, in the order of their names.
func (c *Clusters) claims(scope identity.Scope, reported map[string]string) []clusterv1.ManagedClusterClaim {
	claims := []clusterv1.ManagedClusterClaim{}
	for name, value := range reported {
		if name == "" || len(name) > 253 || value == "" || len(value) > maxClaimValue {
			c.log.Warn("a cluster claim is left out; names have 1 to 253 bytes, values 1 to 1024", "cluster", scope.Cluster(), "claim", fmt.Sprintf("%.253q", name))
			continue
		}
		claims = append(claims, clusterv1.ManagedClusterClaim{Name: name, Value: value})
	}
	slices.SortFunc(claims, func(a, b clusterv1.ManagedClusterClaim) int { return strings.Compare(a.Name, b.Name) })
	return claims
}

func (c *Clusters) quantities(scope identity.Scope, reported map[string]string) clusterv1.ResourceList {
	quantities := clusterv1.ResourceList{}
	for name, text := range reported {
		quantity, err := resource.ParseQuantity(text)
		if err != nil {
			c.log.Warn("a resource is left out; its quantity cannot be read", "cluster", scope.Cluster(), "resource", name, "error", err)
			continue
		}
		quantities[clusterv1.ResourceName(name)] = quantity
	}
	return quantities
}

func sameQuantities(a, b clusterv1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, quantity := range a {
		other, ok := b[name]
		if !ok || quantity.Cmp(other) != 0 {
			return false
		}
	}
	return true
}
