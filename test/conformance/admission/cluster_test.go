// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const setLabel = clusterv1beta2.ClusterSetLabel

func (w *world) cluster(t *testing.T, name string) *clusterv1.ManagedCluster {
	t.Helper()
	cluster := &clusterv1.ManagedCluster{}
	require.NoError(t, w.kube.Get(t.Context(), client.ObjectKey{Name: name}, cluster))
	return cluster
}

// newCluster has the taint that the hub would add by itself, between two of our
// updates.
func (w *world) newCluster(change ...func(*clusterv1.ManagedCluster)) *clusterv1.ManagedCluster {
	cluster := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: w.plane.Unique("cluster")}}
	cluster.Spec.Taints = []clusterv1.Taint{{Key: clusterv1.ManagedClusterTaintUnreachable, Effect: clusterv1.TaintEffectNoSelect}}
	for _, c := range change {
		c(cluster)
	}
	return cluster
}

func inSet(set string) func(*clusterv1.ManagedCluster) {
	return func(c *clusterv1.ManagedCluster) { c.Labels = map[string]string{setLabel: set} }
}

func isAccepted(c *clusterv1.ManagedCluster) { c.Spec.HubAcceptsClient = true }

func tainted(taints ...clusterv1.Taint) func(*clusterv1.ManagedCluster) {
	return func(c *clusterv1.ManagedCluster) { c.Spec.Taints = taints }
}

func right(group, resource, verb string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: names, Verbs: []string{verb}}
}

// registrar may write clusters and put them into the default set, and no more.
func (w *world) registrar(t *testing.T) (kube client.Client, group string) {
	t.Helper()
	group = w.plane.Unique("registrars")
	w.allowEverywhere(group,
		rbacv1.PolicyRule{APIGroups: []string{clusterv1.GroupName}, Resources: []string{"managedclusters"}, Verbs: []string{"get", "create", "update", "patch"}},
		right(clusterv1.GroupName, "managedclustersets/join", "create", "default"))
	kube = w.client("bob", group)
	until(t, "the rights to be known", func(ctx context.Context) error { return kube.Create(ctx, w.newCluster(), client.DryRunAll) })
	return kube, group
}

// update writes the newest version of an object with a change; the hub writes it, too.
func (w *world) update(t *testing.T, as client.Client, object client.Object, change func()) error {
	t.Helper()
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if err := w.kube.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		change()
		return as.Update(t.Context(), object)
	})
}

func (w *world) clusters(t *testing.T) {
	bob, group := w.registrar(t)
	t.Run("WH-02 WH-03 times of taints", w.taints)
	t.Run("WH-04 the default set", func(t *testing.T) {
		for _, cluster := range []*clusterv1.ManagedCluster{w.newCluster(), w.newCluster(inSet("")), w.newCluster(func(c *clusterv1.ManagedCluster) { c.Labels = map[string]string{"a": "b"} })} {
			require.NoError(t, w.kube.Create(t.Context(), cluster))
			require.Equal(t, "default", cluster.Labels[setLabel])
			require.NoError(t, w.update(t, w.kube, cluster, func() { delete(cluster.Labels, setLabel) }))
			require.Equal(t, "default", cluster.Labels[setLabel])
		}
	})
	t.Run("WH-05 no lease duration is 60 s", func(t *testing.T) {
		cluster := w.newCluster(func(c *clusterv1.ManagedCluster) { c.Spec.LeaseDurationSeconds = 5 })
		require.NoError(t, w.kube.Create(t.Context(), cluster))
		require.NoError(t, w.update(t, w.kube, cluster, func() { cluster.Spec.LeaseDurationSeconds = 0 }))
		require.EqualValues(t, 60, cluster.Spec.LeaseDurationSeconds)
	})
	t.Run("WH-06 WH-07 what cannot be", func(t *testing.T) {
		good := w.newCluster(func(c *clusterv1.ManagedCluster) {
			c.Spec.ManagedClusterClientConfigs = []clusterv1.ClientConfig{{URL: "https://spoke.example:6443"}}
		})
		require.NoError(t, w.kube.Create(t.Context(), good))
		for _, url := range []string{"http://spoke.example", "spoke.example:6443", "https://", ":"} {
			err := w.update(t, w.kube, good, func() { good.Spec.ManagedClusterClientConfigs[0].URL = url })
			require.True(t, apierrors.IsBadRequest(err), "%q: %v", url, err)
			require.ErrorContains(t, err, fmt.Sprintf("spec.managedClusterClientConfigs[0].url: is %q: want https://", url))
		}
		err := w.kube.Create(t.Context(), w.newCluster(func(c *clusterv1.ManagedCluster) { c.Name = "no.namespace" }))
		require.True(t, apierrors.IsBadRequest(err), "%v", err)
		require.ErrorContains(t, err, `metadata.name: is "no.namespace"`)
	})
	t.Run("WH-08 WH-09 WH-10 acceptance", func(t *testing.T) { w.acceptance(t, bob, group) })
	t.Run("WH-11 joining sets", func(t *testing.T) { w.joining(t, bob, group) })
}

