// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"fairlead.dev/fairlead/internal/wire"
)

// Live is what a quorum read has found.
type Live struct {
	// Found is false only when the apiserver said that this very object does
	// not exist. Nothing else is set then.
	Found           bool
	UID             string
	Generation      int64
	ResourceVersion uint64
	Deleting        bool
}

// QuorumGet reads one work from etcd, past every cache. Its answer, and no
// other, proves absence (PROTOCOL decision 8); an error proves nothing.
func (x *Index) QuorumGet(ctx context.Context, clusterName, name string) (Live, error) {
	complete := x.HighWater()
	have, _ := x.lookup(clusterName, name) // at resourceVersion 0 when there is none
	s, _, err := x.works.read(ctx, clusterName, name)
	if err != nil || s == nil {
		return Live{}, err
	}
	if s.ResourceVersion <= complete && have.resourceVersion < s.ResourceVersion {
		x.doubt()
	}
	return Live{Found: true, UID: s.UID, Generation: s.Generation, ResourceVersion: s.ResourceVersion, Deleting: s.Deleting}, nil
}

// read is a quorum read of one work; nil without an error when it is absent.
func (w works) read(ctx context.Context, clusterName, name string) (*wire.Scanned, []byte, error) {
	if clusterName == "" || name == "" {
		return nil, nil, fmt.Errorf("quorum read of a ManifestWork: cluster %q, name %q: neither may be empty", clusterName, name)
	}
	raw, err := w.get(ctx, clusterName, name)
	if absent(err, name) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("quorum read of ManifestWork %s/%s: %w", clusterName, name, err)
	}
	s, err := wire.Scan(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("quorum read of ManifestWork %s/%s: %w", clusterName, name, err)
	}
	return s, raw, nil
}

// QuorumListRV returns the resourceVersion that the apiserver is at.
func (x *Index) QuorumListRV(ctx context.Context) (uint64, error) {
	raw, err := x.works.page(ctx, 1, "")
	if err != nil {
		return 0, fmt.Errorf("asking the apiserver for its resourceVersion: %w", err)
	}
	meta, err := wire.ScanList(raw, func([]byte) error { return nil })
	if err == nil && meta.ResourceVersion == 0 {
		err = errors.New("the list has none")
	}
	if err != nil {
		return 0, fmt.Errorf("asking the apiserver for its resourceVersion: %w", err)
	}
	return meta.ResourceVersion, nil
}

// doubt has everything listed anew, because the index lacks what it must have
// seen if the apiserver had told the truth (T6).
func (x *Index) doubt() {
	x.inDoubt.Store(true) // before the look at the watch, which looks at it after it has begun
	if end := x.endWatch.Load(); end != nil {
		(*end)(errDoubt)
	}
}
