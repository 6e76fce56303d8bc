// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/server/scheduling"
)

const (
	// gather is how long a placement waits for more changes that concern it.
	gather = 50 * time.Millisecond
	// portion is what expressions may cost at a time, some hundredth of a second. The
	// last of them may cost as much again as one may at all, a tenth to a quarter
	// of a second, at worst five: others wait no longer for a placement that costs more.
	portion = 100_000
	// turns is how long a placement that had its portion lets others go first.
	turns = 10 * time.Millisecond
	// scorePoll is how often a missing kind of scores is looked for.
	scorePoll = 5 * time.Second
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// feed keeps a World up to date with a cache, and asks for those placements whose
// choice may differ. It is a source.Source.
type feed struct {
	cache  cache.Cache
	mapper meta.RESTMapper

	mu         sync.Mutex // of all below
	world      *scheduling.World
	placements map[types.NamespacedName]*clusterv1beta1.Placement
	grouped    map[types.NamespacedName]bool // those with named decision groups
	queue      queue
	following  []toolscache.ResourceEventHandlerRegistration
	scores     bool // they are followed

	started chan struct{}
}

func newFeed(objects cache.Cache, mapper meta.RESTMapper, world *scheduling.World) *feed {
	return &feed{
		cache: objects, mapper: mapper, world: world, placements: map[types.NamespacedName]*clusterv1beta1.Placement{},
		grouped: map[types.NamespacedName]bool{}, started: make(chan struct{}),
	}
}

// kind is a kind that is followed: what to do with an object that is there, and
// with one that is gone.
type kind struct {
	object      client.Object
	put, remove func(client.Object)
}

func of[T client.Object](object T, put, remove func(T)) kind {
	cast := func(do func(T)) func(client.Object) {
		return func(o client.Object) {
			if one, ok := o.(T); ok {
				do(one)
			}
		}
	}
	return kind{object: object, put: cast(put), remove: cast(remove)}
}

// kinds are all that are always there; scores may come later.
func (f *feed) kinds() []kind {
	w := f.world
	return []kind{
		of(&clusterv1beta2.ManagedClusterSet{}, w.PutSet, func(o *clusterv1beta2.ManagedClusterSet) { w.RemoveSet(o.Name) }),
		of(&clusterv1beta2.ManagedClusterSetBinding{}, w.PutBinding, func(o *clusterv1beta2.ManagedClusterSetBinding) { w.RemoveBinding(o.Namespace, o.Name) }),
		of(&clusterv1.ManagedCluster{}, w.PutCluster, func(o *clusterv1.ManagedCluster) { w.RemoveCluster(o.Name) }),
		of(&clusterv1beta1.PlacementDecision{}, f.putDecision, f.removeDecision),
		of(&clusterv1beta1.Placement{}, f.putPlacement, f.removePlacement),
	}
}

func (f *feed) scoreKind() kind {
	return of(&clusterv1alpha1.AddOnPlacementScore{}, f.world.PutScore, func(o *clusterv1alpha1.AddOnPlacementScore) { f.world.RemoveScore(o.Namespace, o.Name) })
}

// putPlacement asks for it whatever has changed: its status may have been edited.
func (f *feed) putPlacement(o *clusterv1beta1.Placement) {
	key := client.ObjectKeyFromObject(o)
	f.placements[key] = o
	if len(o.Spec.DecisionStrategy.GroupStrategy.DecisionGroups) > 0 {
		f.grouped[key] = true
	} else {
		delete(f.grouped, key)
	}
	f.world.PutPlacement(o)
	f.ask(key)
}

func (f *feed) removePlacement(o *clusterv1beta1.Placement) {
	key := client.ObjectKeyFromObject(o)
	delete(f.placements, key)
	delete(f.grouped, key)
	f.world.RemovePlacement(key)
}

// putDecision asks for its placement whatever has changed: labels and owner count
// for others, if not for the choice (PL-45).
func (f *feed) putDecision(o *clusterv1beta1.PlacementDecision) {
	f.world.PutDecision(o)
	f.askOwner(o)
}

func (f *feed) removeDecision(o *clusterv1beta1.PlacementDecision) {
	f.world.RemoveDecision(client.ObjectKeyFromObject(o))
	f.askOwner(o)
}

// compare asks for what the World does not think of: a decision may have been
// another placement's, and a cluster may change its decision group.
func (f *feed) compare(before, after any) {
	switch b := before.(type) {
	case *clusterv1beta1.PlacementDecision:
		f.askOwner(b)
	case *clusterv1.ManagedCluster:
		a, ok := after.(*clusterv1.ManagedCluster)
		if ok && (!maps.Equal(a.Labels, b.Labels) || !slices.Equal(a.Status.ClusterClaims, b.Status.ClusterClaims)) {
			for key := range f.grouped {
				f.ask(key)
			}
		}
	}
}

func (f *feed) askOwner(o *clusterv1beta1.PlacementDecision) {
	if name := o.Labels[clusterv1beta1.PlacementLabel]; name != "" {
		f.ask(types.NamespacedName{Namespace: o.Namespace, Name: name})
	}
	if controller := metav1.GetControllerOf(o); controller != nil && controller.Kind == "Placement" {
		f.ask(types.NamespacedName{Namespace: o.Namespace, Name: controller.Name})
	}
}

func (f *feed) ask(key types.NamespacedName) {
	f.queue.AddAfter(reconcile.Request{NamespacedName: key}, gather)
}

// do has the World learn of one object.
func (f *feed) do(learn func(client.Object), object any) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	o, ok := object.(client.Object)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	learn(o)
	for _, key := range f.world.Dirty() {
		f.ask(key)
	}
}

