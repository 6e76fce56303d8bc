// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// statusManager is the field manager of everything that is written for agents.
const statusManager = "fairlead-agent"

// Status is what an agent reports of one object.
type Status struct {
	Key wire.Key
	// UID is that of the object that the agent holds; a recreated object of the
	// same name never gets the old one's status.
	UID                string
	ObservedGeneration int64
	ObservedDigest     wire.Digest
	// JSON is the whole status, decoded. It is not changed and not kept after
	// done was called.
	JSON []byte
	// Finalized: the spoke has removed everything that this object applied. JSON
	// counts for nothing then.
	Finalized bool
}

// Outcome is what became of a write.
type Outcome int

// Outcomes. The first five are those of the protocol, in its order.
const (
	// Persisted: the apiserver has it (2xx), or had it already.
	Persisted Outcome = iota + 1
	// Superseded: something newer has taken its place.
	Superseded
	// StaleUID: there is no such object any more.
	StaleUID
	// Invalid: it will never be taken.
	Invalid
	// Retry: not now; RetryAfter says when.
	Retry
	// Fenced: the session does not own its cluster any more, and has to end.
	Fenced
)

// Result is the outcome of one write. Reason is one of internal/wire/reason.
type Result struct {
	Outcome         Outcome
	Reason, Message string
	RetryAfter      time.Duration
}

// Fence says who owns a cluster; *Sessions is one.
type Fence interface {
	// Held is a look into memory; it may be wrong when it says yes.
	Held(g Grant) bool
	// Check asks the apiserver: ErrFenced, nil, or an error that says nothing.
	Check(ctx context.Context, g Grant) error
}

// StatusConfig is what a StatusWriter needs.
type StatusConfig struct {
	// Config is the identity that writes for agents.
	Config *rest.Config
	Index  *Index
	Fence  Fence
	// OnThrottle is called, at most once a second, with the cluster that has most
	// to write while the apiserver pushes back. It must not block. May be nil.
	OnThrottle func(cluster string)
	// Clock defaults to the real one, Log to slog.Default.
	Clock clock.PassiveClock
	Log   *slog.Logger
}

// StatusWriter writes what agents report, and the hub's own small marks, into
// ManifestWorks: as few writes as possible, fair to all clusters, and no faster
// than the apiserver can take them. All methods may be called at any time and
// never block; every Grant's writes go to its own cluster's namespace.
type StatusWriter struct {
	works    works
	index    *Index
	fence    Fence
	throttle func(string)
	clock    clock.PassiveClock
	log      *slog.Logger
	queue    *queue
	pace     *pace
	suspects suspects
}

