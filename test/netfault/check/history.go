// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
	workclient "open-cluster-management.io/api/client/work/clientset/versioned"
	workv1 "open-cluster-management.io/api/work/v1"
)

// version is what a hub wanted of one cluster from one moment on.
type version struct {
	work       string
	uid        types.UID
	generation int64
	deleted    bool              // a deletionTimestamp was set
	objects    map[string]string // what it has: name → data.value
}

// History writes down every version of every ManifestWork of a hub, as wanted
// by its users. Its methods may be called at any time from anywhere.
type History struct {
	works workclient.Interface
	watch *toolswatch.RetryWatcher
	group sync.WaitGroup

	mu       sync.Mutex
	versions map[string][]version // by cluster, in the order of the apiserver
	problems []string
	seen     map[string]bool
}

// NewHistory starts a history. ctx bounds its life; the caller calls Close.
func NewHistory(ctx context.Context, works workclient.Interface) (*History, error) {
	list, err := works.WorkV1().ManifestWorks("").List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("starting a history of works: %w", err)
	}
	h := &History{works: works, versions: map[string][]version{}, seen: map[string]bool{}}
	source := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		return works.WorkV1().ManifestWorks("").Watch(ctx, options)
	}}
	if h.watch, err = toolswatch.NewRetryWatcherWithContext(ctx, list.ResourceVersion, source); err != nil {
		return nil, fmt.Errorf("starting a history of works: %w", err)
	}
	h.group.Go(func() {
		for event := range h.watch.ResultChan() {
			h.note(event)
		}
	})
	return h, nil
}

// Close ends the history; what it has stays.
func (h *History) Close() {
	h.watch.Stop()
	h.group.Wait()
}

func (h *History) note(event watch.Event) {
	work, ok := event.Object.(*workv1.ManifestWork)
	if !ok {
		return
	}
	objects, err := manifests(work)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.problems = append(h.problems, err.Error())
	}
	if work.Labels[markerLabel] != "" {
		h.seen[work.Name] = true
		return
	}
	next := version{work.Name, work.UID, work.Generation, event.Type == watch.Deleted || work.DeletionTimestamp != nil, objects}
	if last := h.last(work.Namespace, work.Name); last != nil && last.uid == next.uid && last.generation == next.generation && last.deleted == next.deleted {
		return // a status, or metadata
	}
	h.versions[work.Namespace] = append(h.versions[work.Namespace], next)
}

func (h *History) last(cluster, work string) *version {
	all := h.versions[cluster]
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].work == work {
			return &all[i]
		}
	}
	return nil
}

// of is everything that was wanted of a cluster.
func (h *History) of(cluster string) []version {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]version(nil), h.versions[cluster]...)
}

// Settle returns when the history has everything that happened before.
func (h *History) Settle(ctx context.Context) error {
	works := h.works.WorkV1().ManifestWorks(Namespace) // a namespace of no cluster
	name := "check-marker-" + rand.String(10)
	marker := Work(Namespace, name, map[string]string{name: ""})
	marker.Labels = map[string]string{markerLabel: "true"}
	if _, err := works.Create(ctx, marker, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("marking the history: %w", err)
	}
	err := wait(ctx, "the history to have caught up", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.seen[name]
	})
	if gone := works.Delete(ctx, name, metav1.DeleteOptions{}); err == nil && gone != nil {
		err = fmt.Errorf("taking the history's marker away: %w", gone)
	}
	return err
}

// wait looks every few milliseconds until ok.
func wait(ctx context.Context, what string, ok func() bool) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}
