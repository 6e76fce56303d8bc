// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// version is an object as of one change of it.
type version struct {
	rv      uint64
	deleted bool
}

// want is why a key is dirty: what has to be seen before it can be told.
type want struct {
	primary *version           // of the object itself; nil if only a part of it changed
	parts   map[string]version // by name, of what belongs to it
}

// dirty is what one reader has not been told yet: each key once, however often it
// changes, so that a reader who does not read costs no more than his keys. Those
// who mark never wait for the reader. It is safe for concurrent use.
type dirty struct {
	wake chan struct{} // has a value when there is something to take

	mu    sync.Mutex
	wants map[types.NamespacedName]*want
	parts int // of all of them
	upTo  marks
}

// marks are, by kind, the resourceVersions up to which all changes were marked.
type marks [2]string

func newDirty(upTo marks) *dirty {
	return &dirty{wake: make(chan struct{}, 1), wants: map[types.NamespacedName]*want{}, upTo: upTo}
}

// change is one event of one kind: the primary is kind 0, and parts are kind 1.
type change struct {
	kind int
	name string // of the object
	key  types.NamespacedName
	version
}

// put marks a key.
func (d *dirty) put(c change) {
	d.mu.Lock()
	w := d.wants[c.key]
	if w == nil {
		w = &want{}
		d.wants[c.key] = w
	}
	before := len(w.parts)
	w.add(c)
	d.parts += len(w.parts) - before
	d.mu.Unlock()
	d.signal()
}

func (w *want) add(c change) {
	if c.kind == 0 {
		w.primary = &c.version
		return
	}
	if w.parts == nil {
		w.parts = map[string]version{}
	}
	w.parts[c.name] = c.version
}

// reached notes how far a kind's changes were marked.
func (d *dirty) reached(kind int, rv string) {
	d.mu.Lock()
	moved := d.upTo[kind] != rv
	d.upTo[kind] = rv
	d.mu.Unlock()
	if moved {
		d.signal()
	}
}

// upToOf is how far a kind's changes were marked.
func (d *dirty) upToOf(kind int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.upTo[kind]
}

func (d *dirty) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// take gives all that is dirty, and how far that is: once all of it is told, so is
// everything up to there.
func (d *dirty) take() (map[types.NamespacedName]*want, marks) {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.wants
	d.wants, d.parts = map[types.NamespacedName]*want{}, 0
	return taken, d.upTo
}

// catchUp adds to what was taken what has changed of the same keys since: they are
// told once, as they are now, and before a bookmark says that all was told.
func (d *dirty) catchUp(taken map[types.NamespacedName]*want) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, w := range taken {
		newer := d.wants[key]
		if newer == nil {
			continue
		}
		delete(d.wants, key)
		d.parts -= len(newer.parts)
		if newer.primary != nil {
			w.primary = newer.primary
		}
		for name, v := range newer.parts {
			w.add(change{kind: 1, name: name, version: v})
		}
	}
}

// len is how many names wait: dirty keys, and what belongs to them.
func (d *dirty) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.wants) + d.parts
}
