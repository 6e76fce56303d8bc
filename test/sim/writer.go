// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

// writer is the model of server/store.StatusWriter of one replica: one write of
// a key at a time, of what waits only the newest, and the fences of PROTOCOL c7.
type writer struct {
	r    *replica
	jobs map[wire.Key][]*job // the first is being written
}

// job is one thing to write.
type job struct {
	s      *hubSession
	key    wire.Key
	status *session.PersistStatus // nil: a finalizer is to be added
	uid    string
	sum    wire.Digest
	tries  int
	live   bool // the target was read by quorum
	done   func(agentv1.StatusCode)
}

func newWriter(r *replica) *writer { return &writer{r: r, jobs: map[wire.Key][]*job{}} }

const (
	persisted  = agentv1.StatusCode_STATUS_CODE_PERSISTED
	superseded = agentv1.StatusCode_STATUS_CODE_SUPERSEDED
	staleUID   = agentv1.StatusCode_STATUS_CODE_STALE_UID
	invalid    = agentv1.StatusCode_STATUS_CODE_INVALID
	retry      = agentv1.StatusCode_STATUS_CODE_RETRY
)

var errFenced = errors.New("another session owns the cluster")

func (w *writer) put(s *hubSession, e session.PersistStatus) {
	j := &job{s: s, key: e.Key, uid: e.UID, status: &e}
	if string(e.Encoded) != "{}" && len(e.Encoded) > 0 {
		j.sum = sha256.Sum256(e.Encoded)
	}
	j.done = func(code agentv1.StatusCode) {
		done := session.StatusDone{Key: e.Key, UID: e.UID, Seq: e.Seq, Code: code}
		if code == retry {
			done.RetryAfter = w.r.dice.between(time.Second, 2*time.Second)
		}
		s.step(done)
	}
	r, ok := w.r.index.works[e.Key.Name]
	if !e.Finalized && w.r.isHeld(s.grant) && len(w.jobs[e.Key]) == 0 && ok && r.uid == e.UID &&
		e.ObservedGeneration <= r.generation && r.statusSum == j.sum {
		w.r.w.after(0, s.life, func() { j.done(persisted) })
		return
	}
	w.add(j)
}

func (w *writer) ensureFinalizer(s *hubSession, e session.EnsureFinalizer) {
	j := &job{s: s, key: e.Key, uid: e.UID}
	j.done = func(code agentv1.StatusCode) {
		s.step(session.FinalizerDone{Key: e.Key, UID: e.UID, Failed: code == retry})
	}
	if r, ok := w.r.index.works[e.Key.Name]; ok && r.uid == e.UID && r.finalizer {
		w.r.w.after(0, s.life, func() { j.done(persisted) })
		return
	}
	w.add(j)
}

// add queues a job; of the same object only the newest waits, and nothing takes
// the place of finalized.
func (w *writer) add(j *job) {
	queue := w.jobs[j.key]
	for i := 1; i < len(queue); i++ {
		old := queue[i]
		if old.uid != j.uid || (old.status == nil) != (j.status == nil) {
			continue
		}
		if old.status != nil && old.status.Finalized && !j.status.Finalized {
			w.r.w.after(0, j.s.life, func() { j.done(superseded) })
			return
		}
		w.jobs[j.key] = slices.Delete(queue, i, i+1)
		w.r.w.after(0, old.s.life, func() { old.done(superseded) })
		break
	}
	w.jobs[j.key] = append(w.jobs[j.key], j)
	if len(w.jobs[j.key]) == 1 {
		w.begin(j)
	}
}

// request makes one request of the apiserver after some time.
func (w *writer) request(f func()) {
	w.r.w.after(w.r.w.api.takes(w.r.dice), w.r.proc, f)
}

func (w *writer) begin(j *job) {
	if r, ok := w.r.index.works[j.key.Name]; ok && r.uid == j.uid {
		w.look(j, r)
		return
	}
	w.request(func() { w.read(j, false) })
}

func (w *writer) finish(j *job, code agentv1.StatusCode) {
	queue := w.jobs[j.key][1:]
	w.jobs[j.key] = queue
	if len(queue) == 0 {
		delete(w.jobs, j.key)
	} else {
		w.begin(queue[0])
	}
	j.done(code)
}

