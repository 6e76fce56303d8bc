// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/scale/stat"
)

// limits applies some works with several limits of the client's rate, and says
// what others notice of it: somebody who writes all the while.
func (b *bench) limits(ctx context.Context) error {
	if b.cfg.few == 0 {
		return nil
	}
	spaces, err := b.spaces(ctx, "limits", max(b.cfg.few/4, 1))
	if err != nil {
		return err
	}
	for i, setup := range []Setup{{QPS: 50, Burst: 100}, {QPS: 200, Burst: 400}, {QPS: -1}} {
		name := fmt.Sprintf("%d works of 4 at QPS %g, burst %d", b.cfg.few, setup.QPS, setup.Burst)
		if setup.QPS < 0 {
			name = fmt.Sprintf("%d works of 4 without a limit", b.cfg.few)
		}
		l := Layout{Name: fmt.Sprintf("limits%d", i), Works: b.cfg.few, Manifests: 4, Namespaces: spaces}
		if err := b.limited(ctx, name, setup, l); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) limited(ctx context.Context, name string, setup Setup, l Layout) (err error) {
	a, err := b.start(ctx, setup)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	stop := b.bystand(ctx, l.Namespaces[0])
	before, err := stat.ReadCPU(b.plane.PID(env.APIServer))
	if err != nil {
		return err
	}
	began := time.Now()
	err = b.phase(a, name, l.Works*l.Manifests, func() error { return errors.Join(a.deliver(l), a.await("applied", l.Works)) })
	took, noticed := time.Since(began), stop()
	after, errCPU := stat.ReadCPU(b.plane.PID(env.APIServer))
	if err := errors.Join(err, errCPU); err != nil {
		return err
	}
	b.add("… a bystander's write meanwhile", "p50 %d ms, p99 %d ms, %d of them; apiserver %.2f of a CPU", stat.Median(noticed).Milliseconds(),
		stat.Quantile(noticed, 0.99).Milliseconds(), len(noticed), (after-before).Seconds()/took.Seconds())
	return errors.Join(a.remove(), a.await("gone", l.Works))
}

// bystand writes to an object that is nobody's, twenty times a second, until
// stop is called, which returns how long each write took.
func (b *bench) bystand(ctx context.Context, namespace string) (stop func() []time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	var took []time.Duration
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := 0; pause(ctx, time.Second/20) == nil; n++ {
			began := time.Now()
			patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"n":"%d"}}}`, n)
			if _, err := b.kube.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err == nil {
				took = append(took, time.Since(began))
			}
		}
	})
	return func() []time.Duration {
		cancel()
		writing.Wait()
		return took
	}
}

// publish prints the table, and writes it where -write says.
func (b *bench) publish() error {
	var text bytes.Buffer
	fmt.Fprintf(&text, preface, time.Now().UTC().Format("2006-01-02"), stat.Machine(), stat.Versions("k8s.io/client-go"),
		strings.Join(os.Args[1:], " "), time.Since(b.began).Round(time.Second))
	text.WriteString("| what | figures |\n| --- | --- |\n")
	for _, row := range b.rows {
		fmt.Fprintf(&text, "| %s |\n", strings.Join(row, " | "))
	}
	fmt.Print(text.String())
	if b.cfg.write == "" {
		return nil
	}
	return os.WriteFile(b.cfg.write, text.Bytes(), 0o600)
}

const preface = `# What works cost a spoke

Written by the program in test/scale/spoke. Requests and memory are the numbers to keep: agent, apiserver
and etcd share one machine, so times are noisy.

- date: %s
- machine: %s
- versions: %s
- command: go run ./test/scale/spoke %s (took %v)

How it is measured: the agent's executor of works (agent/work) as the agent runs it, in a process of its own,
with a store in memory and its default limits (50 requests a second, 100 at once) where nothing else is said.
Requests are counted in its transport, watches apart. The manifests are a ConfigMap, a Secret, a Service and a
ServiceAccount in turn. Memory is that of this process. Edits by hand come one after the other.

`
