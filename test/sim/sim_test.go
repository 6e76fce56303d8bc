// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var (
	seeds   = flag.Int("seeds", defaultSeeds, "how many seeds to run")
	first   = flag.Uint64("first", 1, "the first seed")
	only    = flag.Uint64("seed", 0, "run this seed alone, and tell everything")
	off     = flag.String("off", "", "troubles that do not happen, with commas")
	trouble = flag.Duration("trouble", 0, "end of all trouble, if sooner than the seed says")
	works   = flag.Int("works", 0, "how many works there are at most, if fewer than the seed says")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told is how many failing seeds are made small and told.
const told = 3

// run makes one run in a bubble of its own.
func run(t *testing.T, options Options) (result Result) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { result = Run(options) })
	return result
}

// TestSeeds runs one seed after the other, or the one that -seed names.
func TestSeeds(t *testing.T) {
	if *only != 0 {
		options := Options{Seed: *only, Trouble: *trouble, Works: *works, Transcript: true}
		if *off != "" {
			options.Off = strings.Split(*off, ",")
		}
		result := run(t, options)
		fmt.Fprint(os.Stdout, result.Story())
		require.Nil(t, result.Failure)
		return
	}
	began := time.Now()
	var next, steps, sessions, virtual, mended, failed atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for n := next.Add(1) - 1; n < int64(*seeds); n = next.Add(1) - 1 {
				result := run(t, Options{Seed: *first + uint64(n)})
				steps.Add(int64(result.Steps))
				sessions.Add(int64(result.Sessions))
				virtual.Add(int64(result.Virtual))
				mended.Add(int64(result.Mended))
				if result.Failure != nil {
					tell(t, result, failed.Add(1) <= told)
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d seeds in %v: %d steps, %d sessions, %v of virtual time, %d differences mended by anti-entropy", *seeds,
		time.Since(began).Round(time.Millisecond), steps.Load(), sessions.Load(), time.Duration(virtual.Load()).Round(time.Minute), mended.Load())
}

// tell reports a seed that failed, with the story of a smaller run that does.
func tell(t *testing.T, result Result, story bool) {
	t.Helper()
	if !story {
		t.Errorf("seed %d: %s: %s\nsee it with: %s", result.Options.Seed, result.Failure.Kind, result.Failure.Text, result.Command())
		return
	}
	small := Minimize(result, func(o Options) Result { return run(t, o) })
	o := small.Options
	o.Transcript = true
	t.Errorf("seed %d: %s: %s\n\nA smaller run that fails in this way:\n%s\nsee it again with: %s", result.Options.Seed, result.Failure.Kind,
		result.Failure.Text, run(t, o).Story(), small.Command())
}

// TestReplay: a seed gives the same run every time, to the line.
func TestReplay(t *testing.T) {
	for seed := range uint64(8) {
		options := Options{Seed: 1000 + seed, Transcript: true}
		once, again := run(t, options), run(t, options)
		require.Equal(t, once.Steps, again.Steps)
		require.Equal(t, once.Lines, again.Lines)
	}
}

// TestSabotage: each rule that is broken on purpose is noticed, and as what it
// is. Some need luck, so the search begins where it had some.
func TestSabotage(t *testing.T) {
	lucky := map[string]uint64{
		"persisted before 2xx": 9, "absence from the index is proof": 9, "holds are ignored": 4, "marks of the agent prove nothing": 27,
	}
	for rule, kinds := range Sabotages() {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			from := max(1, lucky[rule])
			for seed := from; seed < from+100; seed++ {
				result := run(t, Options{Seed: seed, Sabotage: rule})
				if result.Failure != nil && slices.Contains(kinds, result.Failure.Kind) {
					t.Logf("seed %d: %s: %s", seed, result.Failure.Kind, result.Failure.Text)
					return
				}
			}
			t.Errorf("nobody noticed")
		})
	}
}

// TestMinimize: what is left of a failing run is not more than it was, and
// fails in the same way.
func TestMinimize(t *testing.T) {
	runIt := func(o Options) Result { return run(t, o) }
	for seed := uint64(1); ; seed++ {
		failed := runIt(Options{Seed: seed, Sabotage: "holds are ignored"})
		if failed.Failure == nil {
			continue
		}
		small := Minimize(failed, runIt)
		require.Equal(t, failed.Failure.Kind, small.Failure.Kind)
		require.LessOrEqual(t, small.Failure.After, failed.Failure.After)
		require.NotEmpty(t, small.Options.Off)
		require.Contains(t, small.Command(), fmt.Sprintf("-seed %d -trouble ", seed))
		return
	}
}
