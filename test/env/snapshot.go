// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
)

// Snapshot writes the state of the running etcd to a file in the plane's folder
// and returns its path. The plane goes on meanwhile.
func (p *Plane) Snapshot(ctx context.Context) (string, error) {
	p.mu.Lock()
	p.snapshots++
	file := p.file(fmt.Sprintf("snapshot-%d.db", p.snapshots))
	p.mu.Unlock()
	if err := p.etcdSnapshot(ctx, "save", p.etcdURL(), file); err != nil {
		return "", err
	}
	return file, nil
}

// Restore puts etcd back to a snapshot, as an administrator restores a backup:
// every component stops, then all start again on the same addresses. Resource
// versions go back with the data, and later writes use them again.
func (p *Plane) Restore(ctx context.Context, snapshot string) error {
	for _, component := range slices.Backward(p.components()) {
		p.Kill(component)
	}
	if err := os.RemoveAll(p.etcdData()); err != nil {
		return fmt.Errorf("removing etcd's data: %w", err)
	}
	if err := p.etcdSnapshot(ctx, "restore", snapshot, p.etcdData(), peerURL); err != nil {
		return err
	}
	if err := p.launchAll(ctx); err != nil {
		return fmt.Errorf("starting plane %q after a restore: %w", p.name, err)
	}
	return nil
}

func (p *Plane) etcdSnapshot(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, p.binary, append([]string{"etcd-snapshot"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("etcd of plane %q: %w: %s", p.name, err, out)
	}
	return nil
}
