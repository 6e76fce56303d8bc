// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/wire"
)

// enrollmentsOf is the name of this room's index of ClusterEnrollments.
const enrollmentsOf = "fairlead.dev/store-cluster"

// defaultLease is leaseDurationSeconds where a cluster has none (RC-35).
const defaultLease = 60 * time.Second

// ClustersConfig is what Clusters need.
type ClustersConfig struct {
	// Cache is started by somebody else, after NewClusters. Its scheme has
	// cluster/v1 and fairlead.dev/v1alpha1.
	Cache cache.Cache
	// Config is the identity that writes for agents.
	Config *rest.Config
	// Clock defaults to the real one, Log to slog.Default.
	Clock clock.PassiveClock
	Log   *slog.Logger
}

// Cluster is what admission has to know of a ManagedCluster.
type Cluster struct {
	Name, UID          string
	Accepted, Deleting bool
	// LeaseDuration is how long it may be silent.
	LeaseDuration time.Duration
}

// Clusters knows, from a cache, what admission and revocation of sessions depend
// on, tells of every change, and writes what agents report of their cluster. All
// methods may be called at any time.
type Clusters struct {
	cache cache.Cache
	rest  rest.Interface
	clock clock.PassiveClock
	log   *slog.Logger

	mu      sync.Mutex
	changed []func(string)
	configs []func(string)
	applied map[types.UID]string // what the last report that was written had quantities of
}

// NewClusters registers what it needs with the cache, which need not have
// started. It asks the apiserver which kinds there are, so their CRDs have to be
// installed.
func NewClusters(ctx context.Context, config ClustersConfig) (*Clusters, error) {
	if config.Cache == nil {
		return nil, errors.New("clusters: a cache is needed")
	}
	c := &Clusters{cache: config.Cache, clock: config.Clock, log: config.Log, applied: map[types.UID]string{}}
	if c.clock == nil {
		c.clock = clock.RealClock{}
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	var err error
	if c.rest, err = rawClient(config.Config, clusterv1.GroupName, clusterv1.GroupVersion.Version); err != nil {
		return nil, fmt.Errorf("client for ManagedClusters: %w", err)
	}
	err = c.cache.IndexField(ctx, &v1alpha1.ClusterEnrollment{}, enrollmentsOf, func(o client.Object) []string { return []string{clusterOf(o)} })
	if err != nil {
		return nil, fmt.Errorf("indexing ClusterEnrollments: %w", err)
	}
	for _, kind := range []client.Object{&clusterv1.ManagedCluster{}, &v1alpha1.ClusterEnrollment{}} {
		informer, err := c.cache.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watching %T: %w", kind, err)
		}
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    c.tell,
			UpdateFunc: c.updated,
			DeleteFunc: c.gone,
		})
		if err != nil {
			return nil, fmt.Errorf("watching %T: %w", kind, err)
		}
	}
	return c, nil
}

// OnChange has f called with the name of every cluster whose ManagedCluster or
// ClusterEnrollment has changed or is gone. f must not block. Call it before the
// cache starts.
func (c *Clusters) OnChange(f func(cluster string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = append(slices.Clip(c.changed), f)
}

// OnConfig has f called with the name of every cluster whose Config has changed.
// The same rules hold as for OnChange.
func (c *Clusters) OnConfig(f func(cluster string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.configs = append(slices.Clip(c.configs), f)
}

// updated is tell for what was there before.
func (c *Clusters) updated(before, now any) {
	old, ok := before.(*clusterv1.ManagedCluster)
	managed, same := now.(*clusterv1.ManagedCluster)
	if ok && same && !slices.Equal(configOf(old).ManagedNamespaces, configOf(managed).ManagedNamespaces) {
		c.mu.Lock()
		all := c.configs
		c.mu.Unlock()
		for _, f := range all {
			f(managed.Name)
		}
	}
	c.tell(now)
}

func (c *Clusters) tell(object any) {
	if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	o, ok := object.(client.Object)
	if !ok {
		return
	}
	c.mu.Lock()
	all := c.changed
	c.mu.Unlock()
	for _, f := range all {
		f(clusterOf(o))
	}
}

// gone is tell for what was deleted.
func (c *Clusters) gone(object any) {
	if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	if o, ok := object.(client.Object); ok {
		c.mu.Lock()
		delete(c.applied, o.GetUID())
		c.mu.Unlock()
	}
	c.tell(object)
}

func clusterOf(object client.Object) string {
	if enrollment, ok := object.(*v1alpha1.ClusterEnrollment); ok {
		return enrollment.Spec.ClusterName
	}
	return object.GetName()
}

// Get returns a cluster as the cache has it.
func (c *Clusters) Get(ctx context.Context, name string) (Cluster, bool) {
	managed, ok := c.managed(ctx, name)
	if !ok {
		return Cluster{}, false
	}
	lease := time.Duration(managed.Spec.LeaseDurationSeconds) * time.Second
	if lease <= 0 {
		lease = defaultLease
	}
	return Cluster{
		Name: name, UID: string(managed.UID), Accepted: managed.Spec.HubAcceptsClient,
		Deleting: !managed.DeletionTimestamp.IsZero(), LeaseDuration: lease,
	}, true
}

// Config returns what a cluster's agent is to do beside its works, as the cache
// has it; false when there is no such cluster.
func (c *Clusters) Config(ctx context.Context, name string) (wire.ClusterConfig, bool) {
	managed, ok := c.managed(ctx, name)
	if !ok {
		return wire.ClusterConfig{}, false
	}
	return configOf(managed), true
}

func configOf(managed *clusterv1.ManagedCluster) wire.ClusterConfig {
	var config wire.ClusterConfig
	for _, namespace := range managed.Status.ManagedNamespaces {
		config.ManagedNamespaces = append(config.ManagedNamespaces, namespace.Name)
	}
	return config
}

func (c *Clusters) managed(ctx context.Context, name string) (*clusterv1.ManagedCluster, bool) {
	var managed clusterv1.ManagedCluster
	if err := c.cache.Get(ctx, types.NamespacedName{Name: name}, &managed, client.UnsafeDisableDeepCopy); err != nil {
		return nil, false
	}
	return &managed, true
}

// Enrollments returns the enrollments of a cluster as the cache has them.
func (c *Clusters) Enrollments(ctx context.Context, name string) []v1alpha1.ClusterEnrollment {
	var list v1alpha1.ClusterEnrollmentList
	if err := c.cache.List(ctx, &list, client.MatchingFields{enrollmentsOf: name}); err != nil {
		c.log.Error("enrollments of a cluster cannot be listed", "cluster", name, "error", err)
		return nil
	}
	return list.Items
}
