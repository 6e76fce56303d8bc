// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/wire"
)

// write is one work to make, to patch, or to delete.
type write struct {
	cluster, placement string
	// work is what there is; nil makes one.
	work *Work
	// spec: the work gets the template, not only its labels.
	spec   bool
	remove bool
}

// outcome is what came of a round's writes.
type outcome struct {
	// more: there is more to write.
	more bool
	// errors are by cluster.
	errors map[string]error
}

// errMoved is no fault: the work is another by now, which a new round looks at.
var errMoved = errors.New("the work has changed meanwhile")

// write does the first of the writes, and takes note of what is to be waited for.
func (o *round) write(ctx context.Context, writes []write) outcome {
	slices.SortStableFunc(writes, func(a, b write) int { return o.priority(a) - o.priority(b) })
	out := outcome{errors: map[string]error{}, more: len(writes) > batch}
	writes = writes[:min(len(writes), batch)]
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(parallel)
	done := 0
	for _, w := range writes {
		group.Go(func() error {
			version, err := o.writeOne(ctx, w)
			mu.Lock()
			defer mu.Unlock()
			delete(o.note.failed, w.cluster)
			switch {
			case errors.Is(err, errMoved):
				out.more = true
			case err != nil:
				out.errors[w.cluster], o.note.failed[w.cluster] = err, true
				if w.spec {
					o.block(w.cluster, err)
				}
			default:
				done++
				if w.spec {
					delete(o.note.blocked, w.cluster)
				}
				o.note.written, o.note.at = max(o.note.written, version), o.cfg.Clock.Now()
			}
			return nil
		})
	}
	_ = group.Wait() // errors are by cluster
	for cluster, b := range o.note.blocked {
		if b.err != nil {
			out.errors[cluster] = b.err // also where there was no place to try again
		}
	}
	if len(writes) > 0 {
		o.cfg.Log.InfoContext(ctx, "works of a replica set written", "set", o.key(), "written", done, "failed", len(out.errors), "more", out.more, "error", out.err())
	}
	return out
}

// priority lets writes that failed before not keep the others out, and deletes
// come last.
func (o *round) priority(w write) (n int) {
	if o.note.failed[w.cluster] {
		n++
	}
	if w.remove {
		n += 2
	}
	return n
}

// err names some of the errors; nil for none.
func (out outcome) err() error {
	const most = 3
	clusters := make([]string, 0, len(out.errors))
	for cluster := range out.errors {
		clusters = append(clusters, cluster)
	}
	if len(clusters) == 0 {
		return nil
	}
	slices.Sort(clusters)
	var words []string
	for _, cluster := range clusters[:min(most, len(clusters))] {
		words = append(words, fmt.Sprintf("cluster %q: %v", cluster, out.errors[cluster]))
	}
	if len(clusters) > most {
		words = append(words, fmt.Sprintf("and %d more clusters", len(clusters)-most))
	}
	return errors.New(strings.Join(words, "; "))
}

// writeOne does one write and returns the resourceVersion that it led to; 0 if
// nothing needs to be waited for.
func (o *round) writeOne(ctx context.Context, w write) (uint64, error) {
	switch {
	case w.remove:
		return 0, o.drop(ctx, types.NamespacedName{Namespace: w.cluster, Name: w.work.Name}, types.UID(w.work.UID), o.label)
	case w.work == nil:
		return o.create(ctx, w)
	default:
		return o.patch(ctx, w, types.NamespacedName{Namespace: w.cluster, Name: w.work.Name}, test("/metadata/uid", w.work.UID), test(labelPath(setLabel), o.label))
	}
}

// create makes a cluster's work (MH-07).
func (o *round) create(ctx context.Context, w write) (uint64, error) {
	work := &workv1.ManifestWork{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.cluster, Name: workName(o.key()), GenerateName: generateName(o.key()), Labels: labels(o.set, o.label, w.placement),
		},
		Spec: *o.set.Spec.ManifestWorkTemplate.DeepCopy(),
	}
	err := o.client.Create(ctx, work, client.FieldOwner(wire.ReplicaSetManager))
	if apierrors.IsAlreadyExists(err) {
		return o.exists(ctx, w, client.ObjectKeyFromObject(work))
	}
	if err != nil {
		return 0, err
	}
	return versionOf(work), nil
}

