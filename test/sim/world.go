// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"
	"time"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
)

// Options say which run it is.
type Options struct {
	Seed uint64
	// Off are troubles that do not happen in this run, by name; see Troubles.
	Off []string
	// Trouble is how long people and troubles go on; 0 is what the seed says.
	Trouble time.Duration
	// Works is how many works there are at most; 0 is what the seed says.
	Works int
	// Transcript has the result tell what happened.
	Transcript bool
	// Sabotage breaks one rule on purpose, to see that it is noticed; see
	// Sabotages.
	Sabotage string
}

// Sabotages names the rules that can be broken on purpose, with the kinds of
// failure by which that may be noticed.
func Sabotages() map[string][]string {
	return map[string][]string{
		"ack before it is stored":          {"not durable"},
		"holds are ignored":                {"hold ignored", "restore not held"},
		"prunes are not held":              {"prune not held"},
		"absence from the index is proof":  {"orphan without proof"},
		"persisted before 2xx":             {"persisted without a write"},
		"marks of the index are lost":      {"starved", "stuck"},
		"marks of the agent prove nothing": {"back in time", "resurrected"},
		"a delete needs no request":        {"delete without request"},
		"content is changed on the way":    {"never published"},
		"a removed work is not forgotten":  {"stuck", "not equal"},
	}
}

// breaks tells whether this run breaks that rule.
func (w *World) breaks(rule string) bool { return w.options.Sabotage == rule }

// Failure is something that must not happen, or did not come about.
type Failure struct {
	// Kind is the invariant, Work the work that it is about, if it is about one.
	Kind, Work, Text string
	// After is how long the run had gone on.
	After time.Duration
}

// Result is what came of a run.
type Result struct {
	Options Options
	Failure *Failure // nil: everything was as it should be
	// Steps and Sessions tell how much happened.
	Steps, Sessions uint64
	Virtual         time.Duration
	// Mended counts differences that only anti-entropy found.
	Mended int
	Lines  []Line
}

// World is one run: everything there is.
type World struct {
	options  Options
	plan     plan
	agenda   agenda
	forever  *life
	began    time.Time
	steps    uint64
	api      *apiserver
	replicas []*replica
	spoke    *spoke
	check    *checker
	network  dice
	live     []*conn
	conns    uint64
	sessions uint64
	codec    *codec.Codec
	trouble  *life // over when everybody is to leave things alone
	failure  *Failure
	mended   int
	lines    []Line
	// disturbed is when something was wrong last.
	disturbed time.Time
}

// plan is what kind of run the seed makes.
type plan struct {
	Names        []string
	Trouble      time.Duration
	Every        time.Duration // between what people do
	Grace        time.Duration
	AgentRestart time.Duration
	ApplyTime    time.Duration
	Window       link.Window
	slow         float64 // share of slow links
	troubles     map[string]time.Duration
}

func (p plan) slowLink(d dice) bool { return p.slow > 0 && d.chance(p.slow) }

// Run makes one run. It has to be called in a testing/synctest bubble, where it
// takes no time.
func Run(options Options) Result {
	w := &World{options: options, forever: &life{}, began: time.Now(), trouble: &life{}}
	w.plan = w.makePlan()
	w.network = w.dice("network")
	w.check = newChecker(w)
	w.api = newApiserver(w)
	w.codec, _ = codec.New(wire.MaxObject)
	w.replicas = []*replica{newReplica(w, "hub-a"), newReplica(w, "hub-b")}
	w.spoke = newSpoke(w)
	for _, r := range w.replicas {
		r.start()
		w.bookmarks(r)
	}
	w.spoke.start()
	w.people()
	w.troubles()
	w.starvation()
	w.run(w.plan.Trouble)
	w.end()
	return Result{
		Options: options, Failure: w.failure, Steps: w.steps, Sessions: w.sessions, Virtual: time.Since(w.began), Mended: w.mended, Lines: w.lines,
	}
}

