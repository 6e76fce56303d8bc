// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster says what the spoke is: its fingerprint and version, what its
// nodes have, its claims, and whether its apiserver is well. It watches nodes
// and asks the apiserver; plain values come out, for whoever tells the hub. It
// reports claims, never labels: what selects a cluster is decided on the hub.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// DefaultPeriod is how often the spoke is looked at when nothing happens
// (--cluster-healthcheck-period of OCM).
const DefaultPeriod = time.Minute

const (
	probeAgain   = 5 * time.Second  // after a failed probe
	unhealthyFor = 20 * time.Second // of failed probes make the apiserver unavailable (RA-28)
	callTimeout  = 10 * time.Second
	settle       = time.Second // node changes are gathered for that long
)

// Config is what a Watcher needs.
type Config struct {
	Kube    kubernetes.Interface
	Dynamic dynamic.Interface // nil: no claims but the spoke's own
	Log     *slog.Logger
	Clock   clock.Clock
	Period  time.Duration // zero is DefaultPeriod
	// Claims and Properties say which kinds are reported: ClusterClaims, and
	// ClusterProperties of about.k8s.io.
	Claims, Properties bool
	// MaxClaims bounds the claims that are not reserved names; zero is 20.
	MaxClaims int
	// ReservedSuffixes are ends of names that are reserved, too.
	ReservedSuffixes []string
	// Event tells people on the spoke. May be nil.
	Event func(ctx context.Context, reason, note string)
	// Changed is called after Facts changed. It must not block. May be nil.
	Changed func()
}

// Facts is what the spoke is at one moment. Nobody changes it.
type Facts struct {
	Fingerprint           string
	Version               string
	Claims                map[string]string
	Capacity, Allocatable map[string]string
	Healthy               bool
	Observed              time.Time
}

// Watcher keeps Facts. Make it with New, then call Run once.
type Watcher struct {
	cfg   Config
	nodes cache.SharedIndexInformer
	kinds []cache.SharedIndexInformer // of claims
	wake  chan struct{}

	truncated int // how many custom claims there were when some were cut off; only loop uses it

	mu    sync.Mutex
	facts Facts
}

// Fingerprint is what makes this cluster that cluster: the UID of its
// kube-system namespace.
func Fingerprint(ctx context.Context, kube kubernetes.Interface) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	namespace, err := kube.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("reading the UID of namespace %q, which is the cluster's fingerprint: %w", metav1.NamespaceSystem, err)
	}
	return string(namespace.UID), nil
}

// New makes a watcher that does nothing until Run. Facts are empty until then.
func New(cfg Config) (*Watcher, error) {
	if cfg.Period == 0 {
		cfg.Period = DefaultPeriod
	}
	if cfg.MaxClaims == 0 {
		cfg.MaxClaims = defaultMaxClaims
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	w := &Watcher{cfg: cfg, wake: make(chan struct{}, 1)}
	factory := informers.NewSharedInformerFactoryWithOptions(cfg.Kube, 0, informers.WithTransform(slim))
	w.nodes = factory.Core().V1().Nodes().Informer()
	_, err := w.nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { w.nudge() },
		DeleteFunc: func(any) { w.nudge() },
		UpdateFunc: func(before, after any) {
			if resourcesDiffer(before, after) {
				w.nudge()
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watching nodes: %w", err)
	}
	err = w.nodes.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		cfg.Log.DebugContext(ctx, "nodes cannot be watched; the cluster's capacity is not reported", "error", err)
	})
	if err != nil {
		return nil, err
	}
	return w, w.watchClaims()
}

// Facts returns what was found last.
func (w *Watcher) Facts() Facts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.facts
}

// Run looks at the spoke until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		w.nodes.RunWithContext(ctx)
		return nil
	})
	for _, kind := range w.kinds {
		group.Go(func() error {
			kind.RunWithContext(ctx)
			return nil
		})
	}
	group.Go(func() error { return w.loop(ctx) })
	return group.Wait()
}

func (w *Watcher) loop(ctx context.Context) error {
	var failing time.Time // since when
	for ctx.Err() == nil {
		now := w.cfg.Clock.Now()
		wait := w.cfg.Period
		healthy := w.healthy(ctx)
		switch {
		case healthy:
			failing = time.Time{}
		case failing.IsZero():
			failing = now
		}
		if !healthy {
			wait = probeAgain
		}
		w.update(ctx, now, healthy || now.Sub(failing) < unhealthyFor, healthy)
		w.await(ctx, wait)
	}
	return nil
}

// await waits, or until nodes changed and have settled.
func (w *Watcher) await(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-w.cfg.Clock.After(d):
	case <-w.wake:
		select {
		case <-ctx.Done():
		case <-w.cfg.Clock.After(min(settle, d)):
		}
	}
}

func (w *Watcher) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// healthy asks the apiserver how it is: /livez, or /healthz where that is not
// served or not allowed (RA-27).
func (w *Watcher) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	rest := w.cfg.Kube.Discovery().RESTClient()
	status := 0
	err := rest.Get().AbsPath("/livez").Do(ctx).StatusCode(&status).Error()
	if status == 404 || status == 403 {
		err = rest.Get().AbsPath("/healthz").Do(ctx).Error()
	}
	return err == nil
}

// update finds new facts; while the apiserver does not answer, what it said
// before stays.
func (w *Watcher) update(ctx context.Context, now time.Time, healthy, answers bool) {
	old := w.Facts()
	facts := old
	facts.Healthy, facts.Observed = healthy, now
	if answers {
		w.ask(ctx, &facts)
	}
	w.mu.Lock()
	w.facts = facts
	w.mu.Unlock()
	if !equal(old, facts) {
		w.cfg.Changed()
	}
}

func (w *Watcher) ask(ctx context.Context, facts *Facts) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if facts.Fingerprint == "" {
		fingerprint, err := Fingerprint(ctx, w.cfg.Kube)
		facts.Fingerprint = fingerprint
		w.complain(ctx, "the cluster's fingerprint is not known", err)
	}
	version, err := w.cfg.Kube.Discovery().ServerVersion()
	w.complain(ctx, "the cluster's version is not known", err)
	if err == nil {
		facts.Version = version.GitVersion
	}
	facts.Claims = w.claims(ctx, facts.Fingerprint, facts.Version)
	if w.nodes.HasSynced() {
		facts.Capacity, facts.Allocatable = w.resources()
	}
}

func (w *Watcher) complain(ctx context.Context, what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		w.cfg.Log.WarnContext(ctx, what, "error", err)
	}
}

func equal(a, b Facts) bool {
	return a.Fingerprint == b.Fingerprint && a.Version == b.Version && a.Healthy == b.Healthy &&
		maps.Equal(a.Claims, b.Claims) && maps.Equal(a.Capacity, b.Capacity) && maps.Equal(a.Allocatable, b.Allocatable)
}

// slim keeps of a node what is summed up; thousands of nodes cost little then.
func slim(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion},
		Spec:       corev1.NodeSpec{Unschedulable: node.Spec.Unschedulable},
		Status:     corev1.NodeStatus{Capacity: node.Status.Capacity, Allocatable: node.Status.Allocatable},
	}, nil
}
