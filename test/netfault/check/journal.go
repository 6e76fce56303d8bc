// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// Entry is one thing that happened to one object of the spoke.
type Entry struct {
	What  watch.EventType
	Name  string
	UID   types.UID
	Value string // data.value, which tells the version of the work
	Owner string // the cluster that the work was made for; see Work
}

// Journal writes down every creation, change and deletion of the ConfigMaps in
// the spoke's namespace default. Its methods may be called at any time from
// anywhere.
type Journal struct {
	kube  kubernetes.Interface
	watch *toolswatch.RetryWatcher
	group sync.WaitGroup

	mu      sync.Mutex
	entries []Entry
	seen    map[string]bool // the markers of Settle that came by
}

// NewJournal starts a journal. ctx bounds its life; the caller calls Close.
func NewJournal(ctx context.Context, kube kubernetes.Interface) (*Journal, error) {
	configMaps := kube.CoreV1().ConfigMaps(Namespace)
	list, err := configMaps.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("starting a journal: %w", err)
	}
	j := &Journal{kube: kube, seen: map[string]bool{}}
	source := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		return configMaps.Watch(ctx, options)
	}}
	if j.watch, err = toolswatch.NewRetryWatcherWithContext(ctx, list.ResourceVersion, source); err != nil {
		return nil, fmt.Errorf("starting a journal: %w", err)
	}
	j.group.Go(func() {
		for event := range j.watch.ResultChan() {
			j.note(event)
		}
	})
	return j, nil
}

// Close ends the journal; what it has stays.
func (j *Journal) Close() {
	j.watch.Stop()
	j.group.Wait()
}

func (j *Journal) note(event watch.Event) {
	object, ok := event.Object.(*corev1.ConfigMap)
	if !ok {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if object.Labels[markerLabel] != "" {
		j.seen[object.Name] = true
		return
	}
	j.entries = append(j.entries, Entry{event.Type, object.Name, object.UID, object.Data[valueKey], object.Labels[ownerLabel]})
}

// Since returns what happened after the first n entries to one name; an empty
// name is every name.
func (j *Journal) Since(n int, name string) []Entry {
	return j.filter(n, func(e Entry) bool { return name == "" || e.Name == name })
}

// Of returns what happened after the first n entries to the objects of one
// cluster's works.
func (j *Journal) Of(n int, cluster string) []Entry {
	return j.filter(n, func(e Entry) bool { return e.Owner == cluster })
}

func (j *Journal) filter(n int, wanted func(Entry) bool) []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []Entry
	for _, e := range j.entries[n:] {
		if wanted(e) {
			out = append(out, e)
		}
	}
	return out
}

// Mark is the number of entries so far, for Since.
func (j *Journal) Mark() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.entries)
}

// Deletions lists what was deleted after the first n entries.
func (j *Journal) Deletions(n int) []string {
	var out []string
	for _, e := range j.filter(n, func(e Entry) bool { return e.What == watch.Deleted }) {
		out = append(out, fmt.Sprintf("%s (%s)", e.Name, e.UID))
	}
	return out
}

// Settle returns when the journal has everything that happened before.
func (j *Journal) Settle(ctx context.Context) error {
	configMaps := j.kube.CoreV1().ConfigMaps(Namespace)
	name := "check-marker-" + rand.String(10)
	marker := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{markerLabel: "true"}}}
	if _, err := configMaps.Create(ctx, marker, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("marking the journal: %w", err)
	}
	err := wait(ctx, "the journal to have caught up", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.seen[name]
	})
	if gone := configMaps.Delete(ctx, name, metav1.DeleteOptions{}); err == nil && gone != nil && !apierrors.IsNotFound(gone) {
		err = fmt.Errorf("taking the journal's marker away: %w", gone)
	}
	return err
}
