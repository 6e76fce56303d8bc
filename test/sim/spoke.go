// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc"
	"k8s.io/utils/clock"

	"fairlead.dev/fairlead/agent"
	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/store"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
)

// spoke is what survives the agent's processes: its backend, and what is applied.
type spoke struct {
	w        *World
	backend  *backend
	cluster  *cluster
	proc     *process
	started  int
	endpoint int
	slow     time.Duration // how long one write takes at most
}

// process is one run of the agent: the real store, link and what lies between
// them, and the model of the executor.
type process struct {
	*life
	spoke    *spoke
	w        *World
	ctx      context.Context //nolint:containedctx // of a process, which is a context
	dice     dice
	store    *store.Store
	steps    *agent.Steps
	link     *link.Link
	executor *executor
	cur      *agentSession // the one that is served, or dialled
	next     *agentSession // opened while cur goes on
	tendAt   time.Time
}

func newSpoke(w *World) *spoke {
	return &spoke{
		w: w, slow: 10 * time.Millisecond, cluster: newCluster(w),
		backend: &backend{w: w, records: map[wire.Key]store.Record{}, faults: w.dice("backend")},
	}
}

// start begins a process, as after SIGKILL. It is tried again if the store
// cannot be read or made.
func (sp *spoke) start() {
	sp.started++
	p := &process{life: &life{}, spoke: sp, w: sp.w, ctx: context.Background(), dice: sp.w.dice(fmt.Sprint("agent ", sp.started))}
	sp.proc = p
	sp.w.notef("", "agent", "starts for the %d. time", sp.started)
	log := slog.New(slog.DiscardHandler)
	p.guard(func() {
		var err error
		p.executor = newExecutor(p)
		p.store, err = store.Open(p.ctx, store.Config{
			Backend: sp.backend, Log: log, Clock: clock.RealClock{}, Grace: sp.w.plan.Grace,
			Changed:     func(key wire.Key) { p.executor.enqueue(key.Name) },
			HeldChanged: p.heldChanged,
		})
		if err != nil {
			p.die("its store cannot be opened: " + err.Error())
			return
		}
		p.steps = agent.NewSteps(p.store, log)
		p.link, err = link.New(link.Config{
			Endpoints: []string{"a:443", "b:443"}, Identity: link.Identity{AgentID: "agent", InstanceID: fmt.Sprint("i", sp.started), Fingerprint: "f"},
			Credentials: credentials{}, Store: watchedStore{p.steps.Inbound(), p}, Hub: p.steps.Inbound(), Log: log,
			ResendStatuses: func() { p.executor.resend() }, ClusterReport: p.report, StoreParallel: 1,
			Codec: sp.w.codec, Random: p.dice.Float64, Window: sp.w.plan.Window,
		})
		if err != nil {
			panic(err)
		}
		p.steps.Connect(p.link)
		p.executor.startAll()
		p.tend()
		p.w.after(p.dice.about(time.Second), p.life, p.connect)
	})
}

// guard runs a step in which the process may die.
func (p *process) guard(step func()) {
	defer func() {
		switch cause := recover(); cause.(type) {
		case nil:
		case crashed:
			p.die("in the middle of a write")
		default:
			panic(cause)
		}
	}()
	step()
}

// die ends the process as SIGKILL does, and plans the next one.
func (p *process) die(why string) {
	if p.over {
		return
	}
	p.w.notef("", "agent", "is killed: %s", why)
	p.over = true
	p.spoke.backend.killIn = 0
	for _, s := range []*agentSession{p.cur, p.next} {
		if s != nil && !s.over {
			s.over = true
			s.conn.drop()
		}
	}
	p.w.after(p.dice.about(p.w.plan.AgentRestart), p.w.forever, p.spoke.start)
}

