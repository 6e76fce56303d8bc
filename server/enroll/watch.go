// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
)

// clusterIndex finds the enrollments of one cluster in the cache.
const clusterIndex = "spec.clusterName"

// watch follows ClusterEnrollments through a shared cache: it wakes those who
// wait for one of them to change and counts those that wait for a person.
type watch struct {
	reader client.Reader

	mu      sync.Mutex
	waiting map[string][]chan struct{} // by name; closed and dropped on a change
	pending map[string]bool            // names in state Pending
	making  map[string]bool            // names about to be, until they are seen
}

// newWatch registers with the cache; the informer's goroutines belong to it.
func newWatch(ctx context.Context, c cache.Cache) (*watch, error) {
	byCluster := func(obj client.Object) []string {
		enrollment, ok := obj.(*v1alpha1.ClusterEnrollment)
		if !ok {
			return nil
		}
		return []string{enrollment.Spec.ClusterName}
	}
	if err := c.IndexField(ctx, &v1alpha1.ClusterEnrollment{}, clusterIndex, byCluster); err != nil {
		return nil, fmt.Errorf("indexing ClusterEnrollments: %w", err)
	}
	informer, err := c.GetInformer(ctx, &v1alpha1.ClusterEnrollment{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watching ClusterEnrollments: %w", err)
	}
	w := &watch{reader: c, waiting: map[string][]chan struct{}{}, pending: map[string]bool{}, making: map[string]bool{}}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    w.changed,
		UpdateFunc: func(_, obj any) { w.changed(obj) },
		DeleteFunc: w.removed,
	})
	if err != nil {
		return nil, fmt.Errorf("watching ClusterEnrollments: %w", err)
	}
	return w, nil
}

func (w *watch) changed(obj any) {
	enrollment, ok := obj.(*v1alpha1.ClusterEnrollment)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.making, enrollment.Name)
	delete(w.pending, enrollment.Name)
	if enrollment.Status.State == v1alpha1.StatePending {
		w.pending[enrollment.Name] = true
	}
	w.wakeLocked(enrollment.Name)
}

func (w *watch) removed(obj any) {
	if last, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pending, accessor.GetName())
	w.wakeLocked(accessor.GetName())
}

func (w *watch) wakeLocked(name string) {
	for _, waiter := range w.waiting[name] {
		close(waiter)
	}
	delete(w.waiting, name)
}

func (w *watch) subscribe(name string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := make(chan struct{})
	w.waiting[name] = append(w.waiting[name], changed)
	return changed
}

func (w *watch) unsubscribe(name string, changed chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := slices.DeleteFunc(w.waiting[name], func(c chan struct{}) bool { return c == changed })
	if len(rest) == 0 {
		delete(w.waiting, name)
		return
	}
	w.waiting[name] = rest
}

// reserve counts an enrollment that is about to be made among those that wait
// for a person, unless limit of them do already; a negative limit is none. It
// counts until the enrollment is seen, or the attempt is given up.
func (w *watch) reserve(name string, limit int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if limit >= 0 && len(w.pending)+len(w.making) >= limit && !w.making[name] {
		return false
	}
	w.making[name] = true
	return true
}

// giveUp takes a reservation back.
func (w *watch) giveUp(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.making, name)
}

// get reads one enrollment from the cache.
func (w *watch) get(ctx context.Context, name string) (*v1alpha1.ClusterEnrollment, error) {
	enrollment := &v1alpha1.ClusterEnrollment{}
	if err := w.reader.Get(ctx, client.ObjectKey{Name: name}, enrollment); err != nil {
		return nil, err
	}
	return enrollment, nil
}

// wait returns the enrollment as the cache has it as soon as done says so. When
// ctx ends first it returns the last one seen, with the error of ctx.
func (w *watch) wait(ctx context.Context, name string, done func(*v1alpha1.ClusterEnrollment) bool) (*v1alpha1.ClusterEnrollment, error) {
	var last *v1alpha1.ClusterEnrollment
	for {
		changed := w.subscribe(name) // before reading, so that no change falls between
		enrollment, err := w.get(ctx, name)
		if err == nil {
			last = enrollment
		}
		if client.IgnoreNotFound(err) != nil || err == nil && done(enrollment) || err != nil && last != nil {
			w.unsubscribe(name, changed)
			return last, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			w.unsubscribe(name, changed)
			return last, ctx.Err()
		}
	}
}
