// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ocmfeature "open-cluster-management.io/api/feature"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"fairlead.dev/fairlead/server/ca"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/server/controller/cleanup"
	"fairlead.dev/fairlead/server/controller/replicaset"
	"fairlead.dev/fairlead/server/store"
	"fairlead.dev/fairlead/server/webhook"
)

const (
	// managerGrace is how long controllers may take to stop.
	managerGrace = 4 * time.Second
	// managerPause is between two terms of leadership.
	managerPause = 2 * time.Second
)

// sharedCache is the hub's one cache of everything but ManifestWorks. The hub
// starts it, and it outlives the managers that use it: one that loses leadership
// cannot be started again, and the sessions of this replica need the cache.
type sharedCache struct {
	cache.Cache
	over    context.Context //nolint:containedctx // it ends when the cache has ended
	end     context.CancelFunc
	mu      sync.Mutex
	indexed map[string]bool
}

// newCache keeps out of memory what nobody looks at.
func (h *house) newCache() (*sharedCache, error) {
	byObject := controller.CacheOptions(h.cfg.Namespace)
	byObject[&corev1.ConfigMap{}] = cache.ByObject{Namespaces: map[string]cache.Config{
		h.cfg.Namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", ca.HubConfigMap)},
	}}
	for _, configuration := range webhook.Configurations() {
		byObject[configuration] = cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", configuration.GetName())}
	}
	inner, err := cache.New(h.rest, cache.Options{
		Scheme: h.scheme, ByObject: byObject, DefaultTransform: cache.TransformStripManagedFields(),
	})
	if err != nil {
		return nil, fmt.Errorf("making the cache: %w", err)
	}
	return newSharedCache(inner), nil
}

func newSharedCache(inner cache.Cache) *sharedCache {
	over, end := context.WithCancel(context.Background())
	return &sharedCache{Cache: inner, over: over, end: end, indexed: map[string]bool{}}
}

// Start runs the cache until ctx ends. It is called once.
func (c *sharedCache) Start(ctx context.Context) error {
	defer c.end()
	return c.Cache.Start(ctx)
}

// lentCache is the cache as managers have it: the hub starts it.
type lentCache struct{ *sharedCache }

// Start implements manager.Runnable.
func (lentCache) Start(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// WaitForCacheSync implements cache.Cache. It is true once the cache has ended, too:
// a manager that starts waits for it whatever its context says, and the hub could
// not stop.
func (c lentCache) WaitForCacheSync(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.over, cancel)() //nolint:contextcheck // it ends with whichever ends first
	return c.sharedCache.WaitForCacheSync(ctx) || c.over.Err() != nil
}

// IndexField adds each index once, whoever asks for it and how often.
func (c *sharedCache) IndexField(ctx context.Context, obj client.Object, field string, extract client.IndexerFunc) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := reflect.TypeOf(obj).String() + " " + field
	if c.indexed[name] {
		return nil
	}
	if err := c.Cache.IndexField(ctx, obj, field, extract); err != nil {
		return err
	}
	c.indexed[name] = true
	return nil
}

// runControllers runs the selected controllers, term after term: a replica that
// has lost its leadership, because its apiserver was away, goes on serving and
// stands for election again.
func (h *house) runControllers(ctx context.Context) error {
	selected, err := controller.Select(h.cfg.Controllers)
	if err != nil {
		return err
	}
	selected = controller.Gated(selected, h.cfg.Gates.Enabled)
	for {
		inner, err := h.newManager()
		if err != nil {
			return err
		}
		mgr := newSteady(inner)
		if err := controller.Add(mgr, h.controllerDeps(), selected); err != nil {
			return err
		}
		err = mgr.Start(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to end
		}
		if err != nil && !h.cfg.LeaderElect {
			return err
		}
		h.log.Warn("this replica no longer leads; it stands for election again", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(managerPause):
		}
	}
}

func (h *house) newManager() (manager.Manager, error) {
	grace := managerGrace
	mgr, err := manager.New(h.rest, manager.Options{
		Scheme:                        h.scheme,
		NewCache:                      func(*rest.Config, cache.Options) (cache.Cache, error) { return lentCache{h.cache}, nil },
		Client:                        client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
		Controller:                    ctrlconfig.Controller{SkipNameValidation: new(true)}, // one manager a term
		Metrics:                       metricsserver.Options{BindAddress: "0"},              // served with ours
		LeaderElection:                h.cfg.LeaderElect,
		LeaderElectionID:              "fairlead-hub-controllers",
		LeaderElectionNamespace:       h.cfg.Namespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       &grace,
	})
	if err != nil {
		return nil, fmt.Errorf("making the controller manager: %w", err)
	}
	return mgr, nil
}

func (h *house) controllerDeps() controller.Deps {
	resources, _ := cleanup.ParseResources(h.cfg.CleanUpResources) // Validate has read them
	return controller.Deps{
		CleanUp: h.cfg.Gates.Enabled(ocmfeature.ResourceCleanup), CleanUpResources: resources,
		HubNamespace: h.cfg.Namespace, Signer: h.signer(), ClientCAs: h.clientCAs, Labels: h.cfg.Labels, Works: expiringWorks{h.index},
		Registerer: h.registry, ReplicaSets: ReplicaSetWorks{h.index}, ClusterLeaseRefresh: h.cfg.ClusterLeaseRefresh, Clock: clock.RealClock{}, Log: h.log,
	}
}

// expiringWorks is what the index tells the controller of completed works.
type expiringWorks struct{ *store.Index }

// WatchExpiring implements work.Works.
func (w expiringWorks) WatchExpiring(call func(types.NamespacedName)) (cancel func()) {
	return w.Subscribe(func(c store.Change) {
		if c.Expires {
			call(types.NamespacedName{Namespace: c.Cluster, Name: c.Name})
		}
	})
}

// ReplicaSetWorks is what the index tells the controller of replica sets.
type ReplicaSetWorks struct{ *store.Index }

// WatchGenerated implements replicaset.Works.
func (w ReplicaSetWorks) WatchGenerated(call func(set string)) (cancel func()) {
	return w.Subscribe(func(c store.Change) {
		for _, set := range []string{c.ReplicaSet, c.FormerReplicaSet} {
			if set != "" {
				call(set)
			}
		}
	})
}

// Generated implements replicaset.Works.
func (w ReplicaSetWorks) Generated(set string) ([]replicaset.Work, bool) {
	if !w.Synced() || !w.Current() {
		return nil, false
	}
	found := w.Index.Generated(set)
	works := make([]replicaset.Work, len(found))
	for i := range found {
		works[i] = replicaset.Work(found[i])
	}
	return works, true
}
