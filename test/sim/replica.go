// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/session"
)

const (
	heartbeat = 20 * time.Second
	// apiserverPatience is after what time without its apiserver a replica ends
	// its sessions.
	apiserverPatience = 15 * time.Second
)

// replica is one hub process after the other, in one place.
type replica struct {
	w     *World
	name  string
	proc  *life // of the process that runs; nil while none does
	dice  dice
	index *index
	hub   *session.Hub

	synced   bool
	current  bool // it was listed since the hub epoch changed
	listing  bool
	had      map[string]bool // epochs that this process was in
	cut      bool            // from its apiserver for too long
	draining bool
	sessions []*hubSession
	local    *hubSession // whose grant is the newest
	grants   uint64
	writer   *writer
	suspects map[string]bool // statuses from the future, seen once

	watching bool
	timeline int // of the watch
	position int // in the apiserver's log
	frozen   time.Time
	slow     time.Duration // how far the watch may lag
	emptyOne bool          // the next LIST is empty
}

func newReplica(w *World, name string) *replica {
	return &replica{w: w, name: name, dice: w.dice("replica " + name), slow: 30 * time.Millisecond}
}

// start begins a process.
func (r *replica) start() {
	r.proc = &life{}
	r.index, r.writer, r.suspects = newIndex(r), newWriter(r), map[string]bool{}
	r.synced, r.cut, r.draining, r.watching, r.sessions, r.local = false, false, false, false, nil, nil
	r.current, r.listing, r.had = true, false, map[string]bool{}
	r.share(r.w.api.epoch)
	r.w.notef("", r.name, "starts")
	r.w.after(r.dice.between(10*time.Millisecond, time.Second), r.proc, r.list)
}

// crash ends the process as SIGKILL does.
func (r *replica) crash() {
	r.w.notef("", r.name, "is killed")
	r.proc.over = true
	for _, s := range slices.Clone(r.sessions) {
		s.conn.cut("its process is gone")
	}
	r.sessions, r.local, r.synced = nil, nil, false
}

func (r *replica) up() bool { return r.proc != nil && !r.proc.over }

// share makes what all sessions of one hub epoch have in common.
func (r *replica) share(epoch string) {
	r.had[epoch] = true
	r.hub = &session.Hub{
		Replica: r.name, ID: hubID, Epoch: epoch, OrphanGrace: r.w.plan.Grace,
		Proven: func(m wire.HighWater) bool {
			return wire.Proven(secret(), scope(epoch), m) && !r.w.breaks("marks of the agent prove nothing")
		},
	}
}

// ready tells whether sessions may exist.
func (r *replica) ready() bool {
	return r.up() && r.synced && r.current && !r.cut && !r.draining
}

// list reads everything, as server/store.Index.list does.
func (r *replica) list() {
	a, x := r.w.api, r.index
	if a.fails() {
		r.w.after(r.dice.between(time.Second, 5*time.Second), r.proc, r.list)
		return
	}
	if !r.synced && a.unseen() {
		r.w.notef("", "person", "orders hub epoch %s", a.newEpoch())
		r.w.epochChanged(nil)
	}
	objects := a.list()
	if r.emptyOne {
		r.emptyOne, objects = false, nil
		r.w.notef("", r.name, "is served an empty LIST")
	}
	x.listing++
	x.last = sighted{}
	r.listing = true
	r.followEpoch()
	r.listing = false
	x.restoring = x.restoring || !r.current
	back := x.older || a.rv < x.high
	for i := 0; i < len(objects) && !back; i++ {
		back = x.wentBack(objects[i], a.rv)
	}
	if back && !x.restoring {
		r.listing = true
		err := r.newEpoch(r.hub.Epoch)
		r.listing = false
		if err != nil {
			r.w.after(r.dice.between(time.Second, 5*time.Second), r.proc, r.list)
			return
		}
		x.restoring, x.older = true, false
	}
	from := watched
	if x.restoring {
		from = restored
	}
	for _, o := range objects {
		x.put(o, from, 0)
		x.sighted(o, false)
	}
	x.sweep()
	x.restoring, x.older, x.high, r.synced, r.current = false, false, a.rv, true, true
	r.w.notef("", r.name, "has listed %d works at rv %d", len(objects), a.rv)
	r.watching, r.timeline, r.position = true, a.timeline, len(a.log)
}

// watchBroken ends the watch; a little later it is begun anew.
func (r *replica) watchBroken() {
	if !r.up() || !r.watching {
		return
	}
	r.watching = false
	r.w.after(r.dice.between(50*time.Millisecond, 3*time.Second), r.proc, r.resume)
}

// doubt has everything listed anew.
func (r *replica) doubt() {
	if !r.watching {
		return
	}
	r.w.notef("", r.name, "doubts its index")
	r.watching = false
	r.w.after(r.dice.between(50*time.Millisecond, time.Second), r.proc, r.list)
}

