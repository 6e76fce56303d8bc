// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

const (
	namespaceLabelPrefix = "clusterset.open-cluster-management.io/"
	maxLabelName         = 63
	namespaceManager     = "fairlead-agent-namespaces"
	namespaceRetry       = 5 * time.Second
)

// NamespaceLabel is the label of namespaces that a hub manages through its cluster
// sets: "true", or "false" once it no longer does. Two hubs have two labels. OCM
// takes the hash of the hub's host; ours is that of its id, which stays when the
// hub is moved.
func NamespaceLabel(hubID string) string {
	sum := sha256.Sum256([]byte(hubID))
	return namespaceLabelPrefix + hex.EncodeToString(sum[:])[:maxLabelName]
}

// NamespacesConfig is what Namespaces need.
type NamespacesConfig struct {
	Kube  kubernetes.Interface
	Label string // see NamespaceLabel
	// Wanted is what the hub asks for; known is false before it has asked for
	// anything, and then nothing is done.
	Wanted func() (names []string, known bool)
	// Released is called when nothing is wanted and nothing is labelled any more.
	Released func(ctx context.Context) error
	Log      *slog.Logger
	Clock    clock.Clock
	Period   time.Duration
	// Event tells people on the spoke. It must not be nil.
	Event func(ctx context.Context, reason, note string)
	// Changed is called after State changed. It must not block.
	Changed func()
}

// Namespaces makes the namespaces that the hub's cluster sets ask for, and marks
// those that they ask for no more (RA-37, RA-38). None is ever deleted. Make it
// with NewNamespaces, then call Run once.
type Namespaces struct {
	cfg  NamespacesConfig
	wake chan struct{}

	// unseen are those that loop has labelled and the watch has not told of yet.
	unseen map[string]bool

	mu    sync.Mutex
	state map[string]string
}

// NewNamespaces makes one that does nothing until Run.
func NewNamespaces(cfg NamespacesConfig) *Namespaces {
	if cfg.Period == 0 {
		cfg.Period = DefaultPeriod
	}
	return &Namespaces{cfg: cfg, wake: make(chan struct{}, 1), unseen: map[string]bool{}}
}

// State is what became of each wanted namespace: empty where it is there with its
// label, else why not. Nobody changes it.
func (n *Namespaces) State() map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// Nudge has Wanted looked at again. It does not block.
func (n *Namespaces) Nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends. Namespaces are watched from when the hub first asks
// for some.
func (n *Namespaces) Run(ctx context.Context) error {
	for {
		if _, known := n.cfg.Wanted(); known {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		}
	}
	labelled := informers.NewSharedInformerFactoryWithOptions(n.cfg.Kube, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = n.cfg.Label + "=true" }),
	).Core().V1().Namespaces().Informer()
	_, err := labelled.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { n.Nudge() }, // somebody may label one that is not wanted
		UpdateFunc: func(any, any) { n.Nudge() }, DeleteFunc: func(any) { n.Nudge() },
	})
	if err != nil {
		return fmt.Errorf("watching managed namespaces: %w", err)
	}
	err = labelled.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		n.cfg.Log.WarnContext(ctx, "managed namespaces cannot be watched; those that are managed no more keep their label until they can", "error", err)
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { labelled.RunWithContext(ctx); return nil })
	group.Go(func() error { n.loop(ctx, labelled); return nil })
	return group.Wait()
}

func (n *Namespaces) loop(ctx context.Context, labelled cache.SharedIndexInformer) {
	for ctx.Err() == nil {
		wait := n.cfg.Period
		if !n.reconcile(ctx, labelled) {
			wait = namespaceRetry
		}
		select {
		case <-ctx.Done():
		case <-n.wake:
		case <-n.cfg.Clock.After(wait):
		}
	}
}

// reconcile makes spoke and hub agree; false when something is left to be done.
func (n *Namespaces) reconcile(ctx context.Context, labelled cache.SharedIndexInformer) (done bool) {
	wanted, known := n.cfg.Wanted()
	if !known {
		n.show(nil)
		return true
	}
	have := map[string]*corev1.Namespace{}
	for _, object := range labelled.GetStore().List() {
		if namespace, ok := object.(*corev1.Namespace); ok {
			have[namespace.Name] = namespace
			delete(n.unseen, namespace.Name)
		}
	}
	made := n.make(ctx, wanted, have)
	left := n.leave(ctx, wanted, have)
	if !labelled.HasSynced() || !made || !left {
		return false
	}
	if len(wanted) > 0 || len(have) > 0 {
		return true
	}
	err := n.cfg.Released(ctx)
	if err != nil {
		n.cfg.Log.WarnContext(ctx, "the cluster's configuration cannot be dropped from the store; trying again", "error", err)
	}
	return err == nil
}

// make sees to it that what is wanted is there; false when not all of it is.
func (n *Namespaces) make(ctx context.Context, wanted []string, have map[string]*corev1.Namespace) (done bool) {
	done = true
	state := make(map[string]string, len(wanted))
	for _, name := range wanted {
		state[name] = ""
		if there := have[name]; there != nil && there.DeletionTimestamp.IsZero() {
			continue
		}
		if err := n.apply(ctx, name); err != nil {
			state[name], done = err.Error(), false
		}
	}
	n.show(state)
	return done
}

// leave releases what is there and not wanted; false when it could not.
func (n *Namespaces) leave(ctx context.Context, wanted []string, have map[string]*corev1.Namespace) (done bool) {
	done = true
	for _, name := range slices.AppendSeq(slices.Collect(maps.Keys(have)), maps.Keys(n.unseen)) {
		if slices.Contains(wanted, name) {
			continue
		}
		if err := n.release(ctx, name); err != nil {
			n.cfg.Log.WarnContext(ctx, "a namespace that is managed no more keeps its label; trying again", "namespace", name, "error", err)
			done = false
			continue
		}
		delete(n.unseen, name)
	}
	return done
}

// show tells of a new state.
func (n *Namespaces) show(state map[string]string) {
	n.mu.Lock()
	same := maps.Equal(n.state, state)
	n.state = state
	n.mu.Unlock()
	if !same {
		n.cfg.Changed()
	}
}

// apply makes a namespace, or labels the one that is there.
func (n *Namespaces) apply(ctx context.Context, name string) error {
	patch, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name, "labels": map[string]string{n.cfg.Label: "true"}},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	force := true
	namespace, err := n.cfg.Kube.CoreV1().Namespaces().Patch(ctx, name, types.ApplyPatchType, patch, metav1.PatchOptions{FieldManager: namespaceManager, Force: &force})
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("the agent may not make or label namespace %q: allow it patch and create on namespaces: %w", name, err)
	case err != nil:
		return fmt.Errorf("making namespace %q: %w", name, err)
	case !namespace.DeletionTimestamp.IsZero():
		return fmt.Errorf("namespace %q is being deleted; it is made again when it is gone", name)
	}
	n.unseen[name] = true
	n.cfg.Event(ctx, "NamespaceApplied", fmt.Sprintf("Namespace %s is there for the hub's cluster sets.", name))
	return nil
}

// release says on a namespace that it is managed no more. It stays.
func (n *Namespaces) release(ctx context.Context, name string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{n.cfg.Label: "false"}}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = n.cfg.Kube.CoreV1().Namespaces().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: namespaceManager})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		n.cfg.Event(ctx, "NamespaceUnmanaged", fmt.Sprintf("Namespace %s is in none of the hub's cluster sets any more; it stays.", name))
	}
	return err
}
