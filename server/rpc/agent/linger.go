// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"
	"time"
)

// lingering is what is to be done a while later, or at once when the service
// ends. It starts no goroutine for what waits. Safe for concurrent use.
type lingering struct {
	background func(f func()) // runs f beside its caller

	mu      sync.Mutex
	waiting map[string]waiting // by session id
	over    bool
}

// waiting is one thing to be done.
type waiting struct {
	timer *time.Timer
	do    func()
}

// after has f done once, after d.
func (l *lingering) after(d time.Duration, id string, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d <= 0 || l.over {
		l.background(f)
		return
	}
	if l.waiting == nil {
		l.waiting = map[string]waiting{}
	}
	l.waiting[id] = waiting{timer: time.AfterFunc(d, func() { l.now(id) }), do: f}
}

// now has done what waits of a session, if anything does.
func (l *lingering) now(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, waits := l.waiting[id]; waits {
		delete(l.waiting, id)
		w.timer.Stop()
		l.background(w.do)
	}
}

// end has everything that waits done now, and whatever comes later at once.
func (l *lingering) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	for _, w := range l.waiting {
		w.timer.Stop()
		l.background(w.do)
	}
	l.waiting = nil
}
