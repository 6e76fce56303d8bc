// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairlead.dev/fairlead/internal/wire"
)

// Answers of the apiserver that are no success.
var (
	errBusy     = errors.New("the apiserver does not answer, or answers 429 or 5xx")
	errConflict = errors.New("conflict")
	errNotFound = errors.New("not found")
)

// object is one ManifestWork. It is a value: whoever has one has a copy.
type object struct { //nolint:recvcheck // encode alone changes one, before it is copied
	name, uid  string
	generation int64
	rv         uint64
	finalizer  bool // ours
	deleting   bool
	bad        bool // the agent refuses it
	content    content
	json       []byte // as delivered
	digest     wire.Digest
	status     []byte
	statusSum  wire.Digest
}

// content is what a person wants of a work.
type content struct {
	manifests []string
	value     int
	label     int
	padding   int
}

func (o object) revision() wire.Revision {
	rev := wire.Revision{UID: o.uid, Generation: o.generation, Digest: o.digest, Size: uint64(len(o.json)), ResourceVersion: strconv.FormatUint(o.rv, 10)}
	if o.deleting {
		rev.Digest = wire.DeletingDigest(o.uid)
	}
	return rev
}

// encode makes the delivered bytes. What makes it bad is a manifest without a
// kind.
func (o *object) encode() {
	var b strings.Builder
	fmt.Fprintf(&b, `{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"generation":%d,"labels":{"l":"%d"},"name":%q,"uid":%q},"spec":{"workload":{"manifests":[`,
		o.generation, o.content.label, o.name, o.uid)
	for i, name := range o.content.manifests {
		if i > 0 {
			b.WriteByte(',')
		}
		kind := "ConfigMap"
		if o.bad {
			kind = ""
		}
		fmt.Fprintf(&b, `{"apiVersion":"v1","kind":%q,"metadata":{"name":%q},"data":{"v":"%d"}}`, kind, name, o.content.value)
	}
	b.WriteString(`]}}`)
	if o.content.padding > 0 {
		fmt.Fprintf(&b, `,"padding":%q`, strings.Repeat("x", o.content.padding))
	}
	b.WriteByte('}')
	o.json = []byte(b.String())
	o.digest = sha256.Sum256(o.json)
}

func (o object) String() string {
	state := ""
	if o.deleting {
		state = " deleting"
	}
	return fmt.Sprintf("%s %s/%d rv %d%s", o.name, o.uid, o.generation, o.rv, state)
}

// change is one event of the apiserver's watch.
type change struct {
	object object
	gone   bool
}

// lease is the session Lease of the one cluster.
type lease struct {
	uid, holder string
	epoch       uint64
	rv          uint64
}

// apiserver is the hub's: the truth.
type apiserver struct {
	w        *World
	rv       uint64
	timeline int    // one more after each restore
	begins   uint64 // revision up to which nobody can watch: the log begins there
	objects  map[string]object
	lease    lease
	epoch    string // of the hub, in its ConfigMap
	given    given
	tops     map[string]uint64 // how far each epoch came
	log      []change          // what a watch can still show
	down     time.Time
	busy     float64       // chance that a request fails
	slow     time.Duration // what a request takes more, about
	faults   dice
	uids     int
	epochs   int
	backups  []backup
	changed  map[string]time.Time // when what is delivered of a name changed last
}

// backup is what a restore brings back.
type backup struct {
	rv      uint64
	objects map[string]object
	lease   lease
	epoch   string
	taken   time.Time
}

func newApiserver(w *World) *apiserver {
	a := &apiserver{w: w, rv: 1000, objects: map[string]object{}, changed: map[string]time.Time{}, tops: map[string]uint64{}, lease: lease{uid: "lease-1"}, faults: w.dice("apiserver")}
	a.newEpoch()
	return a
}

// given is how far an epoch had come that a restore went back in.
type given struct {
	rv    uint64
	epoch string
}

// unseen tells whether nothing can show the last restore to a replica that starts
// now: revisions have come past those that were given up. Then the admin has to have
// ordered a new hub epoch, as the runbook says.
func (a *apiserver) unseen() bool { return a.given.epoch == a.epoch && a.rv >= a.given.rv }

// takes is how long a request takes until it is carried out, or answered.
func (a *apiserver) takes(d dice) time.Duration {
	took := d.between(time.Millisecond, 40*time.Millisecond)
	if a.slow > 0 {
		took += d.about(a.slow)
	}
	return took
}

// fails tells whether a request fails before it does anything.
func (a *apiserver) fails() bool {
	return time.Now().Before(a.down) || a.busy > 0 && a.faults.chance(a.busy)
}

// loses tells whether the answer to a request that was carried out is lost.
func (a *apiserver) loses() bool { return a.busy > 0 && a.faults.chance(a.busy/3) }

func (a *apiserver) newUID() string {
	a.uids++
	return fmt.Sprintf("u%d", a.uids)
}

func (a *apiserver) newEpoch() string {
	a.tops[a.epoch] = max(a.tops[a.epoch], a.rv)
	a.epochs++
	a.epoch = fmt.Sprintf("epoch-%d", a.epochs)
	return a.epoch
}

// put stores an object's new state and tells the watches.
func (a *apiserver) put(o object) object {
	a.rv++
	o.rv = a.rv
	if !a.objects[o.name].revision().Same(o.revision()) {
		a.changed[o.name] = time.Now()
	}
	a.objects[o.name] = o
	a.w.check.published(o)
	a.tell(change{object: o})
	return o
}

