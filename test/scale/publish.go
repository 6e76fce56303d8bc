// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"fairlead.dev/fairlead/test/scale/stat"
)

// publish prints the table, and writes it where -write says.
func (b *bench) publish() error {
	rows := b.rows()
	failed := 0
	for _, r := range rows {
		if r.verdict == mark(false) {
			failed++
		}
	}
	fmt.Printf("\n%d agents, %v, %s\n\n", b.cfg.agents, b.report.took.Round(time.Second), stat.Machine())
	if err := printText(os.Stdout, rows); err != nil {
		return err
	}
	fmt.Printf("\n%d goals missed\n", failed)
	if b.cfg.details {
		printCounts(os.Stdout, b.details())
	}
	if b.cfg.write == "" {
		return nil
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, preface, time.Now().UTC().Format("2006-01-02"), b.cfg.agents, stat.Machine(), stat.Versions("google.golang.org/grpc", "k8s.io/client-go"), b.cfg.agents, b.cfg.write, b.report.took.Round(time.Second))
	if err := printMarkdown(&text, rows); err != nil {
		return err
	}
	return os.WriteFile(b.cfg.write, text.Bytes(), 0o600)
}

const preface = `# What the hub costs

Written by the program in this folder; goals are those of the project's performance notes.
CPU per operation and memory are the numbers to keep. All parts share one machine, so what the
wall clock says (rates, latencies) is noisy. "bare" is a grpc-go server with one bidi stream per
agent over mTLS, tuned like the hub and measured in the same run by the same program.

- date: %s
- agents: %d (agent/link, each with its own certificate and connection, stores in memory)
- machine: %s
- versions: %s
- command: go run ./test/scale -agents %d -write %s (took %v)

How it is measured: the hub is server.Server as «hub serve» runs it, in its own process, behind it
etcd and a kube-apiserver without audit log. Clusters are accepted by the hub's own controllers;
enrollments are written and certificates signed directly with the hub's CA, which leaves the hub
where the real exchange would. The hub is then restarted, so that its memory has nothing of that
in it. Works are 3 KiB, all different, and are created with the finalizer that ApplyWork and the
webhook put on them. CPU is user + system of a process; memory is RSS after a garbage collection
that returns what is free, with all agents minus without any.

`
