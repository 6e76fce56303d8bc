// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package stat

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Tally counts, and wakes whoever waits for a count. The zero value is ready;
// safe for concurrent use.
type Tally struct {
	mu      sync.Mutex
	count   int
	waiting map[chan struct{}]int // closed when count gets there
}

// Add counts n more, which may be negative.
func (t *Tally) Add(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count += n
	for done, target := range t.waiting {
		if t.count >= target {
			close(done)
			delete(t.waiting, done)
		}
	}
}

// Count is how many there are.
func (t *Tally) Count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// Goal is a count to wait for.
type Goal struct {
	Count  int
	Within time.Duration
}

// Await waits for the count, and returns what it is then.
func (t *Tally) Await(ctx context.Context, goal Goal) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, goal.Within)
	defer cancel()
	done := make(chan struct{})
	t.mu.Lock()
	if t.count >= goal.Count {
		t.mu.Unlock()
		return t.Count(), nil
	}
	if t.waiting == nil {
		t.waiting = map[chan struct{}]int{}
	}
	t.waiting[done] = goal.Count
	t.mu.Unlock()
	select {
	case <-done:
		return t.Count(), nil
	case <-ctx.Done():
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.waiting, done)
		return t.count, fmt.Errorf("counted %d of %d within %v", t.count, goal.Count, goal.Within)
	}
}