func (a *apiserver) drop(o object) {
	a.rv++
	o.rv = a.rv
	delete(a.objects, o.name)
	a.w.check.absent(o, false)
	a.tell(change{object: o, gone: true})
}

func (a *apiserver) tell(c change) {
	a.log = append(a.log, c)
	for _, r := range a.w.replicas {
		r.changed()
	}
}

// create makes an object, with our finalizer if the webhook is there.
func (a *apiserver) create(name string, c content, webhook, bad bool) {
	o := object{name: name, uid: a.newUID(), generation: 1, finalizer: webhook, bad: bad, content: c}
	o.encode()
	a.w.notef(name, "person", "creates %s", a.put(o))
}

// edit changes the spec.
func (a *apiserver) edit(name string, c content, bad bool) {
	o := a.objects[name]
	o.generation++
	o.content, o.bad = c, bad
	o.encode()
	a.w.notef(name, "person", "edits %s, manifests %v", a.put(o), c.manifests)
}

// relabel changes what is no part of the generation.
func (a *apiserver) relabel(name string) {
	o := a.objects[name]
	o.content.label++
	o.encode()
	a.w.notef(name, "person", "labels %s", a.put(o))
}

// remove asks for an object's deletion.
func (a *apiserver) remove(name string) {
	o, ok := a.objects[name]
	switch {
	case !ok || o.deleting:
		return
	case !o.finalizer:
		a.w.notef(name, "person", "deletes %s, which has no finalizer and is gone", o)
		a.drop(o)
		return
	}
	o.deleting = true
	o.generation++
	a.w.notef(name, "person", "deletes %s", a.put(o))
}

// strip takes our finalizer away, as a person with kubectl can.
func (a *apiserver) strip(name, who string) {
	o, ok := a.objects[name]
	if !ok || !o.finalizer {
		return
	}
	o.finalizer = false
	if o.deleting {
		a.w.notef(name, who, "takes the finalizer from %s, which is gone", o)
		a.drop(o)
		return
	}
	a.w.notef(name, who, "takes the finalizer from %s", a.put(o))
}

// writeStatus is the patch of a status, with the precondition of the object's
// resourceVersion.
func (a *apiserver) writeStatus(seen record, status []byte, sum wire.Digest) (object, error) {
	o, err := a.precondition(seen)
	if err != nil {
		return o, err
	}
	o.status, o.statusSum = status, sum
	return a.put(o), a.lost()
}

// writeFinalizer adds or takes away our finalizer with the same precondition.
func (a *apiserver) writeFinalizer(seen record, on bool) (object, error) {
	o, err := a.precondition(seen)
	if err != nil {
		return o, err
	}
	if !on {
		a.strip(o.name, "hub")
		return a.objects[o.name], a.lost()
	}
	o.finalizer = true
	return a.put(o), a.lost()
}

func (a *apiserver) lost() error {
	if a.loses() {
		return errBusy
	}
	return nil
}

func (a *apiserver) precondition(seen record) (object, error) {
	if a.fails() {
		return object{}, errBusy
	}
	o, ok := a.objects[seen.name]
	switch {
	case !ok:
		return o, errNotFound
	case o.uid != seen.uid || o.rv != seen.rv:
		return o, errConflict
	}
	return o, nil
}

// get is a quorum read.
func (a *apiserver) get(name string) (o object, found bool, err error) {
	if a.fails() {
		return object{}, false, errBusy
	}
	o, found = a.objects[name]
	return o, found, nil
}

// list is a quorum LIST, sorted by name.
func (a *apiserver) list() []object {
	names := slices.Sorted(maps.Keys(a.objects))
	objects := make([]object, 0, len(names))
	for _, name := range names {
		objects = append(objects, a.objects[name])
	}
	return objects
}

// backUp takes a backup, of which a few are kept.
func (a *apiserver) backUp() {
	a.backups = append(a.backups, backup{rv: a.rv, objects: maps.Clone(a.objects), lease: a.lease, epoch: a.epoch, taken: time.Now()})
	if len(a.backups) > 4 {
		a.backups = slices.Delete(a.backups, 1, 2)
	}
}

// restore brings a backup back. With bump, resourceVersions go on from above
// what was ever used, and the admin orders a new hub epoch, as the runbook says.
func (a *apiserver) restore(b backup, bump bool) {
	a.w.notef("", "person", "restores the backup of %s ago, rv %d instead of %d, bump %v", time.Since(b.taken), b.rv, a.rv, bump)
	before := a.objects
	a.timeline++
	a.given = given{}
	a.tops[a.epoch] = max(a.tops[a.epoch], a.rv)
	if !bump {
		a.given = given{rv: a.tops[b.epoch], epoch: b.epoch}
	}
	a.objects, a.lease, a.epoch, a.log = maps.Clone(b.objects), b.lease, b.epoch, nil
	if past := a.rv; bump {
		a.rv = b.rv
		a.w.notef("", "person", "orders hub epoch %s", a.newEpoch())
		a.rv = max(past, b.rv) + 1_000_000
	} else {
		a.rv = b.rv
	}
	a.begins = a.rv
	for _, o := range before {
		if now, ok := a.objects[o.name]; !ok || now.uid != o.uid {
			a.w.check.absent(o, true)
		}
	}
	for _, o := range a.list() {
		a.w.check.published(o)
	}
	for _, r := range a.w.replicas {
		r.watchBroken()
	}
}
