// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package stat_test

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"fairlead.dev/fairlead/test/scale/stat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestQuantile(t *testing.T) {
	tests := map[string]struct {
		reason  string
		samples []int
		q       float64
		want    int
	}{
		"none":        {"nothing was measured", nil, 0.5, 0},
		"one":         {"it is every quantile", []int{7}, 0.99, 7},
		"median":      {"the middle, whatever the order", []int{9, 1, 5}, 0.5, 5},
		"even":        {"one that was measured, the lower", []int{4, 1, 3, 2}, 0.5, 2},
		"p99 of few":  {"the greatest", []int{1, 2, 3}, 0.99, 3},
		"least":       {"q 0", []int{3, 1, 2}, 0, 1},
		"p90 of ten":  {"nearest rank", []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0.9, 9},
		"p100 of ten": {"the last", []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 1, 10},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, stat.Quantile(test.samples, test.q), test.reason)
		})
	}
	samples := []time.Duration{3, 1, 2}
	require.Equal(t, []time.Duration{1, 2, 3}, []time.Duration{stat.Min(samples), stat.Median(samples), stat.Max(samples)})
	require.Equal(t, []time.Duration{3, 1, 2}, samples, "the samples stay in their order")
}

func TestParseCPU(t *testing.T) {
	used, err := stat.ParseCPU([]byte("42 (a) b (c) S 1 42 42 0 -1 4194560 900 0 1 0 150 25 7 7 20 0 9 0 100 1000 50"))
	require.NoError(t, err)
	require.Equal(t, 1750*time.Millisecond, used, "user and system; children's are not counted, and names may have anything in them")
	for _, text := range []string{"", "42 (x) S 1", "42 (x) S 1 42 42 0 -1 4194560 900 0 1 0 many 25"} {
		_, err := stat.ParseCPU([]byte(text))
		require.Error(t, err, text)
	}
}

func TestParseMemory(t *testing.T) {
	memory, err := stat.ParseMemory([]byte("5581-7ffd ---p 00000000 00:00 0  [rollup]\nRss:    4096 kB\nPss:    100 kB\nAnonymous:    1024 kB\n"))
	require.NoError(t, err)
	require.Equal(t, stat.Memory{RSS: 4 << 20, Anonymous: 1 << 20}, memory)
	_, err = stat.ParseMemory([]byte("Pss: 1 kB\n"))
	require.Error(t, err)
}

func TestRead_this_process(t *testing.T) {
	memory, err := stat.ReadMemory(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, memory.RSS)
	_, err = stat.ReadCPU(os.Getpid())
	require.NoError(t, err)
}

func TestParsePrometheus(t *testing.T) {
	text := `# HELP requests_total what was asked
requests_total{code="200",verb="GET",path="a{b\"c\\,d}"} 3
requests_total{code="409",verb="PUT"} 1.5e+02 1700000000
requests_total_created{code="200"} 9
up 1
`
	var samples []stat.Sample
	require.NoError(t, stat.ParsePrometheus([]byte(text), func(s stat.Sample) { samples = append(samples, s) }, "requests_total", "up"))
	require.Equal(t, []stat.Sample{
		{Name: "requests_total", Labels: map[string]string{"code": "200", "verb": "GET", "path": `a{b"c\,d}`}, Value: 3},
		{Name: "requests_total", Labels: map[string]string{"code": "409", "verb": "PUT"}, Value: 150},
		{Name: "up", Labels: map[string]string{}, Value: 1},
	}, samples)
	for _, bad := range []string{"up", "up{a=b} 1", "up{a=\"b\" 1", "up x"} {
		require.Error(t, stat.ParsePrometheus([]byte(bad+" \n"), func(stat.Sample) {}, "up"), bad)
	}
}

func TestCounts(t *testing.T) {
	before := stat.Counts{"GET a": 1, "PUT a": 2}
	after := stat.Counts{"GET a": 1, "PUT a": 5, "PUT b": 4}
	changed := after.Since(before)
	require.Equal(t, stat.Counts{"PUT a": 3, "PUT b": 4}, changed)
	require.Equal(t, 4, changed.Sum(func(what string) bool { return what == "PUT b" }))
}

func TestTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally := &stat.Tally{}
		tally.Add(2)
		n, err := tally.Await(t.Context(), stat.Goal{Count: 2})
		require.NoError(t, err, "it is there already")
		require.Equal(t, 2, n)
		timer := time.AfterFunc(time.Second, func() { tally.Add(3) })
		defer timer.Stop()
		n, err = tally.Await(t.Context(), stat.Goal{Count: 5, Within: time.Minute})
		require.NoError(t, err)
		require.Equal(t, 5, n)
		n, err = tally.Await(t.Context(), stat.Goal{Count: 6, Within: time.Minute})
		require.ErrorContains(t, err, "counted 5 of 6")
		require.Equal(t, 5, n)
	})
}
