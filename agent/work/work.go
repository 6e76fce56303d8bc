// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/work/apply"
	"fairlead.dev/fairlead/agent/work/drift"
	"fairlead.dev/fairlead/agent/work/executor"
	"fairlead.dev/fairlead/agent/work/feedback"
	"fairlead.dev/fairlead/agent/work/inventory"
	"fairlead.dev/fairlead/agent/work/kinds"
	"fairlead.dev/fairlead/agent/work/rule"
)

// DeleteState says whether and how a work is to be deleted.
type DeleteState int

// The delete states. Held is a delete that somebody must release first: the work is kept as it is, drift corrected.
const (
	DeleteNone DeleteState = iota
	DeleteRequested
	DeleteOrphaned
	DeleteHeld
)

// Desired is what the durable store says about one work.
type Desired struct {
	// Work is the work as it was received; it is never changed. For the delete of a work that the store never held, it has a
	// name and a UID and nothing else.
	Work *workv1.ManifestWork
	// Digest is that of the delivered bytes. It is echoed in reports.
	Digest []byte
	Delete DeleteState
	// Orphaned is since when it is known that the hub has the work no more; zero if it has it. Until Delete says so, nothing goes.
	Orphaned time.Time
	// HoldPrune keeps what the manifests do not name any more, listed in the inventory, until it is false.
	HoldPrune bool
}

// Source is the durable store of works. Its methods are called concurrently and must not block for long.
type Source interface {
	// Get returns what is wanted of the work called name; false if the store does not hold it, whereupon nothing is done.
	Get(name string) (Desired, bool)
	// Names lists all works, also those to be deleted.
	Names() []string
}

// Report is what came of one work.
type Report struct {
	Name, UID          string
	ObservedGeneration int64
	Digest             []byte
	// Status must not be changed. It is nil if Finalized is true.
	Status *workv1.ManifestWorkStatus
	// Finalized says that nothing of the deleted work is left on the spoke.
	Finalized bool
}

// Reporter takes reports; the latest of a name counts. Report is called concurrently and must not block.
type Reporter interface {
	Report(report Report)
}

// Defaults of Config.
const (
	DefaultWorkers            = 10
	DefaultStatusSyncInterval = 10 * time.Second
	DefaultResync             = 10 * time.Minute
	DefaultExecutorRecheck    = time.Minute
	DefaultEvictionGrace      = time.Hour
	DefaultQPS                = 50
	DefaultBurst              = 100
	DefaultMaxDeleteRate      = 20
)

// debounce is how long changes of applied objects are gathered before a pass, busyDebounce if the last pass was less than
// busyFor ago, which keeps an object that never rests from costing more than a few reads a second.
const (
	debounce     = 50 * time.Millisecond
	busyDebounce = 250 * time.Millisecond
	busyFor      = time.Second
)

// retryFrom and retryTo bound the backoff between passes that left something undone.
const (
	retryFrom = 250 * time.Millisecond
	retryTo   = 30 * time.Second
)

// Config is what a Controller needs. REST, HubHash, Source and Reporter have no default.
type Config struct {
	// REST reaches the spoke's apiserver. It is copied; without QPS of its own it gets DefaultQPS and DefaultBurst, a negative
	// QPS is no limit.
	REST *rest.Config
	// HubHash is the first part of the names of AppliedManifestWorks. AgentID is written into them; empty is HubHash.
	HubHash, AgentID string
	Source           Source
	Reporter         Reporter
	// StatusSyncInterval is how often works are looked at that have objects which cannot be watched.
	StatusSyncInterval time.Duration
	// Resync is how often, give or take half, every object of a work is read again whatever the watches say.
	Resync time.Duration
	// Feedback says what may be fed back.
	Feedback feedback.Limits
	// ExecutorRecheck is how often, at least, an executor is asked about again that lacks a right.
	ExecutorRecheck time.Duration
	// ExecutorCache remembers what executors may do while roles and bindings, which are watched for that, do not change.
	ExecutorCache bool
	Workers       int
	// MaxDeleteRate is how many works begin to be deleted in a second, at most (c4); 0 is no limit.
	MaxDeleteRate float64
	// EvictionGrace is how long an AppliedManifestWork waits whose work is not there (MW-62); zero is DefaultEvictionGrace, and
	// NoEviction or more is for ever. InSync tells whether the Source has all that the hub has, now; nil is never.
	EvictionGrace time.Duration
	InSync        func() bool
	// HeldChanged is told that other evictions are held than before; see Evictions. It must not block. It may be nil.
	HeldChanged func()
	Logger      *slog.Logger
	Clock       clock.PassiveClock
}

