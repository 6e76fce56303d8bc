// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// people create, change and delete works, some of them more often than others.
func (w *World) people() {
	d := w.dice("people")
	name := func() string { return w.plan.Names[d.IntN(len(w.plan.Names))] }
	var act func(name string)
	act = func(name string) {
		w.act(d, name)
		if d.chance(0.5) { // one thing after the other with the same work
			w.after(d.about(100*time.Millisecond), w.trouble, func() { act(name) })
		}
	}
	var next func()
	next = func() {
		act(name())
		w.after(d.about(w.plan.Every), w.trouble, next)
	}
	for range w.plan.Names {
		w.act(d, name())
	}
	w.after(d.about(w.plan.Every), w.trouble, next)
	var backUp func()
	backUp = func() {
		w.api.backUp()
		w.after(d.between(time.Minute, 10*time.Minute), w.trouble, backUp)
	}
	backUp()
}

// act is one thing that somebody does with a work.
func (w *World) act(d dice, name string) {
	c, bad, webhook, what := w.content(d), d.chance(0.04), d.chance(0.85), d.IntN(20)
	o, ok := w.api.objects[name]
	switch {
	case !ok:
		w.api.create(name, c, webhook, bad)
	case what < 3 && !o.deleting: // and make it anew if it is gone at once
		w.api.remove(name)
		if _, still := w.api.objects[name]; !still && what == 0 {
			w.api.create(name, c, webhook, bad)
		}
	case what < 6:
		w.api.remove(name)
	case what == 6:
		w.forced(name, d)
	case what < 9:
		w.api.relabel(name)
	case !o.deleting:
		w.api.edit(name, c, bad)
	}
}

// forced is a person who takes our finalizer away, which nobody should.
func (w *World) forced(name string, d dice) {
	if _, happens := w.plan.troubles["force"]; !happens {
		return
	}
	w.api.strip(name, "person")
	if _, still := w.api.objects[name]; !still && d.chance(0.7) {
		w.api.create(name, w.content(d), true, false)
	}
}

func (w *World) content(d dice) content {
	c := content{value: d.IntN(1000)}
	for i := range 4 {
		if d.chance(0.5) {
			c.manifests = append(c.manifests, fmt.Sprintf("m%d", i))
		}
	}
	if d.chance(0.05) {
		c.padding = 20<<10 + d.IntN(150<<10)
	}
	return c
}

// release lets a person release everything that is held, by the ids that the hub
// shows, after a wrong one.
func (w *World) release() {
	for range 20 {
		if w.failure != nil || len(w.spoke.proc.store.Held()) == 0 {
			return
		}
		w.releaseOnce()
		w.run(time.Minute)
	}
	if w.failure == nil && len(w.spoke.proc.store.Held()) > 0 {
		w.failf("release without effect", "", "%d batches are still held after they were released", len(w.spoke.proc.store.Held()))
	}
}

func (w *World) releaseOnce() {
	for _, r := range w.replicas {
		if r.local == nil || r.local.over {
			continue
		}
		for _, b := range r.local.held {
			w.notef("", "person", "releases batch %s, %d objects", b.GetBatchId(), len(b.GetEntries()))
			w.check.released(b.GetEntries())
			r.local.step(releaseOf("no-such-batch"))
			r.local.step(releaseOf(b.GetBatchId()))
		}
	}
}

// troubleActions are what goes wrong, by name. Each makes trouble once.
func (w *World) troubleActions() map[string]func(dice) {
	return map[string]func(dice){
		"cut": w.cutSome,
		"half-open": func(d dice) {
			w.some(d, func(c *conn) { w.notef("", "network", "connection %d goes deaf", c.id); c.hole = true })
		},
		"slow-reader": func(d dice) {
			w.some(d, func(c *conn) {
				c.stalled = time.Now().Add(d.about(30 * time.Second))
				w.notef("", "network", "connection %d stands still for %s", c.id, time.Until(c.stalled))
			})
		},
		"agent-crash": func(dice) { w.spoke.proc.die("by somebody") },
		"agent-crash-in-write": func(d dice) {
			w.spoke.backend.killIn, w.spoke.backend.killLate = 1+d.IntN(4), d.chance(0.5)
		},
		"hub-crash": w.crashHub,
		"drain":     w.drain,
		"lag":       w.lag,
		"apiserver-busy": func(d dice) {
			w.api.busy = d.Float64() * 0.5
			w.after(d.about(time.Minute), w.forever, func() { w.api.busy = 0 })
		},
		"apiserver-down": w.outage,
		"apiserver-slow": func(d dice) {
			w.api.slow = d.about(2 * time.Second)
			w.after(d.about(time.Minute), w.forever, func() { w.api.slow = 0 })
		},
		"empty-list":       w.emptyList,
		"restore":          func(d dice) { w.restore(d, false) },
		"restore-bump":     func(d dice) { w.restore(d, true) },
		"store-errors":     w.storeErrors,
		"watch-ends":       func(d dice) { w.replicas[d.IntN(2)].watchBroken() },
		"force":            func(dice) {}, // people do that
		"other-revisions":  func(d dice) { w.api.rv += uint64(d.IntN(500)) },
		"cut-while-in-use": w.cutSome,
	}
}

