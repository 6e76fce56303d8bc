// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
)

// narrow is the number of objects of one resource in one namespace up to which each gets its own watch, broad the number of
// watches of one resource up to which its namespaces are watched apart. A watch costs agent and apiserver some 50 KiB each.
const (
	narrow = 4
	broad  = 50
)

// DefaultLimit is how many watches are opened at most if Config does not say.
const DefaultLimit = 2000

// Object names one object on the spoke; Namespace is empty for a cluster-scoped one. Without a Name it stands for whatever there
// is of the resource in the namespace: its owner is told of each change.
type Object struct {
	Resource        schema.GroupVersionResource
	Namespace, Name string
}

// Config is what a Watcher needs.
type Config struct {
	Client metadata.Interface
	// Changed is called with the name of each owner of an object that changed, came or went. It must not block, and it may be
	// called for changes that the owner made itself.
	Changed func(owner string)
	Logger  *slog.Logger
	// Limit bounds the number of watches; 0 is DefaultLimit.
	Limit int
}

// Watcher watches the objects of owners. All methods may be called concurrently.
type Watcher struct {
	cfg Config

	mu      sync.Mutex
	run     func(task func(context.Context)) context.CancelFunc // starts what Run waits for; nil before Run and after it
	running int
	kinds   map[schema.GroupVersionResource]*kind
	owned   map[string]map[Object]struct{}
}

// kind is one resource in all namespaces.
type kind struct {
	resource schema.GroupVersionResource
	scopes   map[string]*scope // by namespace
	open     int               // watches of it that are wanted
	// wide is the watch of all namespaces, if there is one; forbidden says that they may not be watched.
	wide      *watch
	forbidden bool
}

// scope is one resource in one namespace.
type scope struct {
	objects map[string]*object
	// wide is the watch of the whole namespace, if there is one; forbidden says that it may not be watched.
	wide      *watch
	forbidden bool
}

// object is what is known of one object.
type object struct {
	owners map[string]struct{}
	watch  *watch
	// version is the last resourceVersion seen, empty if the object is not there. It means nothing unless known is true.
	version string
	known   bool
}

// New returns a watcher that watches nothing until Run is called.
func New(cfg Config) *Watcher {
	if cfg.Limit == 0 {
		cfg.Limit = DefaultLimit
	}
	return &Watcher{cfg: cfg, kinds: map[schema.GroupVersionResource]*kind{}, owned: map[string]map[Object]struct{}{}}
}

// Run keeps the watches going until ctx ends, and returns when all have stopped.
func (w *Watcher) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	w.mu.Lock()
	if w.run != nil {
		w.mu.Unlock()
		return errors.New("the watcher runs already")
	}
	w.run = func(task func(context.Context)) context.CancelFunc {
		ctx, cancel := context.WithCancel(ctx)
		group.Go(func() error {
			defer cancel()
			task(ctx)
			return nil
		})
		return cancel
	}
	for _, k := range w.kinds {
		w.arrangeAll(k)
	}
	w.mu.Unlock()

	<-ctx.Done()
	w.mu.Lock()
	w.run = nil
	w.mu.Unlock()
	return group.Wait()
}

