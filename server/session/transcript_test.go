// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

// TestTranscripts replays the conversations in testdata/stories. Each line of input is
// one thing that happens; "<-" is what the hub says, "->" what the agent says,
// "*" what the hub has to do. `go test -rewrite` writes them anew.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		t.Helper()
		w := newWorld()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			w.log.Reset()
			for _, line := range append([]string{d.Cmd + args(d)}, strings.Split(d.Input, "\n")...) {
				if line = strings.TrimSpace(line); line != "" {
					w.command(t, strings.Fields(line))
				}
			}
			for _, fault := range w.agent.faults {
				w.sayf("FAULT: %s", fault)
			}
			if w.maxFrame > wire.MaxFrame {
				w.sayf("FAULT: a frame of %d bytes", w.maxFrame)
			}
			if w.beats > 0 {
				n := w.beats
				w.beats = 0
				w.sayf("  <- %d × Heartbeat", n)
			}
			if w.log.Len() == 0 {
				return "(nothing)\n"
			}
			return w.log.String()
		})
	})
}

func args(d *datadriven.TestData) string {
	var b strings.Builder
	for _, a := range d.CmdArgs {
		b.WriteString(" " + a.String())
	}
	return b.String()
}

func (w *world) command(t *testing.T, f []string) {
	t.Helper()
	switch f[0] {
	case "hub":
		w.hubCommand(t, f[1], f[2:])
	case "agent":
		w.agentCommand(t, f[1], f[2:])
	case "connect":
		w.connect()
		w.run()
	case "hello": // without anything after it
		w.connect()
		w.marks()
	case "pull":
		var n int
		mustScan(t, f[1], &n)
		w.marks()
		w.step(session.Tick{})
		w.pull(n)
	case "run":
		w.run()
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			t.Fatal(err)
		}
		w.wait(d)
	case "store":
		w.slowStore = f[1] == "slow"
		if !w.slowStore {
			w.persistAll()
			w.run()
		}
	case "check": // CheckRestore
		w.slowCheck = f[1] == "slow"
		if !w.slowCheck {
			w.step(session.RestoreAnswer{Restored: w.restored})
			w.run()
		}
	case "drain":
		w.step(session.Drain{CloseAt: w.now.Add(20 * time.Second), Reason: "ROLLOUT"})
		w.run()
	case "end":
		w.step(session.End{Reason: f[1]})
		w.run()
	case "state":
		w.sayf("%s", describeState(w.core.State(work(f[1]))))
	case "stats":
		s := w.core.Stats()
		w.sayf("dirty %d, unacked %d objects %d bytes, syncing %v", s.Dirty, s.UnackedObjects, s.UnackedBytes, s.Syncing)
	default:
		t.Fatalf("unknown command %q", f)
	}
}

func describeState(s session.State) string {
	text := "in sync"
	switch {
	case s.Rejected != nil:
		text = "rejected: " + s.Rejected.GetReason()
	case s.Undelivered != nil:
		text = "undeliverable: " + s.Undelivered.GetReason()
	case s.Held:
		text = "held"
	case s.Orphaned:
		text = "orphaned"
	case !s.Sent.IsZero():
		text = "in flight"
	}
	if s.Dirty {
		text += "; dirty"
	}
	if s.Refused != nil {
		text += "; refused: " + s.Refused.GetReason()
	}
	if s.Waiting != "" {
		text += "; waits: " + s.Waiting
	}
	return text
}

func mustScan(t *testing.T, text string, into any) {
	t.Helper()
	if _, err := fmt.Sscan(text, into); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
}

func (w *world) hubCommand(t *testing.T, verb string, f []string) {
	t.Helper()
	h := w.hub
	switch verb {
	case "put": // hub put NAME... [size=BYTES] [no-finalizer]
		size, bare := 100, false
		var names []string
		for _, a := range f {
			switch {
			case strings.HasPrefix(a, "size="):
				mustScan(t, a[5:], &size)
			case a == "no-finalizer":
				bare = true
			default:
				names = append(names, a)
			}
		}
		for _, name := range names {
			next := h.truth[work(name)].generation + 1
			content := fmt.Appendf(nil, "%s/%d ", name, next)
			content = append(content, bytes.Repeat([]byte("x"), max(0, size-len(content)))...)
			h.put(name, content, func(o *object) { o.finalizer = o.finalizer && !bare })
		}
	case "many": // hub many PREFIX COUNT
		var n int
		mustScan(t, f[1], &n)
		for i := range n {
			h.put(fmt.Sprintf("%s-%03d", f[0], i), fmt.Appendf(nil, "content of %d", i))
		}
	case "delete":
		h.remove(f[0])
	case "purge":
		for _, name := range f {
			h.purge(name)
		}
	case "lags":
		h.lagging = true
	case "catches-up":
		h.catchUp()
	case "quorum":
		w.noQuorum, w.slowQuorum = f[0] == "off", f[0] == "slow"
		if f[0] == "on" {
			for _, read := range w.reads {
				w.later(h.quorum(read))
			}
			w.reads = nil
			w.run()
		}
	case "restored": // what CheckRestore finds
		w.restored = f[0] == "yes"
	case "epoch":
		hub := *w.cfg.Hub
		hub.Epoch = f[0]
		w.cfg.Hub = &hub
	case "mark-back": // the index's mark is behind by so much
		var n uint64
		mustScan(t, f[0], &n)
		h.indexRV -= n
	case "snapshot-back-to": // the hub goes back to a resourceVersion, and forgets what is newer
		mustScan(t, f[0], &h.rv)
		for key, o := range h.truth {
			if o.rv > h.rv {
				delete(h.truth, key)
				delete(h.index, key)
			}
		}
		h.indexRV = h.rv
	default:
		t.Fatalf("unknown hub command %q", verb)
	}
}

func (w *world) agentCommand(t *testing.T, verb string, f []string) {
	t.Helper()
	a := w.agent
	switch verb {
	case "forgets":
		a.holds, a.storeEpoch = map[wire.Key]*holding{}, f[0]
	case "is-ahead": // another replica has sent it the truth
		a.holds = map[wire.Key]*holding{}
		for key, o := range w.hub.truth {
			a.holds[key] = &holding{rev: o.revision(), deleting: o.deleting}
		}
	case "lies": // about the mark
		a.mark = wire.HighWater{Proof: []byte("no proof")}
		mustScan(t, f[0], &a.mark.ResourceVersion)
	case "loses":
		delete(a.holds, work(f[0]))
	case "rejects":
		a.rejects[work(f[0])] = true
	case "accepts":
		delete(a.rejects, work(f[0]))
	case "retries":
		var n int
		mustScan(t, f[1], &n)
		a.retries[work(f[0])] = n
	case "holds-orphans":
		a.holdBack = true
	case "pauses":
		a.paused = true
	case "resumes":
		a.paused = false
		w.run()
	case "finalizes":
		w.finalize()
	case "reports":
		w.tell(a.status(work(f[0]), strings.Join(f[1:], " "), false))
		w.run()
	case "compares":
		w.antiEntropy()
	default:
		t.Fatalf("unknown agent command %q", verb)
	}
}
