// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/scale/child"
	"fairlead.dev/fairlead/test/scale/stat"
)

// bench is one spoke.
type bench struct {
	cfg   config
	began time.Time
	dir   string
	plane *env.Plane
	kube  kubernetes.Interface
	rows  [][]string
}

func newBench(ctx context.Context, cfg config) (*bench, error) {
	b := &bench{cfg: cfg, began: time.Now()}
	var err error
	if b.dir, err = os.MkdirTemp("", "fairlead-spoke-"); err != nil {
		return nil, err
	}
	if b.plane, err = env.Start(ctx, env.Options{Name: "spoke", NoAudit: true, CRDs: deploy.SpokeCRDs()}); err != nil {
		return nil, err
	}
	admin := b.plane.RESTConfig()
	admin.QPS = -1
	b.kube, err = kubernetes.NewForConfig(admin)
	return b, err
}

func (b *bench) close() error {
	b.plane.Stop()
	return os.RemoveAll(b.dir)
}

// start starts an agent that holds nothing.
func (b *bench) start(ctx context.Context, setup Setup) (*agent, error) {
	setup.Kubeconfig = b.plane.Kubeconfig()
	text, err := json.Marshal(setup) //nolint:musttag // both ends are this program
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, "setup.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	p, err := child.Start(ctx, b.dir, "agent", partAgent, file)
	if err != nil {
		return nil, err
	}
	return &agent{p}, nil
}

// defaults are the agent's own limits.
func defaults() Setup { return Setup{QPS: work.DefaultQPS, Burst: work.DefaultBurst} }

// spaces makes namespaces.
func (b *bench) spaces(ctx context.Context, prefix string, n int) ([]string, error) {
	var names []string
	for i := range n {
		name := fmt.Sprintf("%s-%d", prefix, i)
		_, err := b.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

// add adds a row, and shows that it is there.
func (b *bench) add(what, value string, more ...any) {
	b.rows = append(b.rows, []string{what, fmt.Sprintf(value, more...)})
	fmt.Fprintf(os.Stderr, "%6.1fs  %s: %s\n", time.Since(b.began).Seconds(), what, fmt.Sprintf(value, more...))
}

// phase does something with an agent and says what it cost.
func (b *bench) phase(a *agent, what string, objects int, do func() error) error {
	before, err := a.counts()
	if err != nil {
		return err
	}
	cpu, err := a.CPU()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	took := time.Since(began)
	after, errCounts := a.counts()
	used, errCPU := a.CPU()
	if err := errors.Join(errCounts, errCPU); err != nil {
		return err
	}
	reads, writes := after.Reads-before.Reads, after.Writes-before.Writes
	b.add(what, "%.1f s, %d reads and %d writes (%.2f and %.2f per manifest), CPU %.2f s, watches opened %d, open %d", took.Seconds(), reads, writes,
		float64(reads)/float64(objects), float64(writes)/float64(objects), (used - cpu).Seconds(), after.Watches-before.Watches, after.Open)
	return nil
}

// memory says what an agent takes.
func (b *bench) memory(a *agent, when string) error {
	asItIs, err := a.RSS()
	if err != nil {
		return err
	}
	kept, err := a.Collect()
	if err != nil {
		return err
	}
	b.add("… memory "+when, "RSS %.0f MiB, after a GC %.0f, of that heap %.1f; %d goroutines", mebi(asItIs), mebi(kept.RSS), mebi(kept.Heap.Heap), kept.Goroutines)
	return nil
}

func mebi(n int64) float64 { return float64(n) / (1 << 20) }

// life takes works through all that becomes of them, with a restart.
func (b *bench) life(ctx context.Context, name string, l Layout, during func(a *agent) error) (err error) {
	objects := l.Works * l.Manifests
	a, err := b.start(ctx, defaults())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	deliver := func() error { return errors.Join(a.deliver(l), a.await("applied", l.Works)) }
	if _, err := a.Collect(); err != nil { // it has started
		return err
	}
	if err := b.memory(a, "before "+name); err != nil {
		return err
	}
	if err := b.phase(a, name+": applied", objects, deliver); err != nil {
		return err
	}
	if err := b.memory(a, "when they are applied"); err != nil {
		return err
	}
	if err := during(a); err != nil {
		return err
	}
	if err := b.memory(a, "some time after"); err != nil {
		return err
	}
	if err := a.Stop(); err != nil {
		return err
	}
	if a, err = b.start(ctx, defaults()); err != nil {
		return err
	}
	if err := b.phase(a, name+": agent started again, all reported", objects, deliver); err != nil {
		return err
	}
	gone := func() error { return errors.Join(a.remove(), a.await("gone", l.Works)) }
	if err := b.phase(a, name+": pruned", objects, gone); err != nil {
		return err
	}
	return b.memory(a, "at the end")
}

// steady is over how long nothing is to happen.
const steady = 20 * time.Second

// crowd is many works of a few manifests.
func (b *bench) crowd(ctx context.Context) error {
	spaces, err := b.spaces(ctx, "crowd", max(b.cfg.works/4, 1))
	if err != nil {
		return err
	}
	l := Layout{Name: "crowd", Works: b.cfg.works, Manifests: b.cfg.manifests, Namespaces: spaces}
	return b.life(ctx, fmt.Sprintf("%d works of %d in %d namespaces", l.Works, l.Manifests, len(spaces)), l, func(a *agent) error {
		if err := b.phase(a, fmt.Sprintf("… nothing changes for %s", steady), l.Works*l.Manifests, func() error { return pause(ctx, steady) }); err != nil {
			return err
		}
		return b.heal(ctx, a, l)
	})
}

// large is one work of many manifests.
func (b *bench) large(ctx context.Context) error {
	spaces, err := b.spaces(ctx, "large", 1)
	if err != nil {
		return err
	}
	l := Layout{Name: "large", Works: 1, Manifests: b.cfg.many, Namespaces: spaces}
	return b.life(ctx, fmt.Sprintf("1 work of %d", l.Manifests), l, func(a *agent) error { return b.heal(ctx, a, l) })
}

// big is one manifest near what the hub takes.
func (b *bench) big(ctx context.Context) error {
	spaces, err := b.spaces(ctx, "big", 1)
	if err != nil {
		return err
	}
	l := Layout{Name: "big", Works: 1, Manifests: 1, Namespaces: spaces, Bytes: wire.DefaultManifestLimit - 1<<10}
	return b.life(ctx, "1 work of 1 of 499 KiB", l, func(a *agent) error { return b.heal(ctx, a, l) })
}

// beside is a work in a namespace that is full of others' objects.
func (b *bench) beside(ctx context.Context) error {
	spaces, err := b.spaces(ctx, "beside", 1)
	if err != nil {
		return err
	}
	if err := b.fill(ctx, spaces[0]); err != nil {
		return err
	}
	l := Layout{Name: "beside", Works: 10, Manifests: 4, Namespaces: spaces}
	return b.life(ctx, fmt.Sprintf("10 works of 4 beside %d ConfigMaps of others", b.cfg.foreign), l, func(a *agent) error { return b.heal(ctx, a, l) })
}

// fill makes ConfigMaps of others, of 1 KiB each.
func (b *bench) fill(ctx context.Context, namespace string) error {
	var group errgroup.Group
	const writers = 8
	group.SetLimit(writers)
	for i := range b.cfg.foreign {
		group.Go(func() error {
			_, err := b.kube.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("theirs-%d", i), Annotations: map[string]string{"note": strings.Repeat("n", 512)}},
				Data:       map[string]string{"text": strings.Repeat("x", 512)},
			}, metav1.CreateOptions{})
			return err
		})
	}
	return group.Wait()
}

