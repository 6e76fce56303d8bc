// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/test/env"
)

// BenchmarkStatuses has 500 works of 25 clusters reported ten times each in one
// burst, and shows what a report costs this process and how many writes it took.
func BenchmarkStatuses(b *testing.B) {
	const clusters, works, reports = 25, 20, 10
	plane := env.Shared(b)
	x := startIndex(b, plane.RESTConfig())
	w, err := NewStatusWriter(StatusConfig{Config: plane.RESTConfig(), Index: x, Fence: &fence{}})
	require.NoError(b, err)
	runs(b, w.Run)
	type target struct {
		grant Grant
		item  Status
	}
	var targets []target
	for range clusters {
		u := newUser(b, plane.RESTConfig())
		for i := range works {
			have := reaches(b, x, u.create(fmt.Sprintf("work-%d", i)))
			targets = append(targets, target{
				grant: Grant{scope: scopeOf(u.cluster, "uid"), sessionID: "s", epoch: 1, number: 1, complete: 1 << 60},
				item:  Status{Key: key(fmt.Sprintf("work-%d", i)), UID: have.UID, ObservedGeneration: 1, ObservedDigest: have.Digest},
			})
		}
	}
	round := 0
	for b.Loop() {
		var mu sync.Mutex
		outcomes := map[Outcome]int{}
		var done sync.WaitGroup
		began, cpu := time.Now(), cpuTime()
		for n := range reports {
			round++
			for _, t := range targets {
				done.Add(1)
				t.item.JSON = []byte(strings.ReplaceAll(appliedStatus, "complete", fmt.Sprintf("round %d report %d", round, n)))
				w.Put(t.grant, t.item, func(r Result) {
					mu.Lock()
					outcomes[r.Outcome]++
					mu.Unlock()
					done.Done()
				})
			}
		}
		done.Wait()
		total := clusters * works * reports
		require.Equal(b, total, outcomes[Persisted]+outcomes[Superseded])
		b.ReportMetric(float64(total)/time.Since(began).Seconds(), "accepted/s")
		b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(total), "cpu-us/report")
		b.ReportMetric(float64(outcomes[Persisted])/float64(clusters*works), "writes/work")
		b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(outcomes[Persisted]), "cpu-us/write")
	}
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