// Start implements source.Source. ctx is that of the controller.
func (f *feed) Start(ctx context.Context, q queue) error {
	f.mu.Lock()
	f.queue = q
	f.mu.Unlock()
	kinds := f.kinds()
	served, err := f.scoresServed()
	if err != nil {
		return err
	}
	if served {
		kinds = append(kinds, f.scoreKind())
	}
	for _, k := range kinds {
		if err := f.follow(ctx, k); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.scores = served
	f.mu.Unlock()
	close(f.started)
	return nil
}

var _ fmt.Stringer = (*feed)(nil)

// String is what the manager prints of this source, and reads while others write it:
// so it is a name, and not the content.
func (*feed) String() string { return "what placements choose by" }

// follow has the World learn of all objects of a kind until ctx ends.
func (f *feed) follow(ctx context.Context, k kind) error {
	informer, err := f.cache.GetInformer(ctx, k.object, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching %T: %w", k.object, err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { f.do(k.put, o) },
		UpdateFunc: func(before, after any) {
			f.do(func(o client.Object) {
				f.compare(before, after)
				k.put(o)
			}, after)
		},
		DeleteFunc: func(o any) { f.do(k.remove, o) },
	})
	if err != nil {
		return fmt.Errorf("watching %T: %w", k.object, err)
	}
	context.AfterFunc(ctx, func() { _ = informer.RemoveEventHandler(registration) }) // the cache outlives the controller
	f.mu.Lock()
	defer f.mu.Unlock()
	f.following = append(f.following, registration)
	return nil
}

// await returns when the World has every object that there was at the start: who
// decides earlier takes away the clusters that it has not seen yet. (It is no
// source.SyncingSource, since controllers that are added to a manager that runs
// already do not wait for those.)
func (f *feed) await(ctx context.Context) error {
	select {
	case <-f.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	f.mu.Lock()
	following := slices.Clone(f.following)
	f.mu.Unlock()
	for _, registration := range following {
		select {
		case <-registration.HasSyncedChecker().Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (f *feed) scoresServed() (bool, error) {
	_, err := f.mapper.RESTMapping(schema.GroupKind{Group: clusterv1alpha1.GroupName, Kind: "AddOnPlacementScore"}, clusterv1alpha1.GroupVersion.Version)
	if err == nil || meta.IsNoMatchError(err) {
		return err == nil, nil
	}
	return false, fmt.Errorf("asking the apiserver for the kind AddOnPlacementScore: %w", err)
}

// awaitScores follows AddOnPlacementScores that were not served at the start, once
// they are.
func (f *feed) awaitScores(ctx context.Context) error {
	select {
	case <-f.started:
	case <-ctx.Done():
		return nil
	}
	f.mu.Lock()
	there := f.scores
	f.mu.Unlock()
	ticker := time.NewTicker(scorePoll)
	defer ticker.Stop()
	for !there {
		if there, _ = f.scoresServed(); there { // an apiserver that is away is asked again
			return f.follow(ctx, f.scoreKind())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
	return nil
}

// decided is a Placement as the World has it and what to do about it.
type decided struct {
	placement  *clusterv1beta1.Placement
	outcome    scheduling.Outcome
	unfinished bool // to be gone on with: there is no outcome yet
}

// placement is the newest that is known, or nil.
func (f *feed) placement(key types.NamespacedName) *clusterv1beta1.Placement {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.placements[key]
}

// decide chooses. ok is false where nothing is to be decided: there is no such
// Placement, or skip says so.
func (f *feed) decide(key types.NamespacedName, now time.Time, skip func(*clusterv1beta1.Placement) bool) (decided, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	placement := f.placements[key]
	if placement == nil || skip(placement) {
		return decided{}, false
	}
	if !f.world.Filter(key, now, portion) {
		return decided{placement: placement, unfinished: true}, true
	}
	outcome, ok := f.world.Decide(key, now)
	return decided{placement: placement, outcome: outcome}, ok
}
