// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// spreadWorld has clusters in topologies, each with a score, and a placement
// that spreads some of them.
type spreadWorld struct {
	*hub
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
		w.skew[k] = rapid.IntRange(1, 3).Draw(t, "skew")
		action := "ScheduleAnyway"
		if rapid.IntRange(0, 2).Draw(t, "strict") == 0 {
			action = "DoNotSchedule"
			w.strict = append(w.strict, k)
		}
		constraints = append(constraints, fmt.Sprintf("{topologyKey: %s, topologyKeyType: Label, maxSkew: %d, whenUnsatisfiable: %s}", k, w.skew[k], action))
	}
	weight := rapid.IntRange(0, 3).Draw(t, "steady")
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
		n[w.labels[c][topology]]++
	}
	least = len(chosen)
	for _, k := range n {
		least, most = min(least, k), max(most, k)
	}
	return least, most
}
