// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"container/heap"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// life is that of a process, a session or a connection: what was planned for it
// does not happen once it is over.
type life struct{ over bool }

// planned is something that happens at a time.
type planned struct {
	at time.Time
	n  uint64
	l  *life
	f  func()
}

// agenda is what is planned, soonest first; in order of planning within one
// instant.
type agenda struct {
	items []planned
	n     uint64
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (a *agenda) Len() int { return len(a.items) }

func (a *agenda) Less(i, j int) bool {
	if !a.items[i].at.Equal(a.items[j].at) {
		return a.items[i].at.Before(a.items[j].at)
	}
	return a.items[i].n < a.items[j].n
}
func (a *agenda) Swap(i, j int) { a.items[i], a.items[j] = a.items[j], a.items[i] }
func (a *agenda) Push(x any) {
	if p, ok := x.(planned); ok {
		a.items = append(a.items, p)
	}
}

func (a *agenda) Pop() any {
	last := a.items[len(a.items)-1]
	a.items = a.items[:len(a.items)-1]
	return last
}

// after plans f for a time from now, unless l is over by then.
func (w *World) after(d time.Duration, l *life, f func()) {
	w.agenda.n++
	heap.Push(&w.agenda, planned{at: time.Now().Add(max(0, d)), n: w.agenda.n, l: l, f: f})
}

// run lets everything happen that is planned for the next d.
func (w *World) run(d time.Duration) {
	end := time.Now().Add(d)
	for w.failure == nil && w.agenda.Len() > 0 && !w.agenda.items[0].at.After(end) {
		next, ok := heap.Pop(&w.agenda).(planned)
		if !ok || next.l.over {
			continue
		}
		pass(next.at)
		w.steps++
		next.f()
	}
	if w.failure == nil {
		pass(end)
	}
}

// pass lets virtual time pass.
func pass(until time.Time) {
	if d := time.Until(until); d > 0 {
		<-time.After(d)
	}
}

// dice are seeded, and one for each thing that is decided, so that taking one
// trouble out of a run leaves the choices of the others.
type dice struct{ *rand.Rand }

func (w *World) dice(about string) dice {
	h := fnv.New64a()
	_, _ = h.Write([]byte(about))
	return dice{rand.New(rand.NewPCG(w.options.Seed, h.Sum64()))}
}

func (d dice) chance(p float64) bool { return d.Float64() < p }

func (d dice) between(a, b time.Duration) time.Duration {
	return a + time.Duration(d.Int64N(int64(b-a)+1))
}

// about is exponential, with that mean.
func (d dice) about(mean time.Duration) time.Duration {
	return time.Duration(d.ExpFloat64() * float64(mean))
}
