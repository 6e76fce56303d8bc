// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"context"
	"fmt"

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

// watch is one list-and-watch, of one object or of a namespace. It is the store that client-go's reflector fills, and keeps
// nothing but resourceVersions of our own objects, in the scope.
type watch struct {
	watcher *Watcher
	key     scopeKey
	name    string // empty for the whole namespace
	cancel  context.CancelFunc
	// synced says that a list was taken in and the watch did not fail since. logged keeps a lasting failure to one line.
	synced, logged bool
}

// start opens a watch, or returns nil when the limit is reached. The caller holds the lock.
func (w *Watcher) start(key scopeKey, name string) *watch {
	if w.running >= w.cfg.Limit {
		return nil
	}
	opened := &watch{watcher: w, key: key, name: name}
	quiet := logr.Discard() // failures are logged by failed, once
	reflector := cache.NewReflectorWithOptions(opened.listWatch(), &metav1.PartialObjectMetadata{}, opened, cache.ReflectorOptions{
		Name: fmt.Sprintf("%s/%s/%s", key.resource.GroupResource(), key.namespace, name), Logger: &quiet,
	})
	w.running++
	opened.cancel = w.run(func(ctx context.Context) {
		defer opened.ended()
		reflector.RunWithContext(klog.NewContext(ctx, quiet))
	})
	return opened
}

// stop ends a watch and forgets it. The caller holds the lock.
func (w *Watcher) stop(running **watch) {
	if *running != nil {
		(*running).cancel()
		*running = nil
	}
}

func (v *watch) ended() {
	v.watcher.mu.Lock()
	defer v.watcher.mu.Unlock()
	v.watcher.running--
}

func (v *watch) listWatch() cache.ListerWatcher {
	var client metadata.ResourceInterface = v.watcher.cfg.Client.Resource(v.key.resource)
	if v.key.namespace != "" {
		client = v.watcher.cfg.Client.Resource(v.key.resource).Namespace(v.key.namespace)
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
			return list, v.failed(ctx, err)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			narrowed(&options)
			changes, err := client.Watch(ctx, options)
			return changes, v.failed(ctx, err)
		},
	}, v.watcher.cfg.Client)
}

// failed takes note of a failed request: what is known may be old from now on, and a namespace that may not be watched is
// watched object by object. It returns the error for the reflector.
func (v *watch) failed(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	w := v.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.scopes[v.key]
	if !ok {
		return err
	}
	v.synced = false
	for name, known := range s.objects {
		if s.current(v, name) {
			known.known = false
		}
	}
	if !v.logged {
		v.logged = true
		w.cfg.Logger.WarnContext(ctx, "cannot watch what was applied; it is polled until that works",
			"resource", v.key.resource.GroupResource().String(), "namespace", v.key.namespace, "name", v.name, "err", err)
	}
	if s.wide == v && apierrors.IsForbidden(err) {
		s.forbidden = true
		w.stop(&s.wide)
		w.arrange(v.key, s)
	}
	return err
}

// Add takes in an object that came.
func (v *watch) Add(obj any) error { return v.changed(obj, false) }

// Update takes in an object that changed.
func (v *watch) Update(obj any) error { return v.changed(obj, false) }

// Delete takes in an object that went.
func (v *watch) Delete(obj any) error { return v.changed(obj, true) }

// Resync does nothing: there is no period.
func (v *watch) Resync() error { return nil }

func (v *watch) changed(obj any, gone bool) error {
	metadata, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return fmt.Errorf("the watch of %s got a %T", v.key.resource, obj)
	}
	version := metadata.ResourceVersion
	if gone {
		version = ""
	}
	w := v.watcher
	w.mu.Lock()
	var owners []string
	if s, ok := w.scopes[v.key]; ok && s.current(v, metadata.Name) {
		owners = s.seen(metadata.Name, version)
	}
	w.mu.Unlock()
	w.tell(owners)
	return nil
}

// Replace takes in a whole list: what is not in it is not there.
func (v *watch) Replace(list []any, _ string) error {
	versions := make(map[string]string, len(list))
	for _, item := range list {
		if metadata, ok := item.(*metav1.PartialObjectMetadata); ok {
			versions[metadata.Name] = metadata.ResourceVersion
		}
	}
	w := v.watcher
	w.mu.Lock()
	v.synced, v.logged = true, false
	var owners []string
	if s, ok := w.scopes[v.key]; ok {
		for name := range s.objects {
			if s.current(v, name) {
				owners = append(owners, s.seen(name, versions[name])...)
			}
		}
	}
	w.mu.Unlock()
	w.tell(owners)
	return nil
}
