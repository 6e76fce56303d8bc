// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	clusterclaim "fairlead.dev/fairlead/internal/claim"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// maxResourceName bounds the name of a resource: a domain, a slash and a name.
const maxResourceName = 253 + 1 + 63

// ConditionTruncated says on a ManagedCluster that not all of its agent's report
// is shown.
const ConditionTruncated = "ReportTruncated"

// ErrNoCluster is returned when the scope's ManagedCluster is not there any more.
var ErrNoCluster = errors.New("the ManagedCluster is not there any more")

// Report is what an agent says of its cluster.
type Report struct {
	KubernetesVersion             string
	Claims, Capacity, Allocatable map[string]string
	// LeftOut is how many entries were left out already.
	LeftOut int
}

// ApplyReport shows a report on the ManagedCluster, together with the condition
// ManagedClusterJoined (RA-25). Nothing is written without a change. Claims and
// quantities that the CRD would refuse are left out, which condition
// ReportTruncated shows.
func (c *Clusters) ApplyReport(ctx context.Context, scope identity.Scope, report Report) error {
	managed, err := c.scoped(ctx, scope)
	if err != nil {
		return err
	}
	joined := metav1.Condition{
		Type: clusterv1.ManagedClusterConditionJoined, Status: metav1.ConditionTrue,
		Reason: "ManagedClusterJoined", Message: "Managed cluster joined",
	}
	left := &leftOut{count: report.LeftOut}
	claims := left.claims(report.Claims)
	capacity, allocatable := left.quantities(report.Capacity), left.quantities(report.Allocatable)
	if err := c.ApplyCondition(ctx, scope, left.condition()); err != nil {
		return err
	}
	same := managed.Status.Version.Kubernetes == report.KubernetesVersion && slices.Equal(managed.Status.ClusterClaims, claims) &&
		c.shown(managed, capacity, allocatable)
	if c.date(managed, &joined) && same {
		return nil
	}
	err = c.apply(ctx, managed, sessionManager, map[string]any{
		"conditions": []metav1.Condition{joined}, "version": map[string]string{"kubernetes": report.KubernetesVersion},
		"clusterClaims": claims, "capacity": capacity, "allocatable": allocatable,
	})
	if err == nil {
		c.mu.Lock()
		c.applied[managed.UID] = names(capacity, allocatable)
		c.mu.Unlock()
	}
	return err
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
		var live metav1.PartialObjectMetadata
		if err := c.read(ctx, path, &live); err != nil {
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

// read is a quorum read of a ManagedCluster, as far as into holds it.
func (c *Clusters) read(ctx context.Context, path []string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	raw, err := do(ctx, c.rest.Get().AbsPath(path...))
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// leftOut counts what of a report is not shown.
type leftOut struct {
	count int
	first string
}

func (l *leftOut) add(what, name string) {
	if l.first == "" {
		l.first = fmt.Sprintf("; one is the %s %.100q", what, name)
	}
	l.count++
}

func (l *leftOut) condition() metav1.Condition {
	if l.count == 0 {
		return metav1.Condition{Type: ConditionTruncated, Status: metav1.ConditionFalse, Reason: "AllShown", Message: "all of the agent's report is shown"}
	}
	return metav1.Condition{
		Type: ConditionTruncated, Status: metav1.ConditionTrue, Reason: reason.InvalidArgument,
		Message: fmt.Sprintf("%d entries of the agent's report are left out%s: at most 200 each of claims and resources are taken, names of claims up to %d bytes, values of claims from 1 to %d, quantities as Kubernetes reads them",
			l.count, l.first, clusterclaim.MaxName, clusterclaim.MaxValue),
	}
}

// claims are those that the CRD takes: reserved names first, then by name (RA-35).
func (l *leftOut) claims(reported map[string]string) []clusterv1.ManagedClusterClaim {
	claims := []clusterv1.ManagedClusterClaim{}
	for _, name := range slices.SortedFunc(maps.Keys(reported), clusterclaim.Compare) {
		if !clusterclaim.Fits(name, reported[name]) {
			l.add("claim", name)
			continue
		}
		claims = append(claims, clusterv1.ManagedClusterClaim{Name: name, Value: reported[name]})
	}
	return claims
}

func (l *leftOut) quantities(reported map[string]string) clusterv1.ResourceList {
	quantities := clusterv1.ResourceList{}
	for _, name := range slices.Sorted(maps.Keys(reported)) {
		quantity, err := resource.ParseQuantity(reported[name])
		if err != nil || name == "" || len(name) > maxResourceName {
			l.add("resource", name)
			continue
		}
		quantities[clusterv1.ResourceName(name)] = quantity
	}
	return quantities
}

// showsQuantities tells whether the status has what is reported, and whether it
// has more besides.
func showsQuantities(have, want clusterv1.ResourceList) (shows, more bool) {
	for name, quantity := range want {
		if other, ok := have[name]; !ok || quantity.Cmp(other) != 0 {
			return false, false
		}
	}
	return true, len(have) > len(want)
}

// names is what a report has quantities of.
func names(capacity, allocatable clusterv1.ResourceList) string {
	return fmt.Sprintf("%q %q", slices.Sorted(maps.Keys(capacity)), slices.Sorted(maps.Keys(allocatable)))
}

// shown tells whether the quantities of a report are in the status. What is there
// besides is either another writer's (RA-32) or was reported before and has to
// go: the apiserver knows which, so it is asked once for each set of names.
func (c *Clusters) shown(managed *clusterv1.ManagedCluster, capacity, allocatable clusterv1.ResourceList) bool {
	capacityShown, more := showsQuantities(managed.Status.Capacity, capacity)
	allocatableShown, moreToo := showsQuantities(managed.Status.Allocatable, allocatable)
	if !more && !moreToo {
		return capacityShown && allocatableShown
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return capacityShown && allocatableShown && c.applied[managed.UID] == names(capacity, allocatable)
}
