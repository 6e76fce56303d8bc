// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"fairlead.dev/fairlead/server/rpc/person"
)

// followFor is how long one watch of the apiserver lasts; the next one asks it
// again whether the caller may.
const followFor = 5 * time.Minute

// snapshotPage bounds the objects that a watch holds at a time: a work can have
// a megabyte.
const snapshotPage = 100

// follower tells follow what to watch and how to report it.
type follower struct {
	resource dynamic.ResourceInterface
	selector metav1.ListOptions
	upsert   func(*unstructured.Unstructured) error
	removed  func(*unstructured.Unstructured) error
	synced   func(resumeToken string) error
	reset    func(reason string) error
}

// follow serves the one shape of all watches over a Kubernetes resource, with
// the caller's own credentials: snapshot, bookmark, changes, and a reset with a
// new snapshot when the apiserver's watch cannot go on. Nothing is kept per
// object.
func (s *Service) follow(ctx context.Context, f follower) error { return s.watching(ctx, f.run) }

func (f follower) run(ctx context.Context) error {
	for first := true; ; first = false {
		if !first {
			if err := f.reset("the hub's watch of its apiserver had to begin anew"); err != nil {
				return err
			}
		}
		version, err := f.snapshot(ctx)
		if apierrors.IsResourceExpired(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := f.synced(version); err != nil {
			return err
		}
		if err := f.changes(ctx, version); err != nil {
			return err
		}
	}
}

// snapshot reports all that is there, in pages that fit into memory.
func (f follower) snapshot(ctx context.Context) (version string, err error) {
	options := f.selector
	options.Limit = snapshotPage
	for {
		page, err := f.resource.List(ctx, options)
		if apierrors.IsResourceExpired(err) {
			return "", err
		}
		if err != nil {
			return "", kubernetesError(err, "listing what to watch")
		}
		for i := range page.Items {
			if err := f.upsert(&page.Items[i]); err != nil {
				return "", err
			}
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return page.GetResourceVersion(), nil
		}
	}
}

// changes returns nil when a new snapshot is needed.
func (f follower) changes(ctx context.Context, version string) error {
	seconds := int64(followFor / time.Second)
	for {
		options := f.selector
		options.ResourceVersion, options.AllowWatchBookmarks = version, true
		options.TimeoutSeconds = &seconds
		w, err := f.resource.Watch(ctx, options)
		switch {
		case apierrors.IsResourceExpired(err) || apierrors.IsGone(err):
			return nil
		case err != nil:
			return kubernetesError(err, "watching")
		}
		expired, err := f.drain(ctx, w, &version)
		if err != nil || expired {
			return err
		}
		if err := person.Pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// drain passes on what one watch brings until it ends; expired asks for a new
// snapshot.
func (f follower) drain(ctx context.Context, w watch.Interface, version *string) (expired bool, err error) {
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case event, ok := <-w.ResultChan():
			if !ok {
				return false, nil
			}
			object, ok := event.Object.(*unstructured.Unstructured)
			if !ok {
				return true, nil
			}
			switch event.Type {
			case watch.Added, watch.Modified:
				err = f.upsert(object)
			case watch.Deleted:
				err = f.removed(object)
			case watch.Error:
				return true, nil
			case watch.Bookmark: // only the version moves
			}
			if err != nil {
				return false, err
			}
			*version = object.GetResourceVersion()
		}
	}
}