// NewStatusWriter returns a writer that starts to write in Run.
func NewStatusWriter(config StatusConfig) (*StatusWriter, error) {
	if config.Index == nil || config.Fence == nil {
		return nil, errors.New("writer of statuses: an index and a fence are needed")
	}
	client, err := newWorks(config.Config)
	if err != nil {
		return nil, err
	}
	w := &StatusWriter{
		works: client, index: config.Index, fence: config.Fence, throttle: config.OnThrottle,
		clock: config.Clock, log: config.Log, queue: newQueue(), pace: newPace(),
	}
	if w.clock == nil {
		w.clock = clock.RealClock{}
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	return w, nil
}

// Put has a status written. done is called exactly once, maybe before Put
// returns, and must not block. Of several statuses of one object that wait, only
// the newest is written, the others are Superseded; finalized is never dropped.
func (w *StatusWriter) Put(g Grant, item Status, done func(Result)) {
	if item.Finalized {
		w.add(&job{grant: g, key: item.Key, uid: item.UID, class: classStatus, final: true, change: finalized{}, done: done})
		return
	}
	if w.storedAlready(g, item) {
		done(Result{Outcome: Persisted})
		return
	}
	w.add(&job{grant: g, key: item.Key, uid: item.UID, class: classStatus, change: &statusChange{Status: item}, done: done})
}

// storedAlready is the quick way out for a status that is stored as it is, with
// nothing older of its object still on the way.
func (w *StatusWriter) storedAlready(g Grant, item Status) bool {
	if item.Key.Kind != wire.KindWork || !w.fence.Held(g) || w.queue.has(g.Cluster(), item.Key, item.UID) {
		return false
	}
	r, ok := w.index.lookup(g.Cluster(), item.Key.Name)
	return ok && r.uid == item.UID && !r.undelivered && item.ObservedGeneration <= r.generation &&
		r.status == wire.Digest(sha256.Sum256(item.JSON))
}

// EnsureFinalizer puts our finalizer on a work, so that a delete waits for the
// spoke (B3). It is Persisted at once when the index has it. A deleting work
// cannot get one: Superseded.
func (w *StatusWriter) EnsureFinalizer(g Grant, key wire.Key, uid string, done func(Result)) {
	if r, ok := w.index.lookup(g.Cluster(), key.Name); ok && key.Kind == wire.KindWork && r.uid == uid && r.finalizer {
		done(Result{Outcome: Persisted})
		return
	}
	w.add(&job{grant: g, key: key, uid: uid, class: classFinalizer, change: addFinalizer{}, done: done})
}

// SetUndelivered shows on a work why the hub cannot deliver it: condition
// Delivered=False. What the apiserver does not take now is tried again, after a
// time that doubles from undeliveredSoon to undeliveredLate, until it is taken, a
// newer one or a ClearUndelivered takes its place, the work is gone, the Grant
// does not hold its cluster any more, or Run ends. Of each work at most one waits.
func (w *StatusWriter) SetUndelivered(g Grant, key wire.Key, uid, reason, message string) {
	w.add(&job{
		grant: g, key: key, uid: uid, class: classDelivered, lasting: true, done: ignore,
		change: &deliveredChange{reason: reason, message: wire.Truncate(message), clock: w.clock},
	})
}

// ClearUndelivered takes that condition away. Nothing is written where there is
// none, and what the apiserver does not take now is tried again as it is there. A
// status for what was delivered last does the same by itself.
func (w *StatusWriter) ClearUndelivered(g Grant, key wire.Key, uid string) {
	if r, ok := w.index.lookup(g.Cluster(), key.Name); ok && !r.undelivered && !w.queue.has(g.Cluster(), key, uid) {
		return
	}
	w.add(&job{grant: g, key: key, uid: uid, class: classDelivered, lasting: true, change: &deliveredChange{clock: w.clock}, done: ignore})
}

func ignore(Result) {}

// rest has a job tried again that ended in Retry.
func (w *StatusWriter) rest(j *job, result Result) {
	after := min(undeliveredLate, undeliveredSoon<<min(j.tries, 10))
	if result.Reason != reason.PermissionDenied { // the hub's rights in a new namespace come within a second or two
		after = max(after, result.RetryAfter)
	}
	j.tries++
	w.queue.rest(j, after/2+rand.N(after/2), w.clock.Now) //nolint:gosec // so that not all come back together
}

// pointless tells whether a job that rested has nothing to write to any more: its
// session is over, or the index does not have the work any more, from which alone
// it could be delivered.
func (w *StatusWriter) pointless(j *job) bool {
	if !w.fence.Held(j.grant) {
		return true
	}
	r, ok := w.index.lookup(j.grant.Cluster(), j.key.Name)
	return !ok || r.uid != j.uid
}

// add queues a job.
func (w *StatusWriter) add(j *job) {
	if j.grant.Cluster() == "" || j.key.Kind != wire.KindWork {
		j.done(Result{Outcome: Invalid, Reason: reason.Unsupported, Message: wire.Truncate("this hub keeps no status of " + j.key.String())})
		return
	}
	if err := checkSegment(j.key.Name); err != nil {
		j.done(Result{Outcome: Invalid, Reason: reason.InvalidName, Message: wire.Truncate(err.Error())})
		return
	}
	replaced, verdict := w.queue.put(j, w.clock.Now())
	if replaced != nil {
		replaced.done(verdict)
	}
}

// Pressure tells whether the apiserver pushed back within the last ten seconds.
func (w *StatusWriter) Pressure() bool { return w.pace.pressure(w.clock.Now()) }

// WriterStats are figures for metrics.
type WriterStats struct{ Waiting, Writing, Limit int }

// Stats counts what waits and what is being written.
func (w *StatusWriter) Stats() WriterStats {
	waiting, writing := w.queue.size()
	return WriterStats{Waiting: waiting, Writing: writing, Limit: w.pace.allowed()}
}

// Run writes until ctx ends. It returns nil when everything that was begun has
// ended; what still waits is answered with Retry, and nothing is tried again.
func (w *StatusWriter) Run(ctx context.Context) error {
	var writing sync.WaitGroup
	for ctx.Err() == nil {
		j := w.queue.next(w.pace.allowed(), w.clock.Now())
		if j == nil {
			select {
			case <-ctx.Done():
			case <-w.queue.wake:
			}
			continue
		}
		writing.Go(func() {
			result := w.write(ctx, j)
			if result.Outcome == Retry && j.lasting {
				w.rest(j, result)
			}
			w.queue.finish(j, w.clock.Now())
			j.done(result)
		})
	}
	writing.Wait()
	for _, j := range w.queue.close() {
		j.done(Result{Outcome: Retry, Reason: reason.Draining, Message: "the hub is stopping", RetryAfter: time.Second})
	}
	return nil
}
