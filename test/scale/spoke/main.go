// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command spoke measures what many and big works cost a spoke: the agent's own
// executor of works in a process of its own, against a real apiserver. It prints
// a table of times, requests and memory; with -write it also writes it to a file,
// such as RESULTS-SPOKE.md.
//
// Requests and memory are the numbers to keep: agent, apiserver and etcd share
// one machine, so times say more of the machine than of the agent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"fairlead.dev/fairlead/test/scale/child"
)

type config struct {
	works, manifests int
	many             int
	foreign          int
	few              int
	write            string
}

// partAgent is the argument that makes the program the agent's process.
const partAgent = "agent"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) == 3 && os.Args[1] == partAgent {
		err = runAgent(context.WithoutCancel(ctx), os.Args[2]) // it ends with its parent
	} else {
		err = measure(ctx)
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "spoke: %v\n", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context) (err error) {
	var cfg config
	flag.IntVar(&cfg.works, "works", 1000, "how many works")
	flag.IntVar(&cfg.manifests, "manifests", 4, "how many manifests each of them has")
	flag.IntVar(&cfg.many, "many", 500, "how many manifests the one large work has")
	flag.IntVar(&cfg.foreign, "foreign", 20_000, "how many ConfigMaps of others are beside ours")
	flag.IntVar(&cfg.few, "few", 200, "with how many works limits of the client's rate are compared; 0 is not at all")
	flag.StringVar(&cfg.write, "write", "", "file to write the table to as well, such as test/scale/RESULTS-SPOKE.md")
	flag.Parse()
	if cfg.works < 1 || cfg.manifests < 1 || cfg.many < 1 || flag.NArg() > 0 {
		return errors.New("usage: spoke [-works N] [-manifests N] [-many N] [-foreign N] [-few N] [-write FILE]")
	}
	b, err := newBench(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, step := range []func(context.Context) error{b.crowd, b.large, b.big, b.beside, b.limits} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return b.publish()
}

// agent is a running agent, seen from the bench.
type agent struct{ *child.Process }

func (a *agent) deliver(l Layout) error { return a.Call("deliver", l, nil) }
func (a *agent) remove() error          { return a.Call("remove", child.None{}, nil) }

// await waits until that many works are applied, or gone.
func (a *agent) await(what string, n int) error { return a.Call(what, n, nil) }

func (a *agent) counts() (c Counts, err error) { return c, a.Call("counts", child.None{}, &c) }