// Troubles names all that can go wrong.
func Troubles() []string {
	return []string{
		"agent-crash", "agent-crash-in-write", "apiserver-busy", "apiserver-down", "apiserver-slow", "cut", "cut-while-in-use", "drain", "empty-list", "force",
		"half-open", "hub-crash", "lag", "other-revisions", "restore", "restore-bump", "slow-reader", "store-errors", "watch-ends",
	}
}

// troubles begins all that the plan has.
func (w *World) troubles() {
	actions := w.troubleActions()
	for _, name := range Troubles() {
		mean, happens := w.plan.troubles[name]
		if !happens {
			continue
		}
		if name == "restore" || name == "restore-bump" {
			mean = max(mean, 5*time.Minute)
		}
		d := w.dice("trouble " + name)
		var again func()
		again = func() {
			w.disturb()
			actions[name](d)
			w.after(d.about(mean), w.trouble, again)
		}
		w.after(d.about(mean), w.trouble, again)
	}
}

// some does something to a connection that is up.
func (w *World) some(d dice, do func(*conn)) {
	if n := d.IntN(1 << 20); len(w.live) > 0 {
		do(w.live[n%len(w.live)])
	}
}

func (w *World) cutSome(d dice) { w.some(d, func(c *conn) { c.cut("by somebody") }) }

func (w *World) crashHub(d dice) {
	r, away := w.replicas[d.IntN(2)], d.about(time.Minute)
	w.restart(r, away)
}

// restart kills a replica and starts it again.
func (w *World) restart(r *replica, away time.Duration) {
	if !r.up() {
		return
	}
	r.crash()
	w.after(away, w.forever, func() {
		if !r.up() {
			r.start()
		}
	})
}

// drain has a replica ask its agents to go, and start anew.
func (w *World) drain(d dice) {
	r, patience := w.replicas[d.IntN(2)], d.between(2*time.Second, 20*time.Second)
	if !r.ready() {
		return
	}
	w.notef("", r.name, "drains for %s", patience)
	r.draining = true
	for _, s := range r.sessions {
		s.step(drainOf(time.Now().Add(patience)))
	}
	w.after(patience+time.Second, r.proc, func() {
		w.restart(r, time.Second)
	})
}

// lag has a watch fall behind, or stand still.
func (w *World) lag(d dice) {
	r, slow, still := w.replicas[d.IntN(2)], d.about(5*time.Second), d.about(2*time.Minute)
	if d.chance(0.5) {
		for _, o := range w.replicas {
			if time.Now().Before(o.frozen) {
				return // one at a time: docs/testing.md says why
			}
		}
		w.notef("", r.name, "sees nothing of its watches for %s", still)
		r.frozen = time.Now().Add(still)
		w.after(still+time.Millisecond, w.forever, func() {
			if r.up() {
				r.poll()
				r.leaseSeen()
			}
		})
		return
	}
	r.slow = slow
	w.after(still, w.forever, func() { r.slow = 30 * time.Millisecond })
}

func (w *World) outage(d dice) {
	away := d.about(20 * time.Second)
	w.notef("", "person", "the apiserver is away for %s", away)
	w.api.down = time.Now().Add(away)
	for _, r := range w.replicas {
		if away > apiserverPatience {
			w.after(apiserverPatience, w.forever, r.outage)
		}
		w.after(away+time.Millisecond, w.forever, r.outage)
	}
}

// emptyList has a replica list again, and see nothing.
func (w *World) emptyList(d dice) {
	r := w.replicas[d.IntN(2)]
	if !r.up() || !r.watching {
		return
	}
	r.emptyOne, r.watching = true, false
	w.after(time.Second, r.proc, r.list)
	w.after(d.about(time.Minute), r.proc, r.doubt)
}

func (w *World) restore(d dice, bump bool) {
	n := d.IntN(1 << 20)
	if len(w.api.backups) == 0 {
		return
	}
	b := w.api.backups[n%len(w.api.backups)]
	if !bump && b.rv > w.api.rv && b.epoch == w.api.epoch {
		return // of a past that was given up, and nothing shows it: that needs a bump
	}
	if bump { // nothing shows this restore: the hub has to be down until there is a new epoch
		for _, r := range w.replicas {
			w.restart(r, d.between(time.Second, 20*time.Second))
		}
	}
	w.api.restore(b, bump)
	w.epochChanged(nil)
}

func (w *World) storeErrors(d dice) {
	b := w.spoke.backend
	b.failing = d.Float64()
	w.spoke.slow = max(time.Millisecond, d.about(2*time.Second))
	w.after(d.about(time.Minute), w.forever, func() { b.failing, w.spoke.slow = 0, 10*time.Millisecond })
}

// calm ends all troubles that go on.
func (w *World) calm() {
	w.api.busy, w.api.slow, w.api.down = 0, 0, time.Time{}
	w.spoke.backend.failing, w.spoke.backend.killIn, w.spoke.slow = 0, 0, 10*time.Millisecond
	for _, r := range w.replicas {
		r.slow, r.frozen, r.cut = 30*time.Millisecond, time.Time{}, false
		if r.up() {
			r.poll()
			r.leaseSeen()
		}
	}
	for _, c := range w.live {
		c.stalled = time.Time{}
	}
}

// drainReason is what a replica that stops says.
const drainReason = reason.Draining

func releaseID(id string) *agentv1.Directive {
	return &agentv1.Directive{Directive: &agentv1.Directive_ReleaseHold{ReleaseHold: &agentv1.ReleaseHold{BatchId: id}}}
}
