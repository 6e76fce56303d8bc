// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package executor

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	// settling is how long after a change of rights an apiserver may still answer from before it. Answers of that time are not
	// kept, and at its end all is asked once more.
	settling = 2 * time.Second
	// Answers are kept so long at most, because RBAC need not be the only authorizer and others cannot be watched.
	keepAllowed = 5 * time.Minute
	keepDenied  = 30 * time.Second
)

// rights remembers answers, and watches what they depend on.
type rights struct {
	cfg    Config
	client metadata.Interface
	// flipped wakes run when the first work comes or the last one goes, touched when rights changed.
	flipped, touched chan struct{}

	mu      sync.Mutex
	works   map[string]struct{}
	watched map[string]bool // by resource: whether the watch shows every change
	answers map[question]kept
	changes int64
	changed time.Time
}

type kept struct {
	answer

	at time.Time
}

func newRights(cfg Config, client metadata.Interface) *rights {
	return &rights{
		cfg: cfg, client: client, flipped: make(chan struct{}, 1), touched: make(chan struct{}, 1),
		works: map[string]struct{}{}, watched: map[string]bool{}, answers: map[question]kept{},
	}
}

func resources() []string {
	return []string{"clusterroles", "clusterrolebindings", "roles", "rolebindings"}
}

func wake(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

func (r *rights) use(work string, has bool) {
	r.mu.Lock()
	before := len(r.works)
	delete(r.works, work)
	if has {
		r.works[work] = struct{}{}
	}
	flipped := (before == 0) != (len(r.works) == 0)
	r.mu.Unlock()
	if flipped {
		wake(r.flipped)
	}
}

func (r *rights) inUse() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.works))
}

func (r *rights) epoch() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changes
}

// remembered returns what was answered to a question. If ok is false the answer to it is to be given to keep.
func (r *rights) remembered(asked question) (found answer, keep func(answer), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, epoch := r.cfg.Clock.Now(), r.changes
	if known, ok := r.answers[asked]; ok {
		limit := keepDenied
		if known.allowed {
			limit = keepAllowed
		}
		if now.Sub(known.at) < limit {
			return known.answer, nil, true
		}
	}
	return answer{}, func(got answer) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.trusted(now) && r.changes == epoch {
			r.answers[asked] = kept{answer: got, at: now}
		}
	}, false
}

// trusted reports whether a change of rights after now would be noticed. The caller holds the lock.
func (r *rights) trusted(now time.Time) bool {
	for _, resource := range resources() {
		if !r.watched[resource] {
			return false
		}
	}
	return now.Sub(r.changed) >= settling
}

// run watches while some work is in use.
func (r *rights) run(ctx context.Context) error {
	if !r.cfg.Cache {
		<-ctx.Done()
		return nil
	}
	for ctx.Err() == nil {
		if len(r.inUse()) > 0 {
			if err := r.watchAll(ctx); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-r.flipped:
		}
	}
	return nil
}

// watchAll watches all that rights depend on until no work is in use any more or ctx ends, and forgets what it learned.
func (r *rights) watchAll(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	for _, resource := range resources() {
		group.Go(func() error {
			r.watch(ctx, resource)
			return nil
		})
	}
	group.Go(func() error {
		defer stop()
		r.tell(ctx)
		return nil
	})
	err := group.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.answers)
	clear(r.watched)
	return err
}

// tell passes changes on until no work is in use: the first at once, and all again when they have settled. Where they do not
// rest that is every settling.
func (r *rights) tell(ctx context.Context) {
	settled := time.NewTimer(settling)
	defer settled.Stop()
	pending, again := true, false
	for len(r.inUse()) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-r.flipped:
			continue
		case <-r.touched:
			if pending {
				again = true
				continue
			}
			pending = true
			settled.Reset(settling)
		case <-settled.C:
			r.forget()
			if pending, again = again, false; pending {
				settled.Reset(settling)
			}
		}
		for _, work := range r.inUse() {
			r.cfg.Changed(work)
		}
	}
}

// forget drops all answers.
func (r *rights) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.answers)
	r.changes++
}

// change takes note that rights changed, or may have while nobody looked.
func (r *rights) change() {
	r.mu.Lock()
	r.changed = r.cfg.Clock.Now()
	r.mu.Unlock()
	r.forget()
	wake(r.touched)
}

// watch follows one resource until ctx ends.
func (r *rights) watch(ctx context.Context, resource string) {
	quiet := logr.Discard() // failures are logged by seen, once
	client := r.client.Resource(schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: resource})
	source := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := client.List(ctx, options)
			return list, r.seen(ctx, resource, err)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			changes, err := client.Watch(ctx, options)
			return changes, r.seen(ctx, resource, err)
		},
	}, r.client)
	reflector := cache.NewReflectorWithOptions(source, &metav1.PartialObjectMetadata{}, follower{rights: r}, cache.ReflectorOptions{
		Name: resource, Logger: &quiet,
	})
	reflector.RunWithContext(klog.NewContext(ctx, quiet))
}

// seen takes note of a request: after one that failed nothing is remembered until one succeeds.
func (r *rights) seen(ctx context.Context, resource string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	r.mu.Lock()
	was, known := r.watched[resource]
	r.watched[resource] = err == nil
	r.mu.Unlock()
	if err == nil && !was {
		r.change()
	}
	if err != nil && (was || !known) {
		r.cfg.Logger.WarnContext(ctx, "cannot watch who may do what; executors are checked by a request each time until that works",
			"resource", resource, "err", err)
	}
	return err
}

// follower is the store that a reflector fills: it keeps nothing.
type follower struct{ rights *rights }

// Add takes in what came.
func (f follower) Add(any) error { return f.tell() }

// Update takes in what changed.
func (f follower) Update(any) error { return f.tell() }

// Delete takes in what went.
func (f follower) Delete(any) error { return f.tell() }

// Replace takes in a list.
func (f follower) Replace([]any, string) error { return f.tell() }

// Resync does nothing: there is no period.
func (f follower) Resync() error { return nil }

func (f follower) tell() error {
	f.rights.change()
	return nil
}
