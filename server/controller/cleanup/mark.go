// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cleanup

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// LeavingLabel on a cluster's namespace is the UID of a ManagedCluster that was
// seen to be deleted and whose namespace is not clean yet.
const LeavingLabel = "fairlead.dev/leaving-cluster"

func namespaceList() *metav1.PartialObjectMetadataList {
	list := &metav1.PartialObjectMetadataList{}
	list.APIVersion, list.Kind = "v1", "NamespaceList"
	return list
}

// namespace reads a namespace from the apiserver itself; nil if it is not there.
func (c *controller) namespace(ctx context.Context, name string) (*metav1.PartialObjectMetadata, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.APIVersion, namespace.Kind = "v1", "Namespace"
	err := c.live.Get(ctx, client.ObjectKey{Name: name}, namespace)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // nil is a namespace that is not there
	}
	if err != nil {
		return nil, fmt.Errorf("reading namespace %q: %w", name, err)
	}
	return namespace, nil
}

// mark writes down on the namespace that its cluster was deleted; "" takes that
// away. A namespace that is not there needs no mark.
func (c *controller) mark(ctx context.Context, name string, uid types.UID) error {
	namespace, err := c.namespace(ctx, name)
	if err != nil || namespace == nil || namespace.Labels[LeavingLabel] == string(uid) {
		return err
	}
	before := namespace.DeepCopy()
	if namespace.Labels == nil {
		namespace.Labels = map[string]string{}
	}
	namespace.Labels[LeavingLabel] = string(uid)
	if uid == "" {
		delete(namespace.Labels, LeavingLabel)
	}
	err = c.client.Patch(ctx, namespace, client.MergeFrom(before), client.FieldOwner(FieldManager))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("noting on namespace %q that its cluster leaves: %w", name, err)
	}
	return nil
}

func (c *controller) unmark(ctx context.Context, name string) error { return c.mark(ctx, name, "") }

// removals are the ManagedClusters that were watched to be deleted.
type removals struct {
	mu    sync.Mutex
	uids  map[string]types.UID
	began map[string]time.Time
}

func newRemovals() *removals {
	return &removals{uids: map[string]types.UID{}, began: map[string]time.Time{}}
}

func (r *removals) add(name string, uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.uids[name] = uid
}

func (r *removals) of(name string) types.UID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.uids[name]
}

// since is when the namespace was first waited for.
func (r *removals) since(name string, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began[name].IsZero() {
		r.began[name] = now
	}
	return r.began[name]
}

func (r *removals) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.uids, name)
	delete(r.began, name)
}
