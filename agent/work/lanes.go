// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"container/list"
	"sync"

	"k8s.io/client-go/util/workqueue"
)

// urgentInARow is how many urgent works go before one of the others does, which nothing can starve.
const urgentInARow = 4

// lanes is the order in which works are taken up: those whose objects changed on the spoke go before those that were delivered
// or are due, and within a lane the one that waits longest. It is only the order: that a work is in the queue once, and in one
// pass at a time, is the workqueue's doing, which also calls all methods but hurry under its lock.
type lanes struct {
	mu           sync.Mutex // workqueue's lock does not cover hurry
	urgent, rest list.List
	later        map[string]*list.Element // what is in rest
	hurried      map[string]bool          // what is, or is to go, in urgent
	inARow       int
}

// newQueue returns the queue of works, and the order in which it gives them out.
func newQueue() (workqueue.TypedRateLimitingInterface[string], *lanes) {
	order := &lanes{later: map[string]*list.Element{}, hurried: map[string]bool{}}
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryFrom, retryTo)
	return workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[string]{
		DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[string]{
			Queue: workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{Queue: order}),
		}),
	}), order
}

// hurry makes name urgent the next time that it is added, until it is taken up. It may be called from any goroutine.
func (l *lanes) hurry(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hurried[name] = true
}

// Touch implements workqueue.Queue: name is added while it waits.
func (l *lanes) Touch(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if element, waits := l.later[name]; waits && l.hurried[name] {
		l.rest.Remove(element)
		delete(l.later, name)
		l.urgent.PushBack(name)
	}
}

// Push implements workqueue.Queue: name does not wait yet.
func (l *lanes) Push(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hurried[name] {
		l.urgent.PushBack(name)
		return
	}
	l.later[name] = l.rest.PushBack(name)
}

// Len implements workqueue.Queue.
func (l *lanes) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.urgent.Len() + l.rest.Len()
}

// Pop implements workqueue.Queue. The workqueue calls it only if there is something.
func (l *lanes) Pop() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lane := &l.urgent
	if l.urgent.Len() == 0 || l.inARow >= urgentInARow && l.rest.Len() > 0 {
		lane = &l.rest
		l.inARow = 0
	} else {
		l.inARow++
	}
	name, _ := lane.Remove(lane.Front()).(string)
	delete(l.later, name)
	delete(l.hurried, name)
	return name
}
