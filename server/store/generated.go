// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"strings"
	"sync"
	"unique"

	"fairlead.dev/fairlead/internal/wire"
)

// generated is what a record keeps of a work that a ManifestWorkReplicaSet has:
// 128 bytes, as the labels are the same in many clusters.
type generated struct {
	replicaSet, placement, labels unique.Handle[string]

	written                                   int64
	applied, available, progressing, degraded wire.Condition
}

func newGenerated(g *wire.Generated) *generated {
	if g == nil {
		return nil
	}
	return &generated{
		replicaSet: unique.Make(g.ReplicaSet), placement: unique.Make(g.Placement), labels: unique.Make(g.Labels), written: g.Written,
		applied: g.Applied, available: g.Available, progressing: g.Progressing, degraded: g.Degraded,
	}
}

// of is the label of the replica set that has a work; "" for none.
func (r *record) of() string {
	if r == nil || r.generated == nil {
		return ""
	}
	return r.generated.replicaSet.Value()
}

// GeneratedWork is a work of a ManifestWorkReplicaSet.
type GeneratedWork struct {
	Cluster, Name, UID string
	Generation         int64
	Deleting           bool
	// Spec identifies its spec: equal ones are equal to the byte.
	Spec wire.Digest
	wire.Generated
}

// members are the works of each replica set, by its label: "cluster/name".
type members struct {
	mu sync.Mutex
	of map[string]map[string]struct{}
}

// move notes that a work changed from one replica set to another; either may be "".
func (m *members) move(cluster, name, from, to string) {
	if from == to {
		return
	}
	key := cluster + "/" + name
	m.mu.Lock()
	defer m.mu.Unlock()
	if from != "" {
		delete(m.of[from], key)
		if len(m.of[from]) == 0 {
			delete(m.of, from)
		}
	}
	if to == "" {
		return
	}
	if m.of == nil {
		m.of = map[string]map[string]struct{}{}
	}
	if m.of[to] == nil {
		m.of[to] = map[string]struct{}{}
	}
	m.of[to][key] = struct{}{}
}

func (m *members) list(set string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := make([]string, 0, len(m.of[set]))
	for key := range m.of[set] {
		keys = append(keys, key)
	}
	return keys
}

// Generated returns the works whose label of replica sets has this value, in no
// order. The slice is the caller's.
func (x *Index) Generated(set string) []GeneratedWork {
	keys := x.members.list(set)
	works := make([]GeneratedWork, 0, len(keys))
	for _, key := range keys {
		cluster, name, _ := strings.Cut(key, "/")
		r, ok := x.lookup(cluster, name)
		if !ok || r.of() != set {
			continue
		}
		w := GeneratedWork{Cluster: cluster, Name: name, UID: r.uid, Generation: r.generation, Deleting: r.deleting}
		if r.spec != nil {
			w.Spec = r.spec.digest
		}
		g := r.generated
		w.Generated = wire.Generated{
			ReplicaSet: set, Placement: g.placement.Value(), Labels: g.labels.Value(), Written: g.written,
			Applied: g.applied, Available: g.available, Progressing: g.progressing, Degraded: g.degraded,
		}
		works = append(works, w)
	}
	return works
}

// Spec returns the JSON of a work's spec; false if the index has no such work or
// another spec by now.
func (x *Index) Spec(cluster, name string, digest wire.Digest) ([]byte, bool) {
	r, ok := x.lookup(cluster, name)
	if !ok || r.spec == nil || r.spec.digest != digest {
		return nil, false
	}
	content, err := r.spec.appendTo(nil, x.codec)
	return content, err == nil
}
