// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkColdStart fills the index with 100,000 works of 50 applications on
// 1,000 clusters. The objects exist before the clock starts; the goals are
// 64 MiB of heap and 80 us of CPU for each work.
func BenchmarkColdStart(b *testing.B) {
	const works, clusters, apps = 100_000, 1_000, 50
	objects := make([][]byte, 0, 2_000) // the rest are these with other names
	for i := range 2_000 {
		objects = append(objects, synthetic{
			cluster: "cluster-CCCC", name: fmt.Sprintf("application-%04d", i%100), uid: "UUUUUUUU-1111-4222-8333-000000000000",
			version: 1_000_000, generation: 1, app: i % apps, labels: map[string]string{"app": strconv.Itoa(i % apps)},
			finalizers: []string{"cluster.open-cluster-management.io/manifest-work-cleanup"}, status: appliedStatus,
		}.json())
	}
	b.ReportMetric(float64(len(objects[0])), "B/object")
	for b.Loop() {
		before := heap()
		f := newFeed(b)
		for i := range works {
			raw := bytes.Replace(objects[i%len(objects)], []byte("CCCC"), fmt.Appendf(nil, "%04d", i/(works/clusters)), 1)
			raw = bytes.Replace(raw, []byte("UUUUUUUU"), fmt.Appendf(nil, "%08x", i), 1)
			f.put(f.scan(raw), watched, 0)
		}
		b.StopTimer()
		after := heap()
		require.Equal(b, works, f.Stats().Works)
		require.Equal(b, apps, f.Stats().Specs)
		b.ReportMetric(float64(after-before)/(1<<20), "MiB/index")
		b.ReportMetric(float64(after-before)/works, "B/work")
		runtime.KeepAlive(f)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/works, "us/work")
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkNewWork is what the hub pays for seeing a work that is like no other.
func BenchmarkNewWork(b *testing.B) {
	const works = 5_000
	lines := make([][]byte, 0, works)
	for i := range works {
		o := synthetic{cluster: fmt.Sprintf("c%d", i%500), name: fmt.Sprintf("web-%d", i/500), uid: uidOf(i), version: uint64(i + 1), generation: 1, app: i}
		lines = append(lines, []byte(`{"type":"ADDED","object":`+string(o.json())+`}`))
	}
	b.SetBytes(int64(len(lines[0])))
	b.ReportAllocs()
	f := newFeed(b)
	for i := 0; b.Loop(); i++ {
		if i%works == 0 {
			b.StopTimer()
			f = newFeed(b)
			b.StartTimer()
		}
		if _, _, err := f.event(lines[i%works]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStatusEvent is what the hub pays for seeing the status that an agent
// has just had written.
func BenchmarkStatusEvent(b *testing.B) {
	f := newFeed(b)
	var lines [2][]byte
	for i := range lines {
		status := appliedStatus
		if i == 1 {
			status = `{"conditions":[]}`
		}
		o := synthetic{cluster: "c1", name: "web", uid: uidOf(1), version: 1, generation: 1, status: status}
		lines[i] = []byte(`{"type":"MODIFIED","object":` + string(o.json()) + `}`)
	}
	version := uint64(10)
	for b.Loop() {
		version++
		line := bytes.Replace(lines[version%2], []byte(`"resourceVersion":"1"`), fmt.Appendf(nil, `"resourceVersion":"%d"`, version), 1)
		if _, _, err := f.event(line); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkContent is what reading one work for sending costs.
func BenchmarkContent(b *testing.B) {
	f := newFeed(b)
	f.line("ADDED", synthetic{cluster: "c1", name: "web", uid: uidOf(1), version: 1, generation: 1})
	v := f.View("c1")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := v.Content(key("web")); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkSummary is what a reconnecting agent costs, after a change and without.
func BenchmarkSummary(b *testing.B) {
	for _, works := range []int{100, 1000, 10_000} {
		f := newFeed(b)
		for i := range works {
			f.line("ADDED", synthetic{cluster: "c1", name: fmt.Sprintf("work-%05d", i), uid: uidOf(i), version: uint64(i + 1), generation: 1})
		}
		v := f.View("c1")
		b.Run(fmt.Sprintf("changed/%d", works), func(b *testing.B) {
			for b.Loop() {
				s := f.shard("c1")
				s.mu.Lock()
				s.clusters["c1"].rootKnown = false
				s.mu.Unlock()
				_ = v.Summary()
			}
		})
		b.Run(fmt.Sprintf("cached/%d", works), func(b *testing.B) {
			for b.Loop() {
				_ = v.Summary()
			}
		})
	}
}
