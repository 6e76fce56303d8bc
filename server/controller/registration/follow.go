// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"fmt"
	"net/http"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// follower keeps a ledger up to date. The manager runs it on the leader.
type follower struct {
	ledger  *ledger
	clients *kubernetes.Clientset
}

func newFollower(cfg *rest.Config, transport *http.Client, l *ledger) (*follower, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.ContentType, cfg.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	clients, err := kubernetes.NewForConfigAndClient(cfg, transport)
	if err != nil {
		return nil, fmt.Errorf("making a client to follow namespaces and RBAC: %w", err)
	}
	return &follower{ledger: l, clients: clients}, nil
}

// Start implements manager.Runnable: it lists and watches until ctx ends.
func (f *follower) Start(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, k := range kinds() {
		getter, example := toolscache.Getter(f.clients.RbacV1().RESTClient()), client.Object(&rbacv1.RoleBinding{})
		switch k {
		case kindNamespace:
			getter, example = f.clients.CoreV1().RESTClient(), &corev1.Namespace{}
		case kindClusterRole:
			example = &rbacv1.ClusterRole{}
		case kindClusterRoleBinding:
			example = &rbacv1.ClusterRoleBinding{}
		case kindRoleBinding:
		}
		source := toolscache.NewFilteredListWatchFromClient(getter, string(k), "", k.selector)
		reflector := toolscache.NewReflectorWithOptions(source, example, kindStore{f.ledger, k}, toolscache.ReflectorOptions{Name: "registration-" + string(k)})
		group.Go(func() error {
			reflector.RunWithContext(ctx)
			return nil
		})
	}
	return group.Wait()
}

// kindStore is where a reflector puts the objects of one kind.
type kindStore struct {
	ledger *ledger
	kind   kind
}

// Add implements cache.ReflectorStore.
func (s kindStore) Add(seen any) error {
	o, err := object(seen)
	if err != nil {
		return err
	}
	return s.ledger.put(o)
}

// Update implements cache.ReflectorStore.
func (s kindStore) Update(seen any) error { return s.Add(seen) }

// Delete implements cache.ReflectorStore.
func (s kindStore) Delete(seen any) error {
	o, err := object(seen)
	if err != nil {
		return err
	}
	s.ledger.drop(refOf(o))
	return nil
}

// Replace implements cache.ReflectorStore.
func (s kindStore) Replace(all []any, _ string) error {
	present := make(map[ref]bool, len(all))
	for _, seen := range all {
		o, err := object(seen)
		if err != nil {
			return err
		}
		if err := s.ledger.put(o); err != nil {
			return err
		}
		present[refOf(o)] = true
	}
	s.ledger.keepOnly(s.kind, present)
	return nil
}

// Resync implements cache.ReflectorStore.
func (s kindStore) Resync() error { return nil }

func object(seen any) (client.Object, error) {
	o, ok := seen.(client.Object)
	if !ok {
		return nil, fmt.Errorf("%T is not an object that was asked for", seen)
	}
	return o, nil
}
