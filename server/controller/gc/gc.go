// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
)

// sweepEvery is how often the collector looks.
const sweepEvery = time.Hour

// Config is what the collector needs.
type Config struct {
	// HubNamespace is where the Leases are. Default identity.HubNamespace.
	HubNamespace string
	// Clock is the hub's clock. Default the real one.
	Clock clock.WithTicker
	// Log gets a line for each object that is removed. Default slog.Default().
	Log *slog.Logger
}

// Setup adds the collector to mgr, which runs it on the leader only. The CRDs of
// ManagedCluster and ClusterEnrollment have to be served.
func Setup(mgr manager.Manager, cfg Config) error {
	if cfg.HubNamespace == "" {
		cfg.HubNamespace = identity.HubNamespace
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := mgr.Add(&collector{client: mgr.GetClient(), live: mgr.GetAPIReader(), cfg: cfg}); err != nil {
		return fmt.Errorf("adding the garbage collector: %w", err)
	}
	return nil
}

// collector removes what is dead, now and then.
type collector struct {
	client client.Client
	live   client.Reader
	cfg    Config
}

// Start sweeps until ctx ends.
func (c *collector) Start(ctx context.Context) error {
	ticker := c.cfg.Clock.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		if err := c.sweep(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.WarnContext(ctx, "what nobody needs any more was not all removed; the next sweep tries again", "in", sweepEvery, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

func (c *collector) sweep(ctx context.Context) error {
	leases, clusters := &coordinationv1.LeaseList{}, &clusterv1.ManagedClusterList{}
	enrollments := &v1alpha1.ClusterEnrollmentList{}
	err := errors.Join(
		c.client.List(ctx, leases, client.InNamespace(c.cfg.HubNamespace), client.UnsafeDisableDeepCopy),
		c.client.List(ctx, clusters, client.UnsafeDisableDeepCopy),
		c.client.List(ctx, enrollments, client.UnsafeDisableDeepCopy),
	)
	if err != nil {
		return fmt.Errorf("listing what the hub made: %w", err)
	}
	now := c.cfg.Clock.Now()
	used := usedBy(leases.Items, clusters.Items, now)
	var problems []error
	for i := range leases.Items {
		if !used.deadLease(&leases.Items[i], now) {
			continue
		}
		gone, err := c.clusterGone(ctx, leases.Items[i].Labels[identity.ClusterNameLabel], "")
		if gone {
			err = c.remove(ctx, "Lease", &leases.Items[i])
		}
		problems = append(problems, err)
	}
	for i := range enrollments.Items {
		e := &enrollments.Items[i]
		if !deadEnrollment(e, now) {
			continue
		}
		gone, err := true, error(nil)
		if e.EverIssued() { // a cluster that is being removed needs its agent to the end
			gone, err = c.clusterGone(ctx, e.Spec.ClusterName, e.Spec.ManagedClusterUID)
		}
		if gone {
			err = c.remove(ctx, "ClusterEnrollment", e)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// clusterGone asks the apiserver whether there is no such cluster (of that UID, if
// one is given): a cache that lacks it proves nothing. No name is no cluster.
func (c *collector) clusterGone(ctx context.Context, name, uid string) (bool, error) {
	if name == "" {
		return true, nil
	}
	cluster := &clusterv1.ManagedCluster{}
	err := c.live.Get(ctx, client.ObjectKey{Name: name}, cluster)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking whether cluster %q is gone: %w", name, err)
	}
	return uid != "" && string(cluster.UID) != uid, nil
}

// remove deletes exactly the object that was judged; one that changed meanwhile
// is in use.
func (c *collector) remove(ctx context.Context, kind string, judged client.Object) error {
	uid, version := judged.GetUID(), judged.GetResourceVersion()
	err := c.client.Delete(ctx, judged, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing %s %q: %w", kind, judged.GetName(), err)
	}
	c.cfg.Log.InfoContext(ctx, "removed, since nobody needs it any more", "kind", kind, "name", judged.GetName())
	return nil
}
