// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fairlead.dev/fairlead/server/scheduling"
)

// spreadWorld has clusters in topologies, each with a score, and a placement
// that spreads some of them.
type spreadWorld struct {
	*hub
	keys   []string // of the constraints, in their order
	steady bool
	strict []string // keys that are DoNotSchedule
	skew   map[string]int
	labels map[string]map[string]string
	spec   string
	number int
}

func drawSpread(t *rapid.T) *spreadWorld {
	w := &spreadWorld{hub: newHub(t), skew: map[string]int{}, labels: map[string]map[string]string{}}
	w.set("all", "all")
	w.bind("n", "all")
	for i := range rapid.IntRange(1, 14).Draw(t, "clusters") {
		name := fmt.Sprintf("c%02d", i)
		labels := map[string]string{}
		var traits []string
		for _, k := range []string{"x", "y", "z"} {
			if v := rapid.IntRange(0, 3).Draw(t, k); v > 0 {
				labels[k] = strconv.Itoa(v)
				traits = append(traits, k+"="+labels[k])
			}
		}
		w.labels[name] = labels
		w.cluster(name, traits...)
		w.score(name, "s", fmt.Sprintf("v=%d", rapid.IntRange(-100, 100).Draw(t, "score")))
	}
	w.number = rapid.IntRange(0, 15).Draw(t, "number")
	var constraints []string
	for _, k := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "z"}), 1, 3, rapid.ID[string]).Draw(t, "keys") {
		w.keys = append(w.keys, k)
		w.skew[k] = rapid.IntRange(1, 3).Draw(t, "skew")
		action := "ScheduleAnyway"
		if rapid.IntRange(0, 2).Draw(t, "strict") == 0 {
			action = "DoNotSchedule"
			w.strict = append(w.strict, k)
		}
		constraints = append(constraints, fmt.Sprintf("{topologyKey: %q, topologyKeyType: Label, maxSkew: %d, whenUnsatisfiable: %s}", k, w.skew[k], action))
	}
	weight := rapid.IntRange(0, 3).Draw(t, "steady")
	w.steady = weight > 0
	w.spec = fmt.Sprintf(`
numberOfClusters: %d
spreadPolicy: {spreadConstraints: [%s]}
prioritizerPolicy: {mode: Exact, configurations: [
  {scoreCoordinate: {builtIn: Steady}, weight: %d},
  {scoreCoordinate: {type: AddOn, addOn: {resourceName: s, scoreName: v}}, weight: 1}]}`, w.number, strings.Join(constraints, ","), weight)
	w.placement("n/p", w.spec)
	return w
}

// TestSpread_properties: what is strict is kept to, deciding again moves nothing,
// and what is left out could not have been taken.
func TestSpread_properties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawSpread(t)
		first := w.keep("n/p")
		require.LessOrEqual(t, len(first), w.number)
		for _, k := range w.strict {
			least, most := w.counts(k, first)
			require.LessOrEqual(t, most-least, w.skew[k], "%s\n%v", w.spec, first)
		}
		if len(w.strict) == 0 {
			require.Len(t, first, min(w.number, len(w.labels)), w.spec)
		}
		require.ElementsMatch(t, first, w.keep("n/p"), "deciding twice moves\n%s", w.spec)
	})
}

// counts are the least and the most clusters chosen in a domain that has any.
func (w *spreadWorld) counts(topology string, chosen []string) (least, most int) {
	n := map[string]int{}
	for _, labels := range w.labels {
		if v, ok := labels[topology]; ok {
			n[v] += 0
		}
	}
	for _, c := range chosen {
		if v, ok := w.labels[c][topology]; ok {
			n[v]++
		}
	}
	least = len(chosen)
	for _, k := range n {
		least, most = min(least, k), max(most, k)
	}
	return least, most
}

// simply is what spread chooses, the plain way: of all that are left take the best,
// again and again.
func (w *spreadWorld) simply(keys []string, had []string, steady bool, ranked []scheduling.Score) []string {
	var chosen []string
	for len(chosen) < w.number {
		best, least := "", []int(nil)
		for _, s := range ranked {
			if slices.Contains(chosen, s.Cluster) {
				continue
			}
			excess, ok := w.exceeds(keys, chosen, s.Cluster)
			if steady && slices.Contains(had, s.Cluster) {
				clear(excess)
			}
			if ok && (best == "" || slices.Compare(excess, least) < 0) {
				best, least = s.Cluster, excess
			}
		}
		if best == "" {
			break
		}
		chosen = append(chosen, best)
	}
	return chosen
}

// exceeds is by how much a cluster would exceed each constraint, and whether it may.
func (w *spreadWorld) exceeds(keys, chosen []string, name string) (excess []int, ok bool) {
	ok = true
	for _, k := range keys {
		over := math.MaxInt
		if value, has := w.labels[name][k]; has {
			least, _ := w.counts(k, chosen)
			there := 0
			for _, c := range chosen {
				if w.labels[c][k] == value {
					there++
				}
			}
			over = max(0, there+1-least-w.skew[k])
		}
		ok = ok && (over == 0 || !slices.Contains(w.strict, k))
		excess = append(excess, over)
	}
	return excess, ok
}

// TestSpread_is_the_plain_choice: however spread finds the next cluster, it is that
// which the plain way finds.
func TestSpread_is_the_plain_choice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawSpread(t)
		var had []string
		for range 2 {
			o := w.decide("n/p")
			require.ElementsMatch(t, w.simply(w.keys, had, w.steady, o.Scores), o.Clusters, "%s\n%v", w.spec, w.labels)
			had = rapid.SliceOfDistinct(rapid.SampledFrom(slices.Sorted(maps.Keys(w.labels))), rapid.ID[string]).Draw(t, "had")
			w.decided("n/p", had...)
		}
	})
}

// BenchmarkSpread is of the most domains that there can be, which is how long nothing
// else is decided.
func BenchmarkSpread(b *testing.B) {
	for _, shape := range []string{"unique", "unique and uneven", "unique and lacking"} {
		b.Run(shape, func(b *testing.B) {
			h := newHub(b)
			h.set("all", "all")
			h.bind("n", "all")
			for i := range 10_000 {
				traits := []string{fmt.Sprintf("own=%d", i)}
				if strings.HasSuffix(shape, "uneven") {
					traits = append(traits, fmt.Sprintf("zone=%d", min(i%100, 1)))
				}
				h.cluster(fmt.Sprintf("c%05d", i), traits...)
			}
			first := "own"
			if shape != "unique" {
				first = "zone"
			}
			constraints := fmt.Sprintf("{topologyKey: %s, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}", first)
			constraints += strings.Repeat(", {topologyKey: own, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}", 7)
			h.placement("n/p", "numberOfClusters: 10000\nspreadPolicy: {spreadConstraints: ["+constraints+"]}")
			for b.Loop() {
				require.Len(b, h.decide("n/p").Clusters, 10_000)
			}
		})
	}
}
