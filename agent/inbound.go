// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/store"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// inbound hands what the link received to the store. It implements link.Store
// and link.Hub.
type inbound struct {
	store  *store.Store
	hubID  *latch
	synced func() // all that the hub has is here; must not block; may be nil
}

// Snapshot implements link.Store.
func (in *inbound) Snapshot() link.Snapshot {
	s := in.store.Snapshot()
	return link.Snapshot{StoreEpoch: s.StoreEpoch, HubEpoch: s.HubEpoch, HighWater: s.HighWater, Entries: s.Entries}
}

// Put implements link.Store: what does not decode is refused before it is
// stored, so that the hub can show it.
func (in *inbound) Put(ctx context.Context, key wire.Key, rev wire.Revision, content []byte) error {
	check := checkWork
	if key.Kind == wire.KindClusterConfig {
		check = checkConfig
	}
	if err := check(key, rev, content); err != nil {
		return err
	}
	return in.store.Put(ctx, key, rev, content)
}

// Delete implements link.Store.
func (in *inbound) Delete(ctx context.Context, d link.Delete) (link.Verdict, error) {
	var verdict store.Verdict
	var err error
	if d.Orphan {
		verdict, err = in.store.Orphan(ctx, d.Key, d.Revision.UID, d.Batch)
	} else {
		verdict, err = in.store.Request(ctx, d.Key, d.Revision.UID, d.Revision.Generation)
	}
	switch verdict {
	case store.HeldBack:
		return link.DeleteHeld, err
	case store.OtherUID:
		return link.DeleteOtherUID, err
	case store.Stored, store.Unknown:
	}
	return link.DeleteStored, err
}

// Forget implements link.Store.
func (in *inbound) Forget(ctx context.Context, key wire.Key, uid string) error {
	return in.store.Forget(ctx, key, uid)
}

// Welcomed implements link.Hub.
func (in *inbound) Welcomed(ctx context.Context, w link.Welcome) error {
	err := in.store.Welcomed(ctx, store.Hub{ID: w.HubID, Epoch: w.HubEpoch, HighWater: w.HighWater, Grace: w.OrphanGrace})
	if err == nil {
		in.hubID.set(w.HubID)
	}
	return err
}

// Marked implements link.Hub.
func (in *inbound) Marked(mark wire.HighWater) { in.store.Marked(mark) }

// Synced implements link.Hub.
func (in *inbound) Synced(ctx context.Context, failed []wire.Key) error {
	err := in.store.Synced(ctx, failed)
	if err == nil && in.synced != nil {
		in.synced()
	}
	return err
}

// Release implements link.Hub.
func (in *inbound) Release(ctx context.Context, batchID string) error {
	return in.store.Release(ctx, batchID)
}

// checkConfig reads a cluster's configuration.
func checkConfig(_ wire.Key, _ wire.Revision, content []byte) error {
	config, err := wire.DecodeConfig(content)
	if err != nil {
		return undecodable("", "%v", err)
	}
	for i, name := range config.ManagedNamespaces {
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
			return undecodable(fmt.Sprintf("managedNamespaces[%d]", i), "%q is no name of a namespace: %s", name, strings.Join(problems, "; "))
		}
	}
	return nil
}

// checkWork decodes what would be applied. Its errors are *link.Rejected and
// name the field.
func checkWork(key wire.Key, rev wire.Revision, content []byte) error {
	work, err := decodeWork(content)
	if err != nil {
		return undecodable("", "the object is not a ManifestWork: %v", err)
	}
	if work.Name != key.Name || string(work.UID) != rev.UID {
		return undecodable("metadata", "the object is %s (UID %s), sent as %s (UID %s)", work.Name, work.UID, key.Name, rev.UID)
	}
	for i, manifest := range work.Spec.Workload.Manifests {
		field := fmt.Sprintf("spec.workload.manifests[%d]", i)
		var meta struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		if err := json.Unmarshal(manifest.Raw, &meta); err != nil {
			return undecodable(field, "the manifest does not decode: %v", err)
		}
		if meta.APIVersion == "" || meta.Kind == "" {
			return undecodable(field, "the manifest has no apiVersion or no kind")
		}
	}
	return nil
}

func undecodable(field, format string, args ...any) error {
	rejected := &link.Rejected{Reason: reason.Undecodable, Message: fmt.Sprintf(format, args...)}
	if field != "" {
		rejected.FieldPaths = []string{field}
	}
	return rejected
}

func decodeWork(content []byte) (*workv1.ManifestWork, error) {
	if len(content) == 0 {
		return nil, errors.New("it is empty")
	}
	work := &workv1.ManifestWork{}
	if err := json.Unmarshal(content, work); err != nil {
		return nil, err
	}
	return work, nil
}
