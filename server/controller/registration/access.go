// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	addonv1alpha1 "open-cluster-management.io/api/addon/v1alpha1"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// worksRecheck is how soon the works of a cluster that leaves are looked at
	// again; it grows to worksRecheckMax for clusters that leave works behind.
	worksRecheck    = 5 * time.Second
	worksRecheckMax = time.Minute
)

// errNamespaceEnding is why an accepted cluster has no access for now.
var errNamespaceEnding = errors.New("the cluster's namespace is being deleted; it is made anew when it is gone")

// access makes and removes what lets a cluster in.
type access struct {
	applier
	cfg Config
}

// grant gives an accepted cluster its namespace and RBAC. again is when to look
// once more, if that is known.
func (a access) grant(ctx context.Context, cluster string) (again time.Duration, err error) {
	if err := allowedNamespace(cluster, a.cfg.HubNamespace); err != nil {
		return 0, err
	}
	ending, err := a.ensureNamespace(ctx, cluster)
	if err != nil {
		return 0, err
	}
	if ending {
		again, err := a.removeBindings(ctx, cluster)
		return again, errors.Join(errNamespaceEnding, err)
	}
	wanted := append(a.cfg.bindings(cluster), a.cfg.clusterRole(cluster), a.cfg.clusterRoleBinding(cluster))
	var problems []error
	for _, object := range wanted {
		if err := a.ensure(ctx, object); err != nil {
			problems = append(problems, err)
		}
	}
	return 0, errors.Join(problems...)
}

// allowedNamespace keeps agents out of namespaces in which a Lease or an Event
// of theirs would mean something else.
func allowedNamespace(cluster, hubNamespace string) error {
	if cluster == hubNamespace || strings.HasPrefix(cluster, "kube-") {
		return fmt.Errorf("a cluster named %q would get access to the hub's own namespace %q: register it under another name", cluster, cluster)
	}
	return nil
}

func (a access) ensureNamespace(ctx context.Context, cluster string) (ending bool, err error) {
	wanted := a.cfg.namespace(cluster)
	if done, err := a.ledger.asWanted(wanted); done || err != nil {
		return false, err
	}
	existing, err := a.read(ctx, wanted)
	if err != nil {
		return false, err
	}
	if existing != nil && !existing.GetDeletionTimestamp().IsZero() {
		return true, nil
	}
	return false, a.ensure(ctx, wanted)
}

// deny leaves a cluster the right to see that it was denied.
func (a access) deny(ctx context.Context, cluster string) (again time.Duration, err error) {
	var problems []error
	for _, object := range []client.Object{a.cfg.deniedClusterRole(cluster), a.cfg.clusterRoleBinding(cluster)} {
		if err := a.ensure(ctx, object); err != nil {
			problems = append(problems, err)
		}
	}
	again, err = a.removeBindings(ctx, cluster)
	return again, errors.Join(append(problems, err)...)
}

// remove takes everything from a cluster but its namespace and what is in it.
func (a access) remove(ctx context.Context, cluster string) (again time.Duration, err error) {
	var problems []error
	for _, object := range []client.Object{a.cfg.clusterRoleBinding(cluster), a.cfg.clusterRole(cluster)} {
		if err := a.applier.remove(ctx, object); err != nil {
			problems = append(problems, err)
		}
	}
	again, err = a.removeBindings(ctx, cluster)
	return again, errors.Join(append(problems, err)...)
}

// removeBindings deletes the RoleBindings. Those that the clean-up of works
// needs stay effective, by their finalizer, until the last work is gone.
func (a access) removeBindings(ctx context.Context, cluster string) (again time.Duration, err error) {
	works, problems := unknown, []error(nil)
	for _, like := range a.cfg.bindings(cluster) {
		existing, err := a.find(ctx, like)
		if err == nil && existing != nil {
			err = a.delete(ctx, existing)
		}
		if err != nil || existing == nil || len(existing.GetFinalizers()) == 0 {
			problems = append(problems, err)
			continue
		}
		if works == unknown {
			works, err = a.works(ctx, cluster)
			problems = append(problems, err)
		}
		if works == none {
			problems = append(problems, a.release(ctx, existing))
		} else {
			again = a.recheck(existing)
		}
	}
	return again, errors.Join(problems...)
}

// recheck waits the longer, the longer ago the object was deleted.
func (a access) recheck(deleted client.Object) time.Duration {
	at := deleted.GetDeletionTimestamp()
	if at.IsZero() {
		return worksRecheck
	}
	return min(max(a.cfg.Clock.Since(at.Time)/10, worksRecheck), worksRecheckMax)
}

// worksLeft says what is known about the ManifestWorks of a cluster.
type worksLeft int

const (
	unknown worksLeft = iota
	none
	some
)

// works asks the apiserver whether a cluster has any ManifestWork. There are
// far too many of them to keep in a cache for this.
func (a access) works(ctx context.Context, cluster string) (worksLeft, error) {
	return a.left(ctx, cluster, schema.GroupVersion{Group: workv1.GroupName, Version: "v1"}.WithKind("ManifestWorkList"))
}

// addOns asks likewise for ManagedClusterAddOns.
func (a access) addOns(ctx context.Context, cluster string) (worksLeft, error) {
	return a.left(ctx, cluster, schema.GroupVersion{Group: addonv1alpha1.GroupName, Version: "v1alpha1"}.WithKind("ManagedClusterAddOnList"))
}

func (a access) left(ctx context.Context, cluster string, kind schema.GroupVersionKind) (worksLeft, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind)
	err := a.live.List(ctx, list, client.InNamespace(cluster), client.Limit(1))
	switch {
	case meta.IsNoMatchError(err):
		return none, nil // no such kind, no such object
	case err != nil:
		return unknown, fmt.Errorf("looking for any %s in %q: %w", strings.TrimSuffix(kind.Kind, "List"), cluster, err)
	case len(list.Items) > 0 || list.Continue != "":
		return some, nil
	}
	return none, nil
}

// leftovers says whether any object of a cluster's access is there.
func (a access) leftovers(cluster string) bool {
	likes := append(a.cfg.bindings(cluster), a.cfg.clusterRole(cluster), a.cfg.clusterRoleBinding(cluster))
	return slices.ContainsFunc(likes, a.ledger.has)
}