// exists is about a work that there is already: it is not known yet, had its label
// taken off, is being deleted without it, or is somebody else's. Nobody hears when
// one without the label is gone.
func (o *round) exists(ctx context.Context, w write, name types.NamespacedName) (uint64, error) {
	found := metadataOf(name)
	if err := o.live.Get(ctx, name, found); err != nil {
		return 0, moved(err)
	}
	label, has := found.Labels[setLabel]
	switch {
	case label == o.label:
		return versionOf(found), nil
	case found.DeletionTimestamp != nil:
		return 0, fmt.Errorf("the ManifestWork %q that there was is being deleted first", name.Name)
	case !has && found.GenerateName == generateName(o.key()): // MH-09
		return o.patch(ctx, w, name, test("/metadata/resourceVersion", found.ResourceVersion))
	default:
		return 0, fmt.Errorf("there is a ManifestWork %q already that is not of this replica set: delete it, or give the replica set another name", name.Name)
	}
}

// patch gives a work its labels, and the template if its turn has come. Without
// tests that hold it does nothing.
func (o *round) patch(ctx context.Context, w write, name types.NamespacedName, tests ...map[string]any) (uint64, error) {
	operations := tests
	wanted := labels(o.set, o.label, w.placement)
	if w.work == nil {
		operations = append(operations, map[string]any{"op": "add", "path": "/metadata/labels", "value": wanted})
	} else {
		for key, value := range wanted {
			operations = append(operations, map[string]any{"op": "add", "path": labelPath(key), "value": value})
		}
	}
	if w.spec {
		operations = append(operations, map[string]any{"op": "replace", "path": "/spec", "value": &o.set.Spec.ManifestWorkTemplate})
	}
	raw, err := json.Marshal(operations)
	if err != nil {
		return 0, fmt.Errorf("encoding a patch: %w", err)
	}
	patched := metadataOf(name)
	if err := o.client.Patch(ctx, patched, client.RawPatch(types.JSONPatchType, raw), client.FieldOwner(wire.ReplicaSetManager)); err != nil {
		return 0, moved(err)
	}
	return versionOf(patched), nil
}

func test(path, value string) map[string]any {
	return map[string]any{"op": "test", "path": path, "value": value}
}

func labelPath(key string) string { return "/metadata/labels/" + strings.ReplaceAll(key, "/", "~1") }

// drop deletes a work as it is now, if it is still that one and has the label.
func (r *reconciler) drop(ctx context.Context, name types.NamespacedName, uid types.UID, label string) error {
	found := metadataOf(name)
	if err := r.live.Get(ctx, name, found); err != nil {
		return client.IgnoreNotFound(err)
	}
	if found.UID != uid || found.Labels[setLabel] != label || found.DeletionTimestamp != nil {
		return nil
	}
	return r.delete(ctx, found)
}

// delete deletes a work exactly as it was read.
func (r *reconciler) delete(ctx context.Context, work *metav1.PartialObjectMetadata) error {
	uid, version := work.UID, work.ResourceVersion
	err := r.client.Delete(ctx, work, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return moved(err)
}

// moved is errMoved for an error that says so: a conflict, a work that is gone, or
// a test of a patch that does not hold.
func moved(err error) error {
	testFailed := apierrors.IsInvalid(err) && strings.Contains(err.Error(), "testing ")
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || testFailed {
		return errMoved
	}
	return err
}

func metadataOf(name types.NamespacedName) *metav1.PartialObjectMetadata {
	found := &metav1.PartialObjectMetadata{}
	found.SetGroupVersionKind(schema.GroupVersion(workv1.GroupVersion).WithKind("ManifestWork"))
	found.Namespace, found.Name = name.Namespace, name.Name
	return found
}

// versionOf is an object's resourceVersion as a number; 0 if it is none.
func versionOf(o client.Object) uint64 {
	version, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return version
}
