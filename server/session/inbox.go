// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"sync"

	"fairlead.dev/fairlead/internal/wire"
)

// Inbox keeps marks for a session whose lock is taken, so that whoever marks
// never waits: ten marks of a key are one. It is safe for concurrent use; its
// zero value is ready.
type Inbox struct {
	mu    sync.Mutex
	marks map[wire.Key]string
	order []wire.Key
}

// Put adds a mark in constant time. It tells whether the inbox was empty: then
// the session's sender has to be woken.
func (b *Inbox) Put(m Marked) (first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first = len(b.order) == 0
	if b.marks == nil {
		b.marks = make(map[wire.Key]string)
	}
	uid, known := b.marks[m.Key]
	if !known {
		b.order = append(b.order, m.Key)
	}
	if uid == "" { // the oldest that is gone is the one that the agent may hold
		b.marks[m.Key] = m.UID
	}
	return first
}

// Take empties the inbox; the order is that of first marks.
func (b *Inbox) Take() []Marked {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.order) == 0 {
		return nil
	}
	marks := make([]Marked, 0, len(b.order))
	for _, key := range b.order {
		marks = append(marks, Marked{Key: key, UID: b.marks[key]})
	}
	b.marks, b.order = nil, nil
	return marks
}