func (w *World) makePlan() plan {
	d := w.dice("plan")
	p := plan{
		Trouble:      d.between(5*time.Minute, 50*time.Minute),
		Every:        d.between(2*time.Second, 90*time.Second),
		Grace:        []time.Duration{5 * time.Minute, 15 * time.Minute, time.Hour}[d.IntN(3)],
		AgentRestart: d.between(time.Second, 90*time.Second),
		ApplyTime:    d.between(20*time.Millisecond, 5*time.Second),
		Window:       link.Window{Bytes: 4 << 20, Objects: []uint32{1, 4, 256}[d.IntN(3)]},
		troubles:     map[string]time.Duration{},
	}
	works := 1 + d.IntN(8)
	if d.chance(0.1) {
		works = 70 + d.IntN(20) // enough for digests of buckets
	}
	if w.options.Works > 0 {
		works = min(works, w.options.Works)
	}
	for i := range works {
		p.Names = append(p.Names, fmt.Sprintf("w%d", i))
	}
	if d.chance(0.3) {
		p.slow = d.Float64()
	}
	often := []float64{0.05, 0.2, 0.45}[d.IntN(3)]
	for _, name := range Troubles() {
		happens, mean := d.chance(often), d.between(20*time.Second, 10*time.Minute)
		if happens && !slices.Contains(w.options.Off, name) {
			p.troubles[name] = mean
		}
	}
	if w.options.Trouble > 0 {
		p.Trouble = min(p.Trouble, w.options.Trouble)
	}
	return p
}

// end lets everybody come to rest and looks whether everything is as it should
// be: first with what is held, then after a person has released that.
func (w *World) end() {
	w.notef("", "person", "everything is left alone from now on")
	w.trouble.over = true
	w.calm()
	w.run(w.plan.Grace + time.Minute)
	w.settle(true)
	w.release()
	w.settle(false)
}

// settle waits until nothing differs, which has to come about within the time
// that anti-entropy needs, twice.
func (w *World) settle(held bool) {
	const patience, look = 45 * time.Minute, 30 * time.Second
	var left []string
	for waited := time.Duration(0); waited < patience && w.failure == nil; waited += look {
		w.run(look)
		if left = w.differences(held); len(left) == 0 {
			return
		}
	}
	if w.failure == nil {
		w.failf("not equal", w.named(left[0]), "in the end %d things are not as they should be: %s", len(left), left[0])
	}
}

// named is which work a text is about.
func (w *World) named(text string) string {
	for _, name := range w.plan.Names {
		if len(text) > len(name) && text[:len(name)+1] == name+" " {
			return name
		}
	}
	return ""
}

// epochChanged has the other replicas see the ConfigMap.
func (w *World) epochChanged(by *replica) {
	for _, r := range w.replicas {
		if r != by {
			w.after(r.dice.about(500*time.Millisecond), w.forever, r.followEpoch)
		}
	}
}

// leaseChanged has the other replicas see the Lease.
func (w *World) leaseChanged(by *replica) {
	for _, r := range w.replicas {
		if r == by || !r.up() {
			continue
		}
		lag := r.dice.about(r.slow) + max(0, time.Until(r.frozen))
		w.after(lag, r.proc, r.leaseSeen)
	}
}

func (w *World) bookmarks(r *replica) {
	if r.up() {
		r.bookmark()
	}
	w.after(time.Minute, w.forever, func() { w.bookmarks(r) })
}

// mismatch counts what only anti-entropy found.
func (w *World) mismatch(keys []wire.Key) {
	w.mended++
	w.notef("", "hub", "anti-entropy finds a difference that nothing explains: %v", keys)
}

// failf ends the run.
func (w *World) failf(kind, name, format string, args ...any) {
	if w.failure != nil {
		return
	}
	w.failure = &Failure{Kind: kind, Work: name, Text: fmt.Sprintf(format, args...), After: time.Since(w.began)}
	w.notef(name, "CHECK", "%s: %s", kind, w.failure.Text)
}

// statusShows tells whether the hub shows the status of what is wanted.
func (w *World) statusShows(o object) bool {
	wanted := fmt.Sprintf(`"observedGeneration":%d,"reason":%q`, o.generation, o.uid)
	return containsBytes(o.status, wanted)
}
