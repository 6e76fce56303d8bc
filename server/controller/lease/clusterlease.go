// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1ac "k8s.io/client-go/applyconfigurations/coordination/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/identity"
)

// clusterLeaseName names the Lease by which OCM's tools see a cluster alive; it
// is its own holder too.
const clusterLeaseName = "managed-cluster-lease"

// clusterLeases writes that Lease into the clusters' namespaces: on transitions,
// and once in a while for clusters that are alive. It never reads it back, so
// that ten thousand of them need no cache.
type clusterLeases struct {
	client  client.Client
	refresh time.Duration

	mu      sync.Mutex
	written map[string]time.Time // by cluster: when its Lease was last written
}

// due is how long the Lease of a living cluster may stay as it is; it is not
// positive if it has to be written now. known is whether the Lease was there
// before this process: then the first refresh is anywhere within the interval,
// so that a restart does not write all of them.
func (l *clusterLeases) due(cluster string, now time.Time, known bool) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, ok := l.written[cluster]
	if !ok && !known {
		return 0
	}
	if !ok {
		last = now.Add(-offset(cluster, l.refresh))
		l.written[cluster] = last
	}
	return last.Add(l.refresh).Sub(now)
}

// offset spreads clusters over an interval, each always at the same place.
func offset(cluster string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(cluster)) // never fails
	return time.Duration(h.Sum64()>>1) % max(interval, 1)
}

// write makes the Lease say that the cluster was last heard from at seen.
func (l *clusterLeases) write(ctx context.Context, cluster *clusterv1.ManagedCluster, seen, now time.Time) error {
	lease := coordinationv1ac.Lease(clusterLeaseName, cluster.Name).
		WithLabels(map[string]string{identity.ClusterNameLabel: cluster.Name}).
		WithSpec(coordinationv1ac.LeaseSpec().
			WithHolderIdentity(clusterLeaseName).
			WithLeaseDurationSeconds(int32(silence(cluster).Seconds())).
			WithRenewTime(metav1.NewMicroTime(seen)))
	if err := l.client.Apply(ctx, lease, client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("writing Lease %s/%s: %w", cluster.Name, clusterLeaseName, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written[cluster.Name] = now
	return nil
}

// forget drops what is remembered of a cluster that is gone.
func (l *clusterLeases) forget(cluster string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.written, cluster)
}
