// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/test/env"
)

// TestRolesAreEnoughAndNoMore has people write placements and replica sets
// with kubectl's means, each with the role that the hub installs for what they do, in
// one namespace.
func TestRolesAreEnoughAndNoMore(t *testing.T) {
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), func(c *server.Config) { c.LeaderElect, c.Controllers = false, "registration" }).ready()
	namespace := plane.Unique("roles")
	require.NoError(t, hub.kube.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	for _, role := range []struct {
		name              string
		places, sets      bool // writes them
		readsP, readsSets bool
	}{
		{name: manager, places: true, sets: true, readsP: true, readsSets: true},
		{name: author, sets: true, readsP: true, readsSets: true},
		{name: viewer, readsP: true, readsSets: true},
		{name: chooser, readsP: true}, // it decides placements, and does not write them
		{name: approver},
	} {
		t.Run(role.name, func(t *testing.T) {
			person := plane.Unique("person")
			hub.person(plane, person, role.name, namespace)
			config, err := plane.TokenConfig(t.Context(), "default", person)
			require.NoError(t, err)
			theirs, err := client.New(config, client.Options{Scheme: hub.kube.Scheme()})
			require.NoError(t, err)
			meta := metav1.ObjectMeta{Name: person, Namespace: namespace}
			placement := &clusterv1beta1.Placement{ObjectMeta: meta}
			hub.mayWrite(theirs, placement, func() { placement.Spec.NumberOfClusters = new(int32(3)) }, role.readsP, role.places)
			set := &workv1alpha1.ManifestWorkReplicaSet{ObjectMeta: meta, Spec: workv1alpha1.ManifestWorkReplicaSetSpec{
				PlacementRefs: []workv1alpha1.LocalPlacementReference{{Name: "any"}}, ManifestWorkTemplate: newWork(namespace, "any", "1").Spec,
			}}
			hub.mayWrite(theirs, set, func() { set.Spec.PlacementRefs[0].Name = "other" }, role.readsSets, role.sets)
		})
	}
}

// mayWrite has a person create, change and delete an object, and read it in between.
// What the person may not do is done for them.
func (r *running) mayWrite(theirs client.Client, object client.Object, change func(), reads, writes bool) {
	r.t.Helper()
	ctx := r.t.Context()
	try := func(verb string, may bool, do func(client.Client) error) {
		r.t.Helper()
		err := do(theirs)
		if may {
			require.NoError(r.t, err, "%s %T", verb, object)
			return
		}
		require.True(r.t, apierrors.IsForbidden(err), "%s %T: want Forbidden, have %v", verb, object, err)
		require.NoError(r.t, do(r.kube))
	}
	try("create", writes, func(c client.Client) error { return c.Create(ctx, object) })
	try("get", reads, func(c client.Client) error { return c.Get(ctx, client.ObjectKeyFromObject(object), object) })
	try("update", writes, func(c client.Client) error {
		return retry.RetryOnConflict(retry.DefaultBackoff, func() error { // the hub writes its status
			if err := r.kube.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
				return err
			}
			change()
			return c.Update(ctx, object)
		})
	})
	try("delete", writes, func(c client.Client) error { return c.Delete(ctx, object) })
}