// drifts is how often something is changed by hand.
const drifts = 30

// heal changes objects by hand, one after the other, and says how long each stays so.
func (b *bench) heal(ctx context.Context, a *agent, l Layout) error {
	var took []time.Duration
	n := drifts
	if l.Works == 1 {
		n = min(n, (l.Manifests+3)/4) // each object once: a few times in a row are fast only
	}
	err := b.phase(a, fmt.Sprintf("… %d edits by hand healed", n), n, func() error {
		for i := range n {
			one, manifest := i%l.Works, 0
			if l.Works == 1 {
				manifest = i * 4
			}
			d, err := b.healed(ctx, l.Namespaces[one%len(l.Namespaces)], l.object(one, manifest))
			if err != nil {
				return err
			}
			took = append(took, d)
		}
		return nil
	})
	b.add("… from the edit's answer to the healed object seen by a watch", "p50 %d ms, max %d ms", stat.Median(took).Milliseconds(), stat.Max(took).Milliseconds())
	return err
}

func (b *bench) healed(ctx context.Context, namespace, name string) (time.Duration, error) {
	client := b.kube.CoreV1().ConfigMaps(namespace)
	edited, err := client.Patch(ctx, name, types.MergePatchType, []byte(`{"data":{"k":"theirs"}}`), metav1.PatchOptions{})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	seen, err := client.Watch(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String(), ResourceVersion: edited.ResourceVersion,
	})
	if err != nil {
		return 0, err
	}
	defer seen.Stop()
	for event := range seen.ResultChan() {
		if now, ok := event.Object.(*corev1.ConfigMap); ok && now.Data["k"] == "v" {
			return time.Since(began), nil
		}
	}
	return 0, fmt.Errorf("the watch of %s/%s ended before it was healed", namespace, name)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
