// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session

// list is a first-in, first-out queue of entries, each in at most one list.
type list struct{ head, tail *entry }

func (l *list) empty() bool { return l.head == nil }

func (l *list) push(e *entry) {
	e.in, e.prev, e.next = l, l.tail, nil
	if l.tail == nil {
		l.head = e
	} else {
		l.tail.next = e
	}
	l.tail = e
}

// keep puts an entry into this list. One that is in it keeps its place, so that
// a key that changes all the time has its turn.
func (l *list) keep(e *entry) {
	if e.in == l {
		return
	}
	e.unlink()
	l.push(e)
}

// unlink takes the entry out of its list, if it is in one.
func (e *entry) unlink() {
	l := e.in
	if l == nil {
		return
	}
	if e.prev == nil {
		l.head = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.tail = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.in, e.prev, e.next = nil, nil, nil
}
