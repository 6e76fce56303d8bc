// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// watch is one list-and-watch, of one object, of a namespace or of all. It is the store that client-go's reflector fills, and
// keeps nothing but resourceVersions of our own objects, in the scopes.
type watch struct {
	watcher   *Watcher
	kind      *kind
	namespace string // empty for all, and for cluster-scoped resources
	name      string // empty for the whole namespace
	cancel    context.CancelFunc
	// synced says that a list was taken in and the watch did not fail since. logged keeps a lasting failure to one line.
	synced, logged bool
}

// start opens a watch, or returns nil when the limit is reached. The caller holds the lock.
func (w *Watcher) start(k *kind, namespace, name string) *watch {
	if w.running >= w.cfg.Limit {
		return nil
	}
	return w.open(k, namespace, name)
}

// open opens a watch. The caller holds the lock.
func (w *Watcher) open(k *kind, namespace, name string) *watch {
	opened := &watch{watcher: w, kind: k, namespace: namespace, name: name}
	quiet := logr.Discard() // failures are logged by failed, once
	reflector := cache.NewReflectorWithOptions(opened.listWatch(), &metav1.PartialObjectMetadata{}, opened, cache.ReflectorOptions{
		Name: fmt.Sprintf("%s/%s/%s", k.resource.GroupResource(), namespace, name), Logger: &quiet,
	})
	w.running++
	k.open++
	opened.cancel = w.run(func(ctx context.Context) {
		defer opened.ended()
		reflector.RunWithContext(klog.NewContext(ctx, quiet))
	})
	return opened
}

// stop ends a watch and forgets it. The caller holds the lock.
func (k *kind) stop(running **watch) {
	if *running != nil {
		(*running).cancel()
		*running = nil
		k.open--
	}
}

func (v *watch) ended() {
	v.watcher.mu.Lock()
	defer v.watcher.mu.Unlock()
	v.watcher.running--
}

func (v *watch) listWatch() cache.ListerWatcher {
	var client metadata.ResourceInterface = v.watcher.cfg.Client.Resource(v.kind.resource)
	if v.namespace != "" {
		client = v.watcher.cfg.Client.Resource(v.kind.resource).Namespace(v.namespace)
	}
	narrowed := func(options *metav1.ListOptions) {
		if v.name != "" {
			options.FieldSelector = fields.OneTermEqualSelector("metadata.name", v.name).String()
		}
	}
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			narrowed(&options)
			list, err := client.List(ctx, options)
			if err == nil {
				for i := range list.Items {
					list.Items[i] = *bare(&list.Items[i])
				}
			}
			return list, v.failed(ctx, err)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			narrowed(&options)
			changes, err := client.Watch(ctx, options)
			return changes, v.failed(ctx, err)
		},
	}, v.watcher.cfg.Client)
}

// bare returns of an object what is needed of it: a list of many that are not ours must not cost what they hold.
func bare(o *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: o.TypeMeta, ObjectMeta: metav1.ObjectMeta{
		Namespace: o.Namespace, Name: o.Name, ResourceVersion: o.ResourceVersion,
	}}
}

// Transformer makes the reflector gather a list of bare objects.
func (v *watch) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		if listed, ok := obj.(*metav1.PartialObjectMetadata); ok {
			return bare(listed), nil
		}
		return obj, nil
	}
}

// failed takes note of a failed request: what is known may be old from now on, and what may not be watched as a whole is
// watched in parts. It returns the error for the reflector.
func (v *watch) failed(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	w, k := v.watcher, v.kind
	w.mu.Lock()
	defer w.mu.Unlock()
	v.synced = false
	for _, known := range v.covered() {
		known.known = false
	}
	if !v.logged {
		v.logged = true
		w.cfg.Logger.WarnContext(ctx, "cannot watch what was applied; it is polled until that works",
			"resource", k.resource.GroupResource().String(), "namespace", v.namespace, "name", v.name, "err", err)
	}
	if !apierrors.IsForbidden(err) {
		return err
	}
	s := k.scopes[v.namespace]
	switch {
	case k.wide == v:
		k.forbidden = true
		k.stop(&k.wide)
		w.arrangeAll(k)
	case s != nil && s.wide == v:
		s.forbidden = true
		k.stop(&s.wide)
		w.arrange(k, v.namespace)
	}
	return err
}

// covered goes through all objects that are heard of by this watch. The caller holds the lock.
func (v *watch) covered() iter.Seq2[place, *object] {
	return func(yield func(place, *object) bool) {
		for namespace, s := range v.kind.scopes {
			for name, known := range s.objects {
				if v.kind.watchOf(s, known) == v && !yield(place{namespace, name}, known) {
					return
				}
			}
		}
	}
}

// place is where an object of a kind is.
type place struct{ namespace, name string }

// Add takes in an object that came.
func (v *watch) Add(obj any) error { return v.changed(obj, false) }

// Update takes in an object that changed.
func (v *watch) Update(obj any) error { return v.changed(obj, false) }

// Delete takes in an object that went.
func (v *watch) Delete(obj any) error { return v.changed(obj, true) }

// Resync does nothing: there is no period.
func (v *watch) Resync() error { return nil }

func (v *watch) changed(obj any, gone bool) error {
	changed, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return fmt.Errorf("the watch of %s got a %T", v.kind.resource, obj)
	}
	version := changed.ResourceVersion
	if gone {
		version = ""
	}
	v.watcher.mu.Lock()
	var owners []string
	if s, ok := v.kind.scopes[changed.Namespace]; ok {
		if known, ok := s.objects[changed.Name]; ok && v.kind.watchOf(s, known) == v {
			owners = known.seen(version)
		}
		if whole, ok := s.objects[""]; ok && v.kind.watchOf(s, whole) == v {
			owners = slices.AppendSeq(owners, maps.Keys(whole.owners))
		}
	}
	v.watcher.mu.Unlock()
	v.watcher.tell(owners)
	return nil
}

// Replace takes in a whole list: what is not in it is not there.
func (v *watch) Replace(list []any, _ string) error {
	w := v.watcher
	w.mu.Lock()
	versions := map[place]string{}
	for _, item := range list {
		listed, ok := item.(*metav1.PartialObjectMetadata)
		if !ok {
			continue
		}
		if s, ok := v.kind.scopes[listed.Namespace]; ok && s.objects[listed.Name] != nil {
			versions[place{listed.Namespace, listed.Name}] = listed.ResourceVersion
		}
	}
	v.synced, v.logged = true, false
	var owners []string
	for at, known := range v.covered() {
		if at.name == "" {
			owners = slices.AppendSeq(owners, maps.Keys(known.owners))
			continue
		}
		owners = append(owners, known.seen(versions[at])...)
	}
	w.mu.Unlock()
	w.tell(owners)
	return nil
}
