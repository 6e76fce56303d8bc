// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"time"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

func releaseOf(id string) session.Input { return session.Direct{Directive: releaseID(id)} }

func drainOf(at time.Time) session.Input {
	return session.Drain{CloseAt: at, Reason: drainReason, Reconnect: session.Reconnect{Base: time.Second, Max: time.Minute, Spread: 2 * time.Second}}
}

// starved is how long a key may take to be delivered while nothing is wrong; a
// slow link with many works takes longer.
const starved = 3 * time.Minute

// disturb notes that something is wrong now: what takes its time afterwards is no
// starvation.
func (w *World) disturb() { w.disturbed = time.Now() }

// starvation looks whether what changed long ago is delivered, unless something
// has been wrong meanwhile.
func (w *World) starvation() {
	if !w.delivering() {
		w.disturb()
	}
	patience := starved + time.Duration(len(w.plan.Names))*10*time.Second
	if time.Since(w.disturbed) > patience {
		w.undelivered(patience)
	}
	w.after(10*time.Second, w.forever, w.starvation)
}

// delivering tells whether a session is up and nothing is in its way.
func (w *World) delivering() bool {
	p := w.spoke.proc
	if p.over || p.cur == nil || p.cur.over || p.cur.steps == nil || p.cur.conn.hub == nil {
		return false
	}
	return p.cur.conn.replica.sees() && w.api.healthy() && w.spoke.healthy() && !p.cur.conn.hole && !time.Now().Before(p.cur.conn.stalled)
}

// sees tells whether the replica's watch shows everything soon.
func (r *replica) sees() bool {
	return r.ready() && r.watching && r.timeline == r.w.api.timeline && !time.Now().Before(r.frozen) && r.slow < time.Second
}

func (a *apiserver) healthy() bool { return a.busy == 0 && a.slow == 0 && !time.Now().Before(a.down) }

func (sp *spoke) healthy() bool {
	return sp.backend.failing == 0 && sp.backend.killIn == 0 && sp.slow <= time.Second
}

// undelivered fails the run for a work that the agent should have by now.
func (w *World) undelivered(patience time.Duration) {
	held := w.entries()
	for _, o := range w.api.list() {
		if time.Since(w.api.changed[o.name]) <= patience {
			continue
		}
		switch {
		case o.deleting && o.finalizer:
			w.failf("stuck", o.name, "%s is still there though a session is up for %s; the agent holds %s/%d", o, patience, held[o.name].UID, held[o.name].Generation)
			return
		case !o.bad && !o.deleting && !held[o.name].Same(o.revision()):
			w.failf("starved", o.name, "%s is not delivered though a session is up for %s; the agent holds %s/%d", o, patience, held[o.name].UID, held[o.name].Generation)
			return
		}
	}
}

// entries is what the agent holds, by name.
func (w *World) entries() map[string]wire.Revision {
	held := map[string]wire.Revision{}
	for _, e := range w.spoke.proc.store.Snapshot().Entries {
		held[e.Key.Name] = e.Revision
	}
	return held
}