// tend does what time alone asks of the store.
func (p *process) tend() {
	wait := p.store.Tend(p.ctx)
	at := time.Now().Add(wait)
	if !p.tendAt.IsZero() && p.tendAt.After(time.Now()) && !at.Before(p.tendAt) {
		return
	}
	p.tendAt = at
	p.w.after(wait, p.life, func() {
		p.tendAt = time.Time{}
		p.guard(p.tend)
	})
}

// connect dials the next endpoint.
func (p *process) connect() {
	if p.cur != nil && !p.cur.over {
		return
	}
	p.cur = p.dial()
}

// dial opens a session; its Hello says what is held now.
func (p *process) dial() *agentSession {
	sp := p.spoke
	r := p.w.replicas[sp.endpoint%len(p.w.replicas)]
	s := &agentSession{life: &life{}, p: p, began: time.Now()}
	s.conn = p.w.dial(s, r)
	if !r.up() {
		p.w.after(p.dice.about(50*time.Millisecond), s.life, func() { s.ended(errCut) })
		return s
	}
	hello := p.link.Hello()
	p.w.notef("", "agent", "dials %s, connection %d, holding %d at mark %s", r.name, s.conn.id, hello.GetResume().GetDesiredCount(),
		hello.GetResume().GetHighWater().GetResourceVersion())
	s.conn.toHub(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: hello}})
	p.w.after(45*time.Second, s.life, func() {
		if s.steps == nil {
			s.ended(errCut)
		}
	})
	return s
}

func (p *process) heldChanged() {
	p.w.check.held(p.store.Held())
	if p.link != nil {
		p.link.ReportCluster()
		p.pumpSoon()
	}
}

func (p *process) report() link.ClusterReport {
	out := link.ClusterReport{APIServerHealthy: true}
	for _, b := range p.store.Held() {
		out.Held = append(out.Held, link.HeldBatch{ID: b.ID, Reason: string(b.Reason), Entries: b.Entries, Since: b.Since})
	}
	return out
}

// pumpSoon has the session look whether there is something to send.
func (p *process) pumpSoon() {
	if s := p.cur; s != nil && s.steps != nil && !s.over {
		p.w.after(time.Microsecond, s.life, s.pump)
	}
}

// dropSoon forgets orphans that are gone from the spoke.
func (p *process) dropSoon() {
	p.w.after(p.dice.between(time.Millisecond, 20*time.Millisecond), p.life, func() {
		p.guard(func() {
			if !p.steps.Drop(p.ctx) {
				p.w.after(5*time.Second, p.life, p.dropSoon)
			}
		})
	})
}

// watchedStore checks what the link stores.
type watchedStore struct {
	link.Store
	p *process
}

// Snapshot is in the same order each time.
func (s watchedStore) Snapshot() link.Snapshot {
	snapshot := s.Store.Snapshot()
	slices.SortFunc(snapshot.Entries, func(a, b wire.Entry) int { return cmp.Compare(a.Key.Name, b.Key.Name) })
	return snapshot
}

// Put stores, and checks that it did.
func (s watchedStore) Put(ctx context.Context, key wire.Key, rev wire.Revision, content []byte) error {
	err := s.Store.Put(ctx, key, rev, content)
	if err == nil {
		s.p.w.check.stored(s.p, key, rev)
	}
	return err
}

// Delete records a delete, and checks that it did.
func (s watchedStore) Delete(ctx context.Context, d link.Delete) (link.Verdict, error) {
	verdict, err := s.Store.Delete(ctx, d)
	if err == nil {
		s.p.w.check.deleteStored(s.p, d, verdict)
	}
	return verdict, err
}

// credentials are none: there is no TLS here.
type credentials struct{}

func (credentials) TLS(string) (*tls.Config, error) {
	return &tls.Config{MinVersion: tls.VersionTLS13}, nil
}
func (credentials) RenewAt() time.Time                                    { return time.Time{} }
func (credentials) Renew(context.Context, grpc.ClientConnInterface) error { return nil }
func (credentials) Trust(context.Context, *agentv1.TrustBundle) error     { return nil }
func (credentials) TrustVersion() uint64                                  { return 0 }