// resume goes on with the watch if the apiserver is the one that was left, as
// server/store.Index.follow does.
func (r *replica) resume() {
	a, x := r.w.api, r.index
	if a.fails() {
		r.w.after(r.dice.between(time.Second, 5*time.Second), r.proc, r.resume)
		return
	}
	r.followEpoch()
	expired := r.timeline != a.timeline && x.high < a.begins
	if a.rv < x.high || expired || !r.current || !r.stillNewest() {
		r.list()
		return
	}
	if r.timeline != a.timeline {
		r.w.notef("", r.name, "goes on with its watch and has not noticed the restore")
		r.timeline = a.timeline
		r.position = 0
		for r.position < len(a.log) && a.log[r.position].object.rv <= x.high {
			r.position++
		}
	}
	r.watching = true
	r.poll()
}

// stillNewest looks at the newest change that was seen.
func (r *replica) stillNewest() bool {
	last := r.index.last
	if last.rv == 0 {
		return true
	}
	o, found := r.w.api.objects[last.name]
	found = found && o.uid == last.uid
	switch {
	case found && (last.gone || o.rv < last.rv):
		r.index.older = true
		return false
	case !found && !last.gone:
		return false
	}
	return true
}

// changed is told of each change of the apiserver; the watch shows it later.
func (r *replica) changed() {
	if !r.up() || !r.watching {
		return
	}
	lag := r.dice.about(r.slow / 4)
	if until := time.Until(r.frozen); until > 0 {
		lag += until
	}
	r.w.after(min(lag, 5*time.Minute), r.proc, r.poll)
}

// poll takes in what the watch shows by now.
func (r *replica) poll() {
	a, x := r.w.api, r.index
	if !r.watching || r.timeline != a.timeline || time.Now().Before(r.frozen) || time.Now().Before(a.down) {
		if r.watching && time.Now().Before(a.down) {
			r.w.after(time.Until(a.down)+time.Millisecond, r.proc, r.poll)
		}
		return
	}
	for ; r.position < len(a.log); r.position++ {
		c := a.log[r.position]
		if c.gone {
			x.remove(c.object)
		} else {
			x.put(c.object, watched, 0)
		}
		x.sighted(c.object, c.gone)
		x.high = max(x.high, c.object.rv)
	}
}

// bookmark moves the mark over what is no work.
func (r *replica) bookmark() {
	r.poll()
	if r.watching && r.timeline == r.w.api.timeline && r.position == len(r.w.api.log) && time.Now().After(r.frozen) {
		r.index.high = max(r.index.high, r.w.api.rv)
	}
}

// mark tells the sessions of a change of the index.
func (r *replica) mark(m session.Marked) {
	if r.w.breaks("marks of the index are lost") && r.dice.chance(0.3) {
		return
	}
	for _, s := range r.sessions {
		if s.inbox.Put(m) {
			r.w.after(r.dice.between(0, 2*time.Millisecond), s.life, s.pump)
		}
	}
}

var errMoved = errors.New("the epoch moved and moved back")

// newEpoch replaces an epoch by compare-and-swap and ends all sessions of the
// old one, as server.house.newEpoch does.
func (r *replica) newEpoch(old string) error {
	if r.hub.Epoch != old {
		return nil
	}
	a := r.w.api
	switch {
	case a.fails():
		return errBusy
	case a.epoch == old:
		a.newEpoch()
		r.w.notef("", r.name, "notices a restore: %s instead of %s", a.epoch, old)
		r.w.epochChanged(r)
	case a.epoch != old:
		r.w.notef("", r.name, "notices a restore: the epoch is %s already, not %s", a.epoch, old)
		r.followEpoch()
		return nil
	default:
		return errMoved
	}
	r.enterEpoch(a.epoch)
	return nil
}

// enterEpoch ends every session of another epoch, and has everything listed.
func (r *replica) enterEpoch(epoch string) {
	r.current = false
	if !r.listing {
		r.doubt()
	}
	r.share(epoch)
	r.endAll(reason.HubRestored, 0)
}

// followEpoch is the watch of the ConfigMap, and server.house.checkEpoch, which reads it.
func (r *replica) followEpoch() {
	if epoch := r.w.api.epoch; r.up() && epoch != r.hub.Epoch {
		if r.had[epoch] { // one that is over: only a restore brings it back
			r.w.notef("", r.name, "orders %s, as %s is back", r.w.api.newEpoch(), epoch)
			r.w.epochChanged(r)
		}
		r.w.notef("", r.name, "enters %s", r.w.api.epoch)
		r.enterEpoch(r.w.api.epoch)
	}
}

// restored decides about a mark above the index's, as server.house.restored does.
func (r *replica) restored(m wire.HighWater, epoch string) (bool, error) {
	if r.w.api.fails() {
		return false, errBusy
	}
	if r.w.api.rv >= m.ResourceVersion {
		return false, nil
	}
	return true, r.newEpoch(epoch)
}

func (r *replica) endAll(why string, after time.Duration) {
	for _, s := range slices.Clone(r.sessions) {
		s.end(why, "", after)
	}
}

// outage looks whether the apiserver has been away for too long.
func (r *replica) outage() {
	if !r.up() {
		return
	}
	lost := time.Now().Before(r.w.api.down)
	if lost && !r.cut {
		r.w.notef("", r.name, "has lost its apiserver for too long")
		r.endAll(reason.ApiserverLost, apiserverPatience/3)
	}
	r.cut = lost
}