// failed is what an error comes to.
func (w *writer) failed(j *job, err error) {
	switch {
	case errors.Is(err, errNotFound) && j.status != nil && j.status.Finalized:
		w.finish(j, persisted)
	case errors.Is(err, errNotFound):
		w.finish(j, staleUID)
	case errors.Is(err, errFenced):
		w.finish(j, retry)
		j.s.end("FENCED", "another session of this cluster has taken over", 0)
	case w.r.w.breaks("persisted before 2xx"):
		w.finish(j, persisted)
	default:
		w.finish(j, retry)
	}
}

// read is a quorum read of the target; after a conflict, who owns the cluster
// has to be asked too.
func (w *writer) read(j *job, conflict bool) {
	o, found, err := w.r.w.api.get(j.key.Name)
	if err == nil && (!found || o.uid != j.uid) {
		err = errNotFound
	}
	if err != nil {
		w.failed(j, err)
		return
	}
	j.live = true
	target := record{object: o}
	if !conflict {
		w.look(j, target)
		return
	}
	w.request(func() { w.confirm(j, target, w.look) })
}

// confirm asks the apiserver who owns the cluster.
func (w *writer) confirm(j *job, target record, then func(*job, record)) {
	switch {
	case w.r.w.api.fails():
		w.failed(j, errBusy)
	case !w.r.owns(j.s.grant):
		w.failed(j, errFenced)
	default:
		target.session = j.s.grant.serial
		then(j, target)
	}
}

// look decides what is to be done, as the changes of server/store do.
func (w *writer) look(j *job, target record) {
	if !w.r.isHeld(j.s.grant) {
		w.failed(j, errFenced)
		return
	}
	code, settled, again := w.verdict(j, target)
	switch {
	case settled:
		w.finish(j, code)
	case again:
		w.request(func() { w.read(j, false) })
	case target.session == j.s.grant.serial || target.rv <= j.s.grant.complete:
		w.request(func() { w.patch(j, target) })
	default:
		w.request(func() {
			w.confirm(j, target, func(j *job, target record) { w.request(func() { w.patch(j, target) }) })
		})
	}
}

// verdict tells what is settled without a write, or has to be read first.
func (w *writer) verdict(j *job, target record) (code agentv1.StatusCode, settled, again bool) {
	p := j.status
	switch {
	case p == nil && target.finalizer:
		return persisted, true, false
	case p == nil && target.deleting:
		return superseded, true, false
	case p == nil:
		return 0, false, false
	case p.Finalized && !target.deleting && !j.live:
		return 0, false, true
	case p.Finalized && !target.deleting:
		return superseded, true, false
	case p.Finalized:
		return persisted, !target.finalizer, false
	case p.ObservedGeneration > target.generation && !j.live:
		return 0, false, true
	case p.ObservedGeneration > target.generation:
		return w.suspect(j), true, false
	}
	return persisted, target.statusSum == j.sum, false
}

// suspect is what becomes of a status from the future: twice is once too often.
func (w *writer) suspect(j *job) agentv1.StatusCode {
	id := j.uid + "/" + time.Duration(j.status.ObservedGeneration).String()
	if w.r.suspects[id] {
		delete(w.r.suspects, id)
		return invalid
	}
	w.r.suspects[id] = true
	return retry
}

func (w *writer) patch(j *job, target record) {
	var o object
	var err error
	before := w.r.w.api.rv
	switch {
	case j.status == nil:
		o, err = w.r.w.api.writeFinalizer(target, true)
	case j.status.Finalized:
		o, err = w.r.w.api.writeFinalizer(target, false)
	default:
		o, err = w.r.w.api.writeStatus(target, j.status.Encoded, j.sum)
	}
	if w.r.w.api.rv != before {
		w.r.w.check.wrote(j.key.Name, j.uid, j.s.grant.serial)
	}
	switch {
	case errors.Is(err, errConflict):
		if j.tries++; j.tries < 5 {
			w.request(func() { w.read(j, true) })
			return
		}
		w.failed(j, errBusy)
	case err != nil:
		w.failed(j, err)
	default:
		if o.name != "" {
			w.r.index.put(o, written, j.s.grant.serial)
		}
		w.finish(j, persisted)
	}
}
