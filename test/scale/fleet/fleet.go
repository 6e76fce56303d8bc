// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/test/scale/child"
	"fairlead.dev/fairlead/test/scale/stat"
)

type tallies struct{ welcomed, synced, stored, deleted stat.Tally }

// fleet is all agents.
type fleet struct {
	setup   Setup
	agents  []*agent
	codec   *codec.Codec
	log     *slog.Logger
	tallies tallies
	curves  atomic.Pointer[[]tls.CurveID] // nil: Go's choice

	incarnation int
	stop        context.CancelFunc
	running     sync.WaitGroup
}

// Run is the fleet's process; file has its Setup.
func Run(ctx context.Context, file string) error {
	f, err := load(file)
	if err != nil {
		return err
	}
	return child.Serve(ctx, os.Stdin, os.Stdout, child.Handlers{
		"start": child.Do(func(context.Context, child.None) (child.None, error) { return child.None{}, f.start(ctx) }),
		"curves": child.Do(func(_ context.Context, curves []tls.CurveID) (child.None, error) {
			f.curves.Store(&curves)
			return child.None{}, nil
		}),
		"stop": child.Do(func(context.Context, child.None) (child.None, error) { f.end(); return child.None{}, nil }),
		"cut": child.Do(func(context.Context, child.None) (child.None, error) {
			for _, a := range f.agents {
				a.cut()
			}
			return child.None{}, nil
		}),
		"welcomed": child.Do(f.tallies.welcomed.Await),
		"synced":   child.Do(f.tallies.synced.Await),
		"stored":   child.Do(f.tallies.stored.Await),
		"counts":   child.Do(func(context.Context, child.None) (Counts, error) { return f.counts(), nil }),
		"report":   child.Do(f.report),
		"arrivals": child.Do(f.arrivals),
	})
}

func load(file string) (*fleet, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	f := &fleet{log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if err := json.Unmarshal(text, &f.setup); err != nil { //nolint:musttag // both ends are this program
		return nil, err
	}
	roots, err := pki.ParseCertificates(f.setup.Roots)
	if err != nil {
		return nil, err
	}
	if f.codec, err = codec.New(wire.MaxObject); err != nil {
		return nil, err
	}
	for i := range f.setup.Agents {
		id := &f.setup.Agents[i]
		pair, err := tls.X509KeyPair(id.Certificate, id.Key)
		if err != nil {
			return nil, fmt.Errorf("the certificate of %s: %w", id.Cluster, err)
		}
		a := &agent{
			cluster: id.Cluster, client: pki.NewClient(pki.Trust{Roots: roots}), trust: f.setup.TrustVersion, curves: &f.curves,
			store: &store{cluster: id.Cluster, tallies: &f.tallies, held: map[wire.Key]wire.Revision{}},
		}
		a.client.SetCertificate(&pair)
		f.agents = append(f.agents, a)
	}
	return f, nil
}

// start starts all agents anew, with what their stores hold.
func (f *fleet) start(ctx context.Context) error {
	f.end()
	f.incarnation++
	ctx, f.stop = context.WithCancel(ctx)
	for _, a := range f.agents {
		l, err := link.New(link.Config{
			Endpoints: []string{f.setup.Address}, HubID: f.setup.HubID, Credentials: a, Store: a.store, Hub: a.store,
			Identity: link.Identity{
				AgentID: "agent-" + a.cluster, InstanceID: fmt.Sprintf("%s-%d", a.cluster, f.incarnation),
				Fingerprint: "fingerprint-" + a.cluster, Version: "scale",
			},
			ClusterReport: clusterReport, Dial: a.dial, Codec: f.codec, Log: f.log.With("cluster", a.cluster),
		})
		if err != nil {
			return err
		}
		a.link = l
		f.running.Go(func() { _ = l.Run(ctx) }) // returns nil
	}
	return nil
}

// end stops all agents, which say goodbye.
func (f *fleet) end() {
	if f.stop != nil {
		f.stop()
	}
	f.running.Wait()
}

func (f *fleet) counts() Counts {
	return Counts{
		Welcomed: f.tallies.welcomed.Count(), Synced: f.tallies.synced.Count(),
		Stored: f.tallies.stored.Count(), Deleted: f.tallies.deleted.Count(),
	}
}

// report makes all statuses first, so that reporting them takes no time.
func (f *fleet) report(_ context.Context, r Report) (int, error) {
	var prepared [][]link.Status
	for _, a := range f.agents {
		statuses, err := a.prepare(r)
		if err != nil {
			return 0, err
		}
		prepared = append(prepared, statuses)
	}
	reported := 0
	for t := range r.Last - r.First + 1 {
		for i, a := range f.agents {
			for of := t; of < len(prepared[i]); of += r.Last - r.First + 1 {
				a.link.Report(prepared[i][of])
				reported++
			}
		}
	}
	return reported, nil
}

// arrivals are what was stored since they were last asked for.
func (f *fleet) arrivals(context.Context, child.None) ([]Arrival, error) {
	var all []Arrival
	for _, a := range f.agents {
		all = append(all, a.store.takeArrivals()...)
	}
	return all, nil
}