// Watch makes objects the ones that owner wants to hear of, instead of those it named before. It starts and stops watches as
// needed and does not wait for them.
func (w *Watcher) Watch(owner string, objects []Object) {
	want := make(map[Object]struct{}, len(objects))
	for _, o := range objects {
		want[o] = struct{}{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.owned[owner]
	if maps.Equal(before, want) {
		return
	}
	type place struct {
		resource  schema.GroupVersionResource
		namespace string
	}
	touched := map[place]struct{}{}
	for o := range want {
		if _, ok := before[o]; !ok {
			w.add(owner, o)
			touched[place{o.Resource, o.Namespace}] = struct{}{}
		}
	}
	for o := range before {
		if _, ok := want[o]; !ok {
			w.remove(owner, o)
			touched[place{o.Resource, o.Namespace}] = struct{}{}
		}
	}
	w.owned[owner] = want
	if len(want) == 0 {
		delete(w.owned, owner)
	}
	for at := range touched {
		if k, ok := w.kinds[at.resource]; ok && k.scopes[at.namespace] != nil {
			w.arrange(k, at.namespace)
		}
	}
}

func (w *Watcher) add(owner string, o Object) {
	k, ok := w.kinds[o.Resource]
	if !ok {
		k = &kind{resource: o.Resource, scopes: map[string]*scope{}}
		w.kinds[o.Resource] = k
	}
	s, ok := k.scopes[o.Namespace]
	if !ok {
		s = &scope{objects: map[string]*object{}}
		k.scopes[o.Namespace] = s
	}
	known, ok := s.objects[o.Name]
	if !ok {
		known = &object{owners: map[string]struct{}{}}
		s.objects[o.Name] = known
	}
	known.owners[owner] = struct{}{}
}

// remove forgets the object when its last owner goes, the scope when its last object goes, and the kind with its last scope.
func (w *Watcher) remove(owner string, o Object) {
	k := w.kinds[o.Resource]
	s := k.scopes[o.Namespace]
	known := s.objects[o.Name]
	delete(known.owners, owner)
	if len(known.owners) > 0 {
		return
	}
	k.stop(&known.watch)
	delete(s.objects, o.Name)
	if len(s.objects) > 0 {
		return
	}
	k.stop(&s.wide)
	delete(k.scopes, o.Namespace)
	if len(k.scopes) == 0 {
		k.stop(&k.wide)
		delete(w.kinds, o.Resource)
	}
}

// arrange opens the watches that a scope lacks and closes those that are not needed. What became wide stays so until it is
// empty: going back and forth would cost more than it saves.
func (w *Watcher) arrange(k *kind, namespace string) {
	s := k.scopes[namespace]
	_, whole := s.objects[""]
	switch {
	case w.run == nil, k.wide != nil:
		return
	case s.wide == nil && (whole || len(s.objects) > narrow) && !s.forbidden:
		if s.wide = w.start(k, namespace, ""); s.wide != nil {
			for _, known := range s.objects {
				k.stop(&known.watch)
			}
		}
	}
	if s.wide == nil {
		for _, name := range slices.Sorted(maps.Keys(s.objects)) {
			if known := s.objects[name]; known.watch == nil && name != "" {
				known.watch = w.start(k, namespace, name)
			}
		}
	}
	if namespace != "" && k.open > broad && !k.forbidden {
		w.widen(k)
	}
}

func (w *Watcher) arrangeAll(k *kind) {
	for _, namespace := range slices.Sorted(maps.Keys(k.scopes)) {
		w.arrange(k, namespace)
	}
}

// widen puts one watch of all namespaces in the place of all others of a kind.
func (w *Watcher) widen(k *kind) {
	for _, s := range k.scopes {
		k.stop(&s.wide)
		for _, known := range s.objects {
			k.stop(&known.watch)
		}
	}
	k.wide = w.open(k, "", "")
}

// Version returns the newest resourceVersion of o that the watcher has seen, empty if o is not there. It is false if o is not
// watched, or not yet, or not reliably.
func (w *Watcher) Version(o Object) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, known := w.find(o)
	if known == nil || !known.known {
		return "", false
	}
	return known.version, true
}

// find returns what is known of o and the watch that it hears of it by, nil if there is none. The caller holds the lock.
func (w *Watcher) find(o Object) (*watch, *object) {
	k, ok := w.kinds[o.Resource]
	if !ok {
		return nil, nil
	}
	s, ok := k.scopes[o.Namespace]
	if !ok {
		return nil, nil
	}
	known, ok := s.objects[o.Name]
	if !ok {
		return nil, nil
	}
	return k.watchOf(s, known), known
}

// Read tells the watcher the resourceVersion that the caller read of o, empty if it was not there, after o was given to Watch.
// It counts only while the watcher knows nothing of its own, which is so for objects that came to a watch that was running.
func (w *Watcher) Read(o Object, version string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, known := w.find(o)
	if v != nil && v.name == "" && v.synced && !known.known {
		known.known, known.version = true, version
	}
}

// seen takes in what a watch says of one object and returns the owners to be told.
func (o *object) seen(version string) []string {
	if o.known && o.version == version {
		return nil
	}
	o.known, o.version = true, version
	return slices.Collect(maps.Keys(o.owners))
}

// watchOf returns the watch of an object: that of its kind, its namespace, or its own.
func (k *kind) watchOf(s *scope, o *object) *watch {
	switch {
	case k.wide != nil:
		return k.wide
	case s.wide != nil:
		return s.wide
	}
	return o.watch
}

func (w *Watcher) tell(owners []string) {
	for _, owner := range owners {
		w.cfg.Changed(owner)
	}
}
