// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// sharedRoles keeps the two ClusterRoles that every cluster's RoleBindings
// name, for as long as there is any ManagedCluster.
type sharedRoles struct {
	client client.Client
	live   client.Reader
	access access
}

// sharedKey is the key of the shared roles: no cluster has a namespace.
func sharedKey() reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "shared", Name: "roles"}}
}

// reconcile makes or deletes the shared roles.
func (r sharedRoles) reconcile(ctx context.Context) error {
	needed, err := anyCluster(ctx, r.client)
	if err == nil && !needed { // a cache must not be the witness of absence
		needed, err = anyCluster(ctx, r.live)
	}
	if err != nil {
		return err
	}
	var problems []error
	for _, role := range r.access.cfg.sharedRoles() {
		if needed {
			problems = append(problems, r.access.ensure(ctx, role))
		} else {
			problems = append(problems, r.access.applier.remove(ctx, role))
		}
	}
	return errors.Join(problems...)
}

func anyCluster(ctx context.Context, reader client.Reader) (bool, error) {
	list := &clusterv1.ManagedClusterList{}
	if err := reader.List(ctx, list, client.Limit(1)); err != nil {
		return false, fmt.Errorf("looking for any ManagedCluster: %w", err)
	}
	return len(list.Items) > 0, nil
}
