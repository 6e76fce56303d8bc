// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"slices"
	"sync"
	"time"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	// fairRate is how many writes a second a cluster may have while others wait.
	fairRate = 5
	// lineSweep is how often clusters without work are forgotten.
	lineSweep = time.Minute
)

// Classes of jobs: of one object and one class only the newest waits.
type class int

const (
	classStatus class = iota
	classFinalizer
	classDelivered
)

// job is one thing to write.
type job struct {
	grant  Grant
	key    wire.Key
	uid    string
	class  class
	final  bool // nothing of this object and class comes after it
	change change
	done   func(Result)
	// lasting: nobody asks for it again, so the hub itself tries it again until
	// it ends in something else than Retry; tries counts those.
	lasting bool
	tries   int
}

type slot struct {
	key   wire.Key
	uid   string
	class class
}

func (j *job) slot() slot { return slot{j.key, j.uid, j.class} }

// urgent tells whether the agent waits for it: content that is sent once the
// finalizer is there, or a delete that is done. Statuses are many, and when the
// apiserver takes none they are to hold nothing else up (T19).
func (j *job) urgent() bool { return j.class == classFinalizer || j.final }

// line is what waits for one cluster.
type line struct {
	jobs   map[slot]*job
	urgent []slot           // in order of arrival; they go before those in order
	order  []slot           // likewise
	busy   map[wire.Key]int // being written
	// resting jobs are tried again when their timer fires, unless a newer one of
	// their slot comes.
	resting map[slot]*time.Timer
	// credit is how many writes it may have before others; refilled at fairRate.
	credit   float64
	credited time.Time
	queued   bool // in fresh or spent
}

// queue holds what waits, and gives it out fairly: clusters take turns, and one
// that has had more than its rate comes after all that have not. What it holds is
// bounded by the number of objects.
type queue struct {
	wake chan struct{} // something may be given out

	mu       sync.Mutex
	lines    map[string]*line
	fresh    []string // clusters with credit, in turn
	spent    []string // clusters without, in turn
	writing  int
	swept    time.Time
	isClosed bool
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1), lines: map[string]*line{}} }

// put adds a job. It returns the job that will not be done because of it (maybe
// j itself) and what to tell of that.
func (q *queue) put(j *job, now time.Time) (dropped *job, verdict Result) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.nudge()
	if q.isClosed {
		return j, Result{Outcome: Retry, Reason: reason.Draining, Message: "the hub is stopping", RetryAfter: time.Second}
	}
	name := j.grant.Cluster()
	l, ok := q.lines[name]
	if !ok {
		l = &line{jobs: map[slot]*job{}, busy: map[wire.Key]int{}, resting: map[slot]*time.Timer{}, credit: fairRate, credited: now}
		q.lines[name] = l
	}
	l.forget(j.slot())
	old, waits := l.jobs[j.slot()]
	if waits && old.final && !j.final {
		return j, Result{Outcome: Superseded, Message: "the object was reported as finalized"}
	}
	q.wait(l, j, now)
	return old, Result{Outcome: Superseded, Message: "a newer report of the same object has arrived"}
}

// wait makes j the job of its slot. The lock is held.
func (q *queue) wait(l *line, j *job, now time.Time) {
	old, waits := l.jobs[j.slot()]
	if waits && j.urgent() && !old.urgent() {
		l.order = slices.DeleteFunc(l.order, func(s slot) bool { return s == j.slot() })
		waits = false
	}
	switch {
	case waits:
	case j.urgent():
		l.urgent = append(l.urgent, j.slot())
	default:
		l.order = append(l.order, j.slot())
	}
	l.jobs[j.slot()] = j
	q.enqueue(j.grant.Cluster(), l, now)
}

// rest has a job that was given out put back after a while, by a clock that says
// what time it is then. It has to come before finish, so that the object is never
// without one of its job's marks. A newer job of its slot takes its place.
func (q *queue) rest(j *job, after time.Duration, now func() time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l, ok := q.lines[j.grant.Cluster()]
	if !ok || q.isClosed {
		return
	}
	if _, newer := l.jobs[j.slot()]; newer {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(after, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.isClosed || l.resting[j.slot()] != timer {
			return // something newer has come
		}
		delete(l.resting, j.slot())
		q.wait(l, j, now())
		q.nudge()
	})
	l.resting[j.slot()] = timer
}

// forget ends the rest of a job. The queue's lock is held.
func (l *line) forget(s slot) {
	if timer, ok := l.resting[s]; ok {
		timer.Stop()
		delete(l.resting, s)
	}
}

