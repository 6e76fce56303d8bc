// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
)

// shards is the number of locks that the clusters of the index share.
const shards = 64

// IndexConfig is what an Index needs.
type IndexConfig struct {
	// Config reads ManifestWorks of all namespaces.
	Config *rest.Config
	// OnRestored is called when the apiserver turns out to be older than what
	// the index has seen, before anything that shows it is taken in: the hub was
	// restored from a backup (PROTOCOL decision 9). seen is how far the index was,
	// listed where the list is, which may be further by now. While it returns an
	// error the index stays as it was. May be nil.
	OnRestored func(ctx context.Context, seen, listed uint64) error
	// CheckEpoch is called before anything that a new list or watch shows is taken
	// in. It asks the apiserver itself whether the hub's epoch is still the one that
	// sessions have, and calls Relist if not: a restored apiserver may be ahead of the
	// index, so that no resourceVersion shows it. While it returns an error the index
	// stays as it was. May be nil.
	CheckEpoch func(ctx context.Context) error
	// Log defaults to slog.Default.
	Log *slog.Logger
}

// Index knows every ManifestWork of the hub by cluster and name: identity,
// revision, digests, and the bytes to deliver, with equal specs kept once. All
// methods may be called at any time from anywhere. What it lacks is no proof
// that a work is gone: ask QuorumGet.
type Index struct {
	works      works
	onRestored func(ctx context.Context, seen, listed uint64) error
	checkEpoch func(ctx context.Context) error
	log        *slog.Logger
	codec      *codec.Codec
	specs      specs
	recent     recent
	seed       maphash.Seed
	members    members
	shards     [shards]shard
	patience   patience

	// highWater is the resourceVersion up to which the index is complete.
	highWater atomic.Uint64
	synced    chan struct{}

	subscribersMu sync.Mutex
	subscribers   atomic.Pointer[[]*subscriber[Change]]

	malformed atomic.Uint64
	lists     atomic.Uint64
	watches   atomic.Uint64

	// inDoubt asks for another list, also when no watch runs that could be ended
	// for it; endWatch ends the current one.
	inDoubt  atomic.Bool
	endWatch atomic.Pointer[context.CancelCauseFunc]

	// wanted counts calls of Relist; done is how many of them the last complete
	// list had heard of when it began.
	wanted, done atomic.Uint64

	// Only Run uses these: the number of the current or last full list, and how
	// many calls of Relist it answers; whether the hub was found to be restored;
	// whether the current list is the first since then; and the newest change
	// taken in.
	listing   uint32
	answers   uint64
	older     bool
	restoring bool
	last      sighted
}

// shard is some of the clusters under one lock, which is held for map accesses
// and copies only, never while computing, compressing or calling out.
type shard struct {
	mu       sync.Mutex
	clusters map[string]*cluster
}

// NewIndex returns an index that is empty until Run fills it.
func NewIndex(config IndexConfig) (*Index, error) {
	client, err := newWorks(config.Config)
	if err != nil {
		return nil, err
	}
	x, err := newIndex()
	if err != nil {
		return nil, err
	}
	x.works, x.onRestored = client, config.OnRestored
	if config.CheckEpoch != nil {
		x.checkEpoch = config.CheckEpoch
	}
	if config.Log != nil {
		x.log = config.Log
	}
	return x, nil
}

func newIndex() (*Index, error) {
	packer, err := codec.New(wire.MaxObject)
	if err != nil {
		return nil, fmt.Errorf("index of ManifestWorks: %w", err)
	}
	x := &Index{
		checkEpoch: func(context.Context) error { return nil },
		log:        slog.Default(), codec: packer, seed: maphash.MakeSeed(), patience: defaultPatience(), synced: make(chan struct{}),
	}
	for i := range x.shards {
		x.shards[i].clusters = map[string]*cluster{}
	}
	return x, nil
}

func (x *Index) shard(cluster string) *shard {
	return &x.shards[maphash.String(x.seed, cluster)%shards]
}

// HasSynced is closed once the index has seen everything at least once.
func (x *Index) HasSynced() <-chan struct{} { return x.synced }

// Synced tells whether the index has seen everything at least once.
func (x *Index) Synced() bool {
	select {
	case <-x.synced:
		return true
	default:
		return false
	}
}

// Relist has everything listed anew, because the hub was restored and that was
// noticed by somebody else: what the list shows counts, though it be older. It
// does not wait; until the list is complete, Current is false.
func (x *Index) Relist() {
	x.wanted.Add(1)
	x.doubt()
}

// Current tells whether the index has been listed since the last Relist.
func (x *Index) Current() bool { return x.done.Load() >= x.wanted.Load() }

// HighWater is the resourceVersion up to which the index has seen everything;
// 0 before the first sync.
func (x *Index) HighWater() uint64 { return x.highWater.Load() }

// Clusters names the clusters that have works, in no order.
func (x *Index) Clusters() []string {
	var names []string
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		for name, c := range s.clusters {
			if len(c.works) > 0 {
				names = append(names, name)
			}
		}
		s.mu.Unlock()
	}
	return names
}

// Expiring names the works, by cluster, that may be complete and then end by
// themselves; see Change. In no order.
func (x *Index) Expiring() []types.NamespacedName {
	var all []types.NamespacedName
	for i := range x.shards {
		all = x.shards[i].expiring(all)
	}
	return all
}

func (s *shard) expiring(all []types.NamespacedName) []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cluster, c := range s.clusters {
		for name, r := range c.works {
			if r.expires {
				all = append(all, types.NamespacedName{Namespace: cluster, Name: name})
			}
		}
	}
	return all
}

// IndexStats are figures for metrics and readiness.
type IndexStats struct {
	Clusters, Works int
	// Specs are distinct; SpecBytes is what they take, compressed.
	Specs     int
	SpecBytes int64
	// Lists and Watches were started; Malformed objects were skipped.
	Lists, Watches, Malformed uint64
}

// Stats counts what the index holds.
func (x *Index) Stats() IndexStats {
	stats := IndexStats{Lists: x.lists.Load(), Watches: x.watches.Load(), Malformed: x.malformed.Load()}
	stats.Specs, stats.SpecBytes = x.specs.size()
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		for _, c := range s.clusters {
			if len(c.works) > 0 {
				stats.Clusters++
				stats.Works += len(c.works)
			}
		}
		s.mu.Unlock()
	}
	return stats
}
