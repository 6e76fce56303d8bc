// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/internal/wire"
)

const (
	setLabel       = "work.open-cluster-management.io/manifestworkreplicaset"
	placementLabel = "work.open-cluster-management.io/placementname"
	rolledStatus   = `{"conditions":[{"lastTransitionTime":"2026-01-02T03:04:05Z","observedGeneration":3,"reason":"R","status":"True","type":"Applied"},` +
		`{"lastTransitionTime":"2026-01-02T03:05:05Z","message":"}]","observedGeneration":2,"status":"False","type":"Progressing"},` +
		`{"status":"Unknown","type":"Available"},{"status":"True","type":"Other"}]}`
)

func ofSet(cluster string, version uint64, set string) synthetic {
	o := synthetic{cluster: cluster, name: "web", uid: uidOf(int(version)), version: version, generation: 3, app: 1, status: rolledStatus}
	if set != "" {
		o.labels = map[string]string{setLabel: set, placementLabel: "p", "app": "web"}
	}
	return o
}

// names are the clusters of a set's works.
func (f feed) names(set string) string {
	var all []string
	for _, w := range f.Generated(set) {
		all = append(all, w.Cluster)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// TestGenerated: the index knows the works of a replica set by its label, as it is.
func TestGenerated(t *testing.T) {
	f := newFeed(t)
	var told []string
	cancel := f.Subscribe(func(c Change) { told = append(told, c.ReplicaSet+"<"+c.FormerReplicaSet) })
	defer cancel()
	f.line("ADDED", ofSet("c1", 1, "ns.a"))
	f.line("ADDED", ofSet("c2", 2, "ns.a"))
	f.line("ADDED", ofSet("c3", 3, "ns.b"))
	f.line("ADDED", ofSet("c4", 4, ""))
	require.Equal(t, "c1 c2", f.names("ns.a"))
	require.Equal(t, "c3", f.names("ns.b"))
	require.Empty(t, f.names(""))
	work := f.Generated("ns.b")[0]
	require.Equal(t, wire.Condition{Status: 'T', Generation: 3, Since: 1767323045}, work.Applied)
	require.Equal(t, wire.Condition{Status: 'F', Generation: 2, Since: 1767323105}, work.Progressing)
	require.Equal(t, wire.Condition{}, work.Available, "neither True nor False")
	require.Equal(t, "p", work.Placement)
	require.JSONEq(t, `{"app":"web","`+setLabel+`":"ns.b","`+placementLabel+`":"p"}`, work.Labels)
	require.EqualValues(t, 1767323045, work.Written, "when it was created")
	raw, ok := f.Spec("c3", "web", work.Spec)
	require.True(t, ok)
	require.Contains(t, string(raw), `"workload"`)
	_, ok = f.Spec("c3", "web", wire.Digest{})
	require.False(t, ok, "it is another")

	moved := ofSet("c2", 5, "ns.b")
	moved.uid = uidOf(2)
	f.line("MODIFIED", moved)
	require.Equal(t, "c1", f.names("ns.a"))
	require.Equal(t, "c2 c3", f.names("ns.b"))
	moved = ofSet("c1", 6, "")
	moved.uid = uidOf(1)
	f.line("MODIFIED", moved)
	require.Empty(t, f.names("ns.a"), "without the label it is nobody's")
	gone := ofSet("c3", 7, "ns.b")
	gone.uid = uidOf(3)
	f.line("DELETED", gone)
	require.Equal(t, "c2", f.names("ns.b"))
	require.Equal(t, []string{"ns.a<", "ns.a<", "ns.b<", "<", "ns.b<ns.a", "<ns.a", "ns.b<"}, told, "both are told of a work that moves")
	f.listing++ // a list without anything
	f.sweep()
	require.Empty(t, f.names("ns.b"))
	require.Empty(t, f.members.of)
}

// BenchmarkGenerated is what a replica set on 10,000 clusters costs: to keep, over
// works that are nobody's, and to look through.
func BenchmarkGenerated(b *testing.B) {
	const works = 10_000
	fill := func(set string) (feed, float64) {
		before := heap()
		f := newFeed(b)
		for i := range works {
			o := ofSet(fmt.Sprintf("cluster-%05d", i), uint64(i+1), set)
			if set == "" {
				o.labels = map[string]string{"of": "ns.web", "by": "p", "app": "web"}
			}
			f.put(f.scan(o.json()), watched, 0)
		}
		return f, float64(heap()-before) / works
	}
	plain, without := fill("")
	f, with := fill("ns.web")
	for b.Loop() {
		require.Len(b, f.Generated("ns.web"), works)
	}
	b.ReportMetric(with-without, "B/work-more")
	b.ReportMetric(with, "B/work")
	runtime.KeepAlive(plain)
	runtime.KeepAlive(f)
}
