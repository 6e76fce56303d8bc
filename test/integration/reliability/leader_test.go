// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/test/house"
)

// TestCM42_another_replica_goes_on_deciding: the replica that decides placements is
// killed. The other one decides a new placement, and writes nothing to those whose
// decisions are as they are to be.
func TestCM42_another_replica_goes_on_deciding(t *testing.T) {
	t.Parallel()
	const fleet, namespace = 3, "apps"
	w := newWorld(t, nil) // leads, as it is alone
	other, err := house.StartHub(t.Context(), house.HubConfig{Binaries: built, Dir: w.dir, Name: "other", Kubeconfig: w.hubPlane.Kubeconfig(), REST: w.hubPlane.RESTConfig()})
	require.NoError(t, err)
	t.Cleanup(func() { w.stopped(other.Process) })
	leader := w.leads("")
	w.bind(namespace)
	for _, name := range names("led", fleet) {
		_, err := w.clusters.ClusterV1().ManagedClusters().Create(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	placements := names("place", 3)
	for _, name := range placements {
		w.place(namespace, name)
	}
	for _, name := range placements {
		w.decided(namespace, name, fleet)
	}
	before := w.versions(namespace)
	require.Len(t, before, 2*len(placements), "each placement with one decision")

	w.hub.Kill()
	w.leads(leader)
	w.place(namespace, "late")
	w.decided(namespace, "late", fleet)
	after := w.versions(namespace)
	require.Len(t, after, 2*len(placements)+2)
	for object, version := range before {
		require.Equal(t, version, after[object], "%s was written, though nothing has changed for it", object)
	}
}

// leads waits until a replica leads that is not this one, and names it.
func (w *world) leads(not string) (leader string) {
	w.t.Helper()
	w.until("a leader that is not "+not, func(ctx context.Context) (bool, error) {
		lease, err := w.hubKube.CoordinationV1().Leases(identity.HubNamespace).Get(ctx, "fairlead-hub-controllers", metav1.GetOptions{})
		if err != nil || lease.Spec.HolderIdentity == nil {
			return false, err
		}
		leader = *lease.Spec.HolderIdentity
		return leader != "" && leader != not, fmt.Errorf("%q leads", leader)
	})
	return leader
}

// bind makes a namespace that may choose from the default set.
func (w *world) bind(namespace string) {
	w.t.Helper()
	ctx := w.t.Context()
	_, err := w.hubKube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	_, err = w.clusters.ClusterV1beta2().ManagedClusterSetBindings(namespace).Create(ctx, &clusterv1beta2.ManagedClusterSetBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: clusterv1beta2.ManagedClusterSetBindingSpec{ClusterSet: "default"},
	}, metav1.CreateOptions{})
	require.NoError(w.t, err)
}

// place makes a placement for all clusters, whether somebody answers for them or not.
func (w *world) place(namespace, name string) {
	w.t.Helper()
	_, err := w.clusters.ClusterV1beta1().Placements(namespace).Create(w.t.Context(), &clusterv1beta1.Placement{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       clusterv1beta1.PlacementSpec{Tolerations: []clusterv1beta1.Toleration{{Operator: clusterv1beta1.TolerationOpExists}}},
	}, metav1.CreateOptions{})
	require.NoError(w.t, err)
}

// decided waits until a placement has chosen so many clusters.
func (w *world) decided(namespace, name string, count int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s/%s to choose %d clusters", namespace, name, count), func(ctx context.Context) (bool, error) {
		p, err := w.clusters.ClusterV1beta1().Placements(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return int(p.Status.NumberOfSelectedClusters) == count, fmt.Errorf("status %+v", p.Status)
	})
}

// versions are the resourceVersions of all placements and decisions.
func (w *world) versions(namespace string) map[string]string {
	w.t.Helper()
	api := w.clusters.ClusterV1beta1()
	placements, err := api.Placements(namespace).List(w.t.Context(), metav1.ListOptions{})
	require.NoError(w.t, err)
	decisions, err := api.PlacementDecisions(namespace).List(w.t.Context(), metav1.ListOptions{})
	require.NoError(w.t, err)
	versions := map[string]string{}
	for i := range placements.Items {
		versions["Placement "+placements.Items[i].Name] = placements.Items[i].ResourceVersion
	}
	for i := range decisions.Items {
		versions["PlacementDecision "+decisions.Items[i].Name] = decisions.Items[i].ResourceVersion
	}
	return versions
}
