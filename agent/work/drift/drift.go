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

// narrow is the number of objects of one resource in one namespace up to which each gets its own watch.
const narrow = 4

// DefaultLimit is how many watches are opened at most if Config does not say.
const DefaultLimit = 2000

// Object names one object on the spoke; Namespace is empty for a cluster-scoped one.
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
	scopes  map[scopeKey]*scope
	owned   map[string]map[Object]struct{}
}

type scopeKey struct {
	resource  schema.GroupVersionResource
	namespace string
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
	return &Watcher{cfg: cfg, scopes: map[scopeKey]*scope{}, owned: map[string]map[Object]struct{}{}}
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
	for key, s := range w.scopes {
		w.arrange(key, s)
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
	touched := map[scopeKey]struct{}{}
	for o := range want {
		if _, ok := before[o]; !ok {
			w.add(owner, o)
			touched[keyOf(o)] = struct{}{}
		}
	}
	for o := range before {
		if _, ok := want[o]; !ok {
			w.remove(owner, o)
			touched[keyOf(o)] = struct{}{}
		}
	}
	w.owned[owner] = want
	if len(want) == 0 {
		delete(w.owned, owner)
	}
	for key := range touched {
		if s, ok := w.scopes[key]; ok {
			w.arrange(key, s)
		}
	}
}

func keyOf(o Object) scopeKey { return scopeKey{resource: o.Resource, namespace: o.Namespace} }

func (w *Watcher) add(owner string, o Object) {
	key := keyOf(o)
	s, ok := w.scopes[key]
	if !ok {
		s = &scope{objects: map[string]*object{}}
		w.scopes[key] = s
	}
	known, ok := s.objects[o.Name]
	if !ok {
		known = &object{owners: map[string]struct{}{}}
		s.objects[o.Name] = known
	}
	known.owners[owner] = struct{}{}
}

// remove forgets the object when its last owner goes, and the scope when its last object goes.
func (w *Watcher) remove(owner string, o Object) {
	s := w.scopes[keyOf(o)]
	known := s.objects[o.Name]
	delete(known.owners, owner)
	if len(known.owners) > 0 {
		return
	}
	w.stop(&known.watch)
	delete(s.objects, o.Name)
	if len(s.objects) == 0 {
		w.stop(&s.wide)
		delete(w.scopes, keyOf(o))
	}
}

// arrange opens the watches that a scope lacks and closes those that it does not need. A scope that became wide stays so until
// it is empty: going back and forth would cost more than it saves.
func (w *Watcher) arrange(key scopeKey, s *scope) {
	if w.run == nil {
		return
	}
	if s.wide == nil && len(s.objects) > narrow && !s.forbidden {
		s.wide = w.start(key, "")
	}
	if s.wide != nil {
		for _, known := range s.objects {
			w.stop(&known.watch)
		}
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.objects)) {
		if known := s.objects[name]; known.watch == nil {
			known.watch = w.start(key, name)
		}
	}
}

// Version returns the newest resourceVersion of o that the watcher has seen, empty if o is not there. It is false if o is not
// watched, or not yet, or not reliably.
func (w *Watcher) Version(o Object) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.scopes[keyOf(o)]
	if !ok {
		return "", false
	}
	known, ok := s.objects[o.Name]
	if !ok || !known.known {
		return "", false
	}
	return known.version, true
}

// Read tells the watcher the resourceVersion that the caller read of o, empty if it was not there, after o was given to Watch.
// It counts only while the watcher knows nothing of its own, which is so for objects that came to a watch that was running.
func (w *Watcher) Read(o Object, version string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.scopes[keyOf(o)]
	if !ok || s.wide == nil || !s.wide.synced {
		return
	}
	if known, ok := s.objects[o.Name]; ok && !known.known {
		known.known, known.version = true, version
	}
}

// seen takes in what a watch says of one object and returns the owners to be told.
func (s *scope) seen(name, version string) []string {
	known, ok := s.objects[name]
	if !ok || known.known && known.version == version {
		return nil
	}
	known.known, known.version = true, version
	return slices.Collect(maps.Keys(known.owners))
}

// current reports whether v still is the watch for the object called name.
func (s *scope) current(v *watch, name string) bool {
	if s.wide != nil {
		return s.wide == v
	}
	known, ok := s.objects[name]
	return ok && known.watch == v
}

func (w *Watcher) tell(owners []string) {
	for _, owner := range owners {
		w.cfg.Changed(owner)
	}
}