func (c *Config) complete() error {
	for name, missing := range map[string]bool{
		"REST": c.REST == nil, "HubHash": c.HubHash == "", "Source": c.Source == nil, "Reporter": c.Reporter == nil,
	} {
		if missing {
			return fmt.Errorf("work: Config.%s must be set", name)
		}
	}
	if c.AgentID == "" {
		c.AgentID = c.HubHash
	}
	if c.StatusSyncInterval <= 0 {
		c.StatusSyncInterval = DefaultStatusSyncInterval
	}
	if c.Resync <= 0 {
		c.Resync = DefaultResync
	}
	if c.ExecutorRecheck <= 0 {
		c.ExecutorRecheck = DefaultExecutorRecheck
	}
	if c.Workers <= 0 {
		c.Workers = DefaultWorkers
	}
	if c.EvictionGrace <= 0 {
		c.EvictionGrace = DefaultEvictionGrace
	}
	if c.InSync == nil {
		c.InSync = func() bool { return false }
	}
	if c.HeldChanged == nil {
		c.HeldChanged = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	return nil
}

// Controller reconciles works. Enqueue and ResendAll may be called at any time, from any goroutine.
type Controller struct {
	cfg     Config
	queue   workqueue.TypedRateLimitingInterface[string]
	order   *lanes
	mapper  *kinds.Mapper
	applier *apply.Applier
	store   *inventory.Store
	remover *inventory.Remover
	watcher *drift.Watcher
	checker *executor.Checker
	rules   *rule.Evaluator
	deletes *rate.Limiter
	// resends counts calls of ResendAll; a work whose memory knows of fewer is reported again.
	resends atomic.Int64

	sweep chan struct{} // somebody asks for a look at all AppliedManifestWorks

	mu       sync.Mutex
	memories map[string]*memory
	leftover map[string]Eviction // by name of the AppliedManifestWork
}

// New returns a controller that does nothing until Run is called.
func New(cfg Config) (*Controller, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	spoke := rest.CopyConfig(cfg.REST)
	spoke.WarningHandlerWithContext = rest.NoWarnings{}
	spoke.UserAgent = apply.FieldManager + "/fairlead"
	if spoke.QPS == 0 {
		spoke.QPS, spoke.Burst = DefaultQPS, DefaultBurst
	}
	if spoke.RateLimiter == nil && spoke.QPS > 0 {
		spoke.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(spoke.QPS, spoke.Burst) // one for all clients
	}
	objects, errObjects := dynamic.NewForConfig(spoke)
	metas, errMetas := metadata.NewForConfig(spoke)
	discoverer, errDiscoverer := discovery.NewDiscoveryClientForConfig(spoke)
	rules, errRules := rule.New()
	c := &Controller{cfg: cfg, rules: rules}
	checker, errChecker := executor.New(executor.Config{
		REST: spoke, Cache: cfg.ExecutorCache, Changed: c.changed, Logger: cfg.Logger, Clock: cfg.Clock,
	})
	if err := errors.Join(errObjects, errMetas, errDiscoverer, errChecker, errRules); err != nil {
		return nil, fmt.Errorf("making clients for the spoke's apiserver %s: %w", spoke.Host, err)
	}
	c.checker = checker
	c.mapper = kinds.NewMapper(discoverer)
	c.applier = apply.New(objects)
	c.store = inventory.NewStore(objects, cfg.HubHash, cfg.AgentID)
	c.memories, c.leftover, c.sweep = map[string]*memory{}, map[string]Eviction{}, make(chan struct{}, 1)
	c.queue, c.order = newQueue()
	c.remover = inventory.NewRemover(metas, c.mapper)
	c.deletes = rate.NewLimiter(rate.Inf, 1)
	if cfg.MaxDeleteRate > 0 {
		c.deletes = rate.NewLimiter(rate.Limit(cfg.MaxDeleteRate), max(1, int(cfg.MaxDeleteRate)))
	}
	c.watcher = drift.New(drift.Config{Client: metas, Logger: cfg.Logger, Changed: c.changed})
	return c, nil
}

// changed asks for a pass because an object of the work changed, or what its executor may do, or because a definition did that it
// may wait for: discovery follows it soon, so the pauses between passes begin anew. It goes before what was only delivered.
func (c *Controller) changed(name string) {
	c.mu.Lock()
	m, ok := c.memories[name]
	busy := ok && c.cfg.Clock.Since(m.started) < busyFor
	waits := ok && m.waits
	c.mu.Unlock()
	if waits {
		c.queue.Forget(name)
	}
	c.order.hurry(name)
	if busy {
		c.queue.AddAfter(name, busyDebounce)
		return
	}
	c.queue.AddAfter(name, debounce)
}

// Enqueue asks for a pass over the work called name. It does not wait for it.
func (c *Controller) Enqueue(name string) {
	c.queue.Add(name)
}

// ResendAll makes every work be reported again, also where its status is what was reported last. It does not wait for it.
func (c *Controller) ResendAll() {
	c.resends.Add(1)
	for _, name := range c.cfg.Source.Names() {
		c.queue.Add(name)
	}
}

// Run reconciles all works of the Source, and from then on those that are enqueued or whose objects change, until ctx ends. It
// returns when all of its goroutines have, and can be called once.
func (c *Controller) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.watcher.Run(ctx) })
	group.Go(func() error { return c.checker.Run(ctx) })
	group.Go(func() error { return c.sweepAll(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		c.queue.ShutDown()
		return nil
	})
	for range c.cfg.Workers {
		group.Go(func() error {
			for c.next(ctx) {
			}
			return nil
		})
	}
	for _, name := range c.cfg.Source.Names() {
		c.queue.Add(name)
	}
	return group.Wait()
}

// next takes one work off the queue and makes a pass over it. It returns false when the queue is shut down.
func (c *Controller) next(ctx context.Context) bool {
	name, shutdown := c.queue.Get()
	if shutdown {
		return false
	}
	defer c.queue.Done(name)
	after, err := c.guarded(ctx, name)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errAgain):
		c.queue.AddRateLimited(name)
	case err != nil:
		c.cfg.Logger.WarnContext(ctx, "work is not settled yet", "work", name, "err", err)
		c.queue.AddRateLimited(name)
	case after > 0:
		c.queue.Forget(name)
		c.queue.AddAfter(name, wait.Jitter(after, 0.5))
	default:
		c.queue.Forget(name)
	}
	return true
}

// guarded turns a panic over one work into an error of that work.
func (c *Controller) guarded(ctx context.Context, name string) (after time.Duration, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	if applied, ok := strings.CutPrefix(name, evictionKey); ok {
		return c.evict(ctx, applied)
	}
	return c.reconcile(ctx, name)
}