func (w *world) taints(t *testing.T) {
	old := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	taint := func(key, value string, at metav1.Time) clusterv1.Taint {
		return clusterv1.Taint{Key: key, Value: value, Effect: clusterv1.TaintEffectNoSelect, TimeAdded: at}
	}
	unreachable := taint(clusterv1.ManagedClusterTaintUnreachable, "", metav1.Time{})
	cluster := w.newCluster(tainted(taint("a", "1", old), taint("b", "1", metav1.Time{}), unreachable))
	start := time.Now().Truncate(time.Second)
	require.NoError(t, w.kube.Create(t.Context(), cluster))
	for i := range cluster.Spec.Taints {
		require.False(t, cluster.Spec.Taints[i].TimeAdded.Time.Before(start), "WH-02: a new taint is new, whatever its author says")
	}
	added := cluster.Spec.Taints[0].TimeAdded
	for name, bad := range map[string][]clusterv1.Taint{
		"new":       {taint("a", "1", added), taint("b", "1", added), taint("c", "1", old)},
		"changed":   {taint("a", "2", old), taint("b", "1", added)},
		"unchanged": {taint("a", "1", old), taint("b", "1", added)},
	} {
		changed := cluster.DeepCopy()
		err := w.update(t, w.kube, changed, func() { tainted(append(bad, unreachable)...)(changed) })
		require.True(t, apierrors.IsBadRequest(err), "WH-03, %s: %v", name, err)
		require.ErrorContains(t, err, "It is not allowed to set TimeAdded of Taint", name)
	}
	require.NoError(t, w.update(t, w.kube, cluster, func() {
		tainted(taint("a", "1", metav1.Time{}), taint("b", "2", added), taint("c", "1", metav1.Time{}), unreachable)(cluster)
	}))
	require.True(t, added.Equal(&cluster.Spec.Taints[0].TimeAdded), "who leaves it out keeps it")
	require.False(t, cluster.Spec.Taints[1].TimeAdded.IsZero())
	require.False(t, cluster.Spec.Taints[2].TimeAdded.IsZero())
}