// enqueue gives a cluster a turn if it can use one. The lock is held.
func (q *queue) enqueue(name string, l *line, now time.Time) {
	if from, _ := l.ready(); l.queued || from == nil {
		return
	}
	l.queued = true
	if l.refill(now); l.credit >= 1 {
		q.fresh = append(q.fresh, name)
	} else {
		q.spent = append(q.spent, name)
	}
}

func (l *line) refill(now time.Time) {
	l.credit = min(fairRate, l.credit+now.Sub(l.credited).Seconds()*fairRate)
	l.credited = now
}

// ready is where the first job is whose object is not being written; nil when
// there is none.
func (l *line) ready() (from *[]slot, i int) {
	for _, slots := range []*[]slot{&l.urgent, &l.order} {
		free := func(s slot) bool { return l.busy[s.key] == 0 }
		if i = slices.IndexFunc(*slots, free); i >= 0 {
			return slots, i
		}
	}
	return nil, 0
}

// next gives out a job if less than limit are being written.
func (q *queue) next(limit int, now time.Time) *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sweep(now)
	for q.writing < limit {
		name, l := q.turn(now)
		if l == nil {
			return nil
		}
		l.queued = false
		from, i := l.ready()
		if from == nil {
			continue
		}
		s := (*from)[i]
		if i == 0 {
			*from = (*from)[1:] // the usual case, and not a copy of thousands
		} else {
			*from = slices.Delete(*from, i, i+1)
		}
		j := l.jobs[s]
		delete(l.jobs, s)
		l.busy[s.key]++
		l.credit = max(-1, l.credit-1)
		q.writing++
		q.enqueue(name, l, now)
		return j
	}
	return nil
}

// turn is whose turn it is. A cluster that has waited for its credit and got it
// takes its turn among the others again. The lock is held.
func (q *queue) turn(now time.Time) (string, *line) {
	if len(q.spent) > 0 {
		l := q.lines[q.spent[0]]
		if l.refill(now); l.credit >= 1 {
			q.fresh, q.spent = append(q.fresh, q.spent[0]), q.spent[1:]
		}
	}
	from := &q.fresh
	if len(*from) == 0 {
		from = &q.spent
	}
	if len(*from) == 0 {
		return "", nil
	}
	name := (*from)[0]
	*from = (*from)[1:]
	return name, q.lines[name]
}

// finish notes that a job given out is done.
func (q *queue) finish(j *job, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.nudge()
	q.writing--
	name := j.grant.Cluster()
	l := q.lines[name]
	if l.busy[j.key]--; l.busy[j.key] == 0 {
		delete(l.busy, j.key)
	}
	q.enqueue(name, l, now)
}

// has tells whether something of the object waits, rests or is being written.
func (q *queue) has(clusterName string, key wire.Key, uid string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l, ok := q.lines[clusterName]
	if !ok {
		return false
	}
	if l.busy[key] > 0 {
		return true
	}
	for _, c := range []class{classStatus, classFinalizer, classDelivered} {
		s := slot{key, uid, c}
		if _, waits := l.jobs[s]; waits {
			return true
		}
		if _, rests := l.resting[s]; rests {
			return true
		}
	}
	return false
}

// sweep forgets clusters that have nothing to write and all their credit. The
// lock is held.
func (q *queue) sweep(now time.Time) {
	if now.Sub(q.swept) < lineSweep {
		return
	}
	q.swept = now
	for name, l := range q.lines {
		if l.refill(now); len(l.jobs) == 0 && len(l.busy)+len(l.resting) == 0 && !l.queued && l.credit >= fairRate {
			delete(q.lines, name)
		}
	}
}

// busiest is the cluster that has most to write.
func (q *queue) busiest() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	most, name := 0, ""
	for n, l := range q.lines {
		if waiting := len(l.jobs) + len(l.busy); waiting > most {
			most, name = waiting, n
		}
	}
	return name
}

func (q *queue) size() (waiting, writing int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lines {
		waiting += len(l.jobs)
	}
	return waiting, q.writing
}

// close refuses everything from now on and returns what waits.
func (q *queue) close() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.isClosed = true
	var left []*job
	for _, l := range q.lines {
		for _, j := range l.jobs {
			left = append(left, j)
		}
		for s := range l.resting {
			l.forget(s)
		}
	}
	q.lines, q.fresh, q.spent = map[string]*line{}, nil, nil
	return left
}

func (q *queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