func (w *world) acceptance(t *testing.T, bob client.Client, group string) {
	t.Helper()
	err := bob.Create(t.Context(), w.newCluster(isAccepted))
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, `user "bob" may not accept cluster`)
	require.ErrorContains(t, err, "verb update on managedclusters/accept in group register.open-cluster-management.io")
	cluster, other := w.newCluster(), w.newCluster()
	require.NoError(t, bob.Create(t.Context(), cluster))
	require.NoError(t, bob.Create(t.Context(), other))
	require.True(t, apierrors.IsForbidden(w.update(t, bob, cluster, func() { isAccepted(cluster) })), "nor later")

	w.allowEverywhere(group, right("register.open-cluster-management.io", "managedclusters/accept", "update", cluster.Name))
	until(t, "the right to be known", func(ctx context.Context) error {
		return bob.Patch(ctx, cluster, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"hubAcceptsClient":true}}`)))
	})
	require.True(t, apierrors.IsForbidden(w.update(t, bob, other, func() { isAccepted(other) })), "the right is to one cluster")

	admin := w.newCluster(isAccepted)
	require.NoError(t, w.kube.Create(t.Context(), admin))
	patch := func(text string) error {
		return bob.Patch(t.Context(), admin, client.RawPatch("application/merge-patch+json", []byte(text)))
	}
	require.NoError(t, patch(`{"metadata":{"labels":{"a":"b"}},"spec":{"leaseDurationSeconds":90}}`), "WH-10: other fields")
	require.NoError(t, patch(`{"spec":{"hubAcceptsClient":false}}`), "WH-10: denying")
	require.True(t, apierrors.IsForbidden(patch(`{"spec":{"hubAcceptsClient":true}}`)))

	// Without controller-manager a namespace stays terminating.
	terminating := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.plane.Namespace(t, "terminating")}}
	require.NoError(t, w.kube.Delete(t.Context(), terminating))
	late := w.newCluster(func(c *clusterv1.ManagedCluster) { c.Name = terminating.Name })
	require.NoError(t, w.kube.Create(t.Context(), late))
	err = w.update(t, w.kube, late, func() { isAccepted(late) })
	require.True(t, apierrors.IsForbidden(err), "WH-09: %v", err)
	require.ErrorContains(t, err, "while the namespace of that name is terminating")
}

func (w *world) joining(t *testing.T, bob client.Client, group string) {
	t.Helper()
	first, second := w.plane.Unique("set"), w.plane.Unique("set")
	err := bob.Create(t.Context(), w.newCluster(inSet(first)))
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, fmt.Sprintf("verb create on managedclustersets/join in group cluster.open-cluster-management.io and resourceName %q", first))
	cluster := w.newCluster()
	require.NoError(t, bob.Create(t.Context(), cluster), "which is in the default set")
	moveTo := func(ctx context.Context, set string) error {
		return bob.Patch(ctx, cluster, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, setLabel, set)))
	}
	require.True(t, apierrors.IsForbidden(moveTo(t.Context(), first)))
	w.allowEverywhere(group, right(clusterv1.GroupName, "managedclustersets/join", "create", first))
	until(t, "the right to be known", func(ctx context.Context) error { return moveTo(ctx, first) })
	require.True(t, apierrors.IsForbidden(moveTo(t.Context(), second)), "the new set counts")
	require.NoError(t, w.kube.Patch(t.Context(), cluster, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, setLabel, second))))
	require.True(t, apierrors.IsForbidden(moveTo(t.Context(), first)), "so does the old one")
	require.True(t, apierrors.IsForbidden(moveTo(t.Context(), "")), "to leave it, too")
}

func (w *world) noDefaultSet(t *testing.T) {
	cluster := w.newCluster()
	require.NoError(t, w.kube.Create(t.Context(), cluster))
	require.NotContains(t, cluster.Labels, setLabel)
}

// sets are bound by those who may, under their own name; and the hub does its part
// with the rights of the manifests.
func (w *world) sets(t *testing.T) {
	namespace, group := w.plane.Namespace(t, "binding"), w.plane.Unique("binders")
	set := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: w.plane.Unique("set")}}
	set.Spec.ManagedNamespaces = []clusterv1.ManagedNamespaceConfig{{Name: "a"}}
	require.NoError(t, w.kube.Create(t.Context(), set))
	w.allow(namespace, group, "binder", rbacv1.PolicyRule{APIGroups: []string{clusterv1.GroupName}, Resources: []string{"managedclustersetbindings"}, Verbs: []string{"create", "get", "update", "patch"}})
	bob := w.client("bob", group)
	untilKnown(t, bob, namespace, &clusterv1beta2.ManagedClusterSetBinding{})
	binding := func(name string) *clusterv1beta2.ManagedClusterSetBinding {
		b := &clusterv1beta2.ManagedClusterSetBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		b.Spec.ClusterSet = set.Name
		return b
	}
	t.Run("WH-12 another name", func(t *testing.T) {
		err := w.kube.Create(t.Context(), binding("other"))
		require.True(t, apierrors.IsBadRequest(err), "%v", err)
		require.ErrorContains(t, err, "must have the same name as the target ManagedClusterSet")
	})
	bound := binding(set.Name)
	t.Run("WH-13 who may bind", func(t *testing.T) {
		err := bob.Create(t.Context(), binding(set.Name))
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		require.ErrorContains(t, err, fmt.Sprintf(`user "bob" may not bind the set %q`, set.Name))
		require.NoError(t, w.kube.Create(t.Context(), bound))
		require.NoError(t, w.update(t, bob, bound, func() { bound.Labels = map[string]string{"a": "b"} }), "metadata alone is not asked for")
		changed := bound.DeepCopy()
		require.True(t, apierrors.IsBadRequest(w.update(t, w.kube, changed, func() { changed.Spec.ClusterSet = "other" })), "WH-12, later")
	})
	cluster := w.newCluster(inSet(set.Name))
	require.NoError(t, w.kube.Create(t.Context(), cluster))
	until(t, "the hub to see set, binding, cluster and its own two sets", func(ctx context.Context) error {
		for name, object := range map[string]client.Object{set.Name: set, "default": &clusterv1beta2.ManagedClusterSet{}, "global": &clusterv1beta2.ManagedClusterSet{}, cluster.Name: cluster} {
			if err := w.kube.Get(ctx, client.ObjectKey{Name: name}, object); err != nil {
				return err
			}
		}
		if err := w.kube.Get(ctx, client.ObjectKeyFromObject(bound), bound); err != nil {
			return err
		}
		if len(set.Status.Conditions) == 0 || len(bound.Status.Conditions) == 0 || len(cluster.Status.ManagedNamespaces) != 1 {
			return fmt.Errorf("%+v %+v %+v", set.Status, bound.Status, cluster.Status)
		}
		return nil
	})
}
