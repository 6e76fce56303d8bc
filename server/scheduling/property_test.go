// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"fairlead.dev/fairlead/server/scheduling"
)

// event is something that happens to an object: the last one for each is what is.
type event struct {
	object string
	happen func(h *hub)
}

// chaos is a World to which anything happens, and what it should know.
type chaos struct {
	*hub
	truth  map[string]event
	known  map[types.NamespacedName]scheduling.Outcome // when last decided
	others map[types.NamespacedName]bool               // decisions of others changed since
	placed map[string]string                           // specs
}

func (c *chaos) do(e event) {
	e.happen(c.hub)
	c.truth[e.object] = e
}

func (c *chaos) undo(object string, happen func(h *hub)) {
	happen(c.hub)
	delete(c.truth, object)
}

var (
	namesOfClusters   = []string{"c1", "c2", "c3", "c4", "c5", "c6"}
	namesOfSets       = []string{"a", "b", "all"}
	namesOfPlacements = []string{"n1/p", "n1/q", "n2/p"}
	traits            = []string{
		"set=a", "set=a", "set=b", "region=eu", "region=us", "region=ap", "zone=1", "zone=2", "claim:region=eu", "claim:region=us", "cpu=1", "cpu=4", "memory=8",
		"taint:k:NoSelect", "taint:k=v:NoSelectIfNew", "taint:k:PreferNoSelect", "taint:l:NoSelect@10s", "deleting",
	}
)

// specs are parts of a PlacementSpec, of which each placement has some.
var specs = [][]string{
	{"", "clusterSets: [a]\n", "clusterSets: [b, c]\n"},
	{"", "numberOfClusters: 1\n", "numberOfClusters: 2\n", "numberOfClusters: 3\n", "numberOfClusters: 5\n"},
	{
		"", "predicates: [{requiredClusterSelector: {labelSelector: {matchLabels: {region: eu}}}}]\n",
		"predicates: [{requiredClusterSelector: {claimSelector: {matchExpressions: [{key: region, operator: Exists}]}}}, {requiredClusterSelector: {labelSelector: {matchLabels: {region: us}}}}]\n",
		"predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['managedCluster.scores(\"s\").exists(s, s.value > 0)']}}}]\n",
		"predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['has(managedCluster.spec.taints)']}}}]\n",
		"predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['1 +']}}}]\n",
	},
	{
		"", "tolerations: [{operator: Exists}]\n", "tolerations: [{key: k, operator: Exists, tolerationSeconds: 20}]\n",
		"tolerations: [{key: l, value: '', tolerationSeconds: 30}, {key: k, value: v}]\n", "tolerations: [{operator: Equal}]\n",
	},
	{
		"", "prioritizerPolicy: {mode: Exact}\n",
		"prioritizerPolicy: {mode: Exact, configurations: [{scoreCoordinate: {builtIn: ResourceAllocatableCPU}, weight: -2}, {scoreCoordinate: {builtIn: Steady}}]}\n",
		"prioritizerPolicy: {configurations: [{scoreCoordinate: {builtIn: ResourceAllocatableMemory}}, {scoreCoordinate: {type: AddOn, addOn: {resourceName: s, scoreName: v}}, weight: 3}]}\n",
		"prioritizerPolicy: {configurations: [{scoreCoordinate: {builtIn: Spread}}]}\n",
	},
	{
		"", "spreadPolicy: {spreadConstraints: [{topologyKey: region, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]}\n",
		"spreadPolicy: {spreadConstraints: [{topologyKey: region, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}]}\n",
		"spreadPolicy: {spreadConstraints: [{topologyKey: region, topologyKeyType: Claim, maxSkew: 2, whenUnsatisfiable: ScheduleAnyway}, {topologyKey: zone, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}]}\n",
		"spreadPolicy: {spreadConstraints: [{topologyKey: zone, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}, {topologyKey: region, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]}\n",
	},
}

func drawSpec(t *rapid.T) string {
	var b strings.Builder
	for i, parts := range specs {
		b.WriteString(rapid.SampledFrom(parts).Draw(t, fmt.Sprintf("part %d", i)))
	}
	return b.String()
}

func (c *chaos) putCluster(t *rapid.T) {
	name := rapid.SampledFrom(namesOfClusters).Draw(t, "cluster")
	has, now := rapid.SliceOfN(rapid.SampledFrom(traits), 0, 5).Draw(t, "traits"), c.now
	c.do(event{"cluster " + name, func(h *hub) { h.at(now, func() { h.cluster(name, has...) }) }})
}

// at does something as of another time.
func (h *hub) at(then time.Time, do func()) {
	now := h.now
	h.now = then
	do()
	h.now = now
}

func (c *chaos) putScore(t *rapid.T) {
	cluster := rapid.SampledFrom(namesOfClusters).Draw(t, "cluster")
	items, now := []string{fmt.Sprintf("v=%d", rapid.IntRange(-100, 100).Draw(t, "value"))}, c.now
	if rapid.Bool().Draw(t, "expires") {
		items = append(items, "until=15s")
	}
	c.do(event{"score " + cluster, func(h *hub) { h.at(now, func() { h.score(cluster, "s", items...) }) }})
}

func (c *chaos) putDecision(t *rapid.T) {
	placement := rapid.SampledFrom(append(namesOfPlacements, "n3/gone")).Draw(t, "placement")
	clusters := rapid.SliceOfNDistinct(rapid.SampledFrom(append(namesOfClusters, "c9")), 0, 3, rapid.ID[string]).Draw(t, "clusters")
	number := rapid.IntRange(1, 2).Draw(t, "number")
	c.othersChanged(placement)
	c.do(event{fmt.Sprintf("decision %s %d", placement, number), func(h *hub) { h.PutDecision(decision(placement, number, clusters...)) }})
}

func (c *chaos) othersChanged(placement string) {
	for k := range c.known {
		if k != key(placement) {
			c.others[k] = true
		}
	}
}

func (c *chaos) putPlacement(t *rapid.T) {
	name, spec := rapid.SampledFrom(namesOfPlacements).Draw(t, "placement"), drawSpec(t)
	c.placed[name] = spec
	c.do(event{"placement " + name, func(h *hub) { h.placement(name, spec) }})
}

func (c *chaos) putSet(t *rapid.T) {
	name := rapid.SampledFrom(namesOfSets).Draw(t, "set")
	match := rapid.SampledFrom([][]string{nil, nil, {"all"}, {"region=eu"}}).Draw(t, "match")
	c.do(event{"set " + name, func(h *hub) { h.set(name, match...) }})
}

func (c *chaos) bindSet(t *rapid.T) {
	namespace, set := rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "namespace"), rapid.SampledFrom(namesOfSets).Draw(t, "set")
	c.do(event{"binding " + namespace + "/" + set, func(h *hub) { h.bind(namespace, set) }})
}

// remove removes one of the objects there are.
func (c *chaos) remove(t *rapid.T) {
	if len(c.truth) == 0 {
		return
	}
	object := rapid.SampledFrom(slices.Sorted(maps.Keys(c.truth))).Draw(t, "object")
	f := strings.Fields(object)
	c.undo(object, func(h *hub) {
		switch f[0] {
		case "cluster":
			h.RemoveCluster(f[1])
		case "score":
			h.RemoveScore(f[1], "s")
		case "set":
			h.RemoveSet(f[1])
		case "binding":
			h.RemoveBinding(key(f[1]).Namespace, key(f[1]).Name)
		case "placement":
			delete(c.known, key(f[1]))
			delete(c.placed, f[1])
			h.RemovePlacement(key(f[1]))
		case "decision":
			c.othersChanged(f[1])
			h.RemoveDecision(key(f[1] + "-decision-" + f[2]))
		default:
			t.Fatalf("what is %q?", object)
		}
	})
}

// decideDirty decides what is dirty or due, as the loop does.
func (c *chaos) decideDirty() {
	again := c.Dirty()
	for k, o := range c.known {
		if !o.Again.IsZero() && !c.now.Before(o.Again) {
			again = append(again, k)
		}
	}
	for _, k := range again {
		if o, ok := c.Decide(k, c.now); ok {
			c.known[k] = o
			delete(c.others, k)
		}
	}
}

// checkClean: what is not dirty decides as it did.
func (c *chaos) checkClean(t *rapid.T) {
	c.decideDirty()
	for k, known := range c.known {
		if c.others[k] {
			continue
		}
		o, ok := c.Decide(k, c.now)
		require.True(t, ok)
		require.Equal(t, known, o, "%s is not dirty and yet decides otherwise:\n%s", k, c.placed[k.String()])
	}
}

// checkFresh: a World that gets what there is now, in any order, decides the same.
func (c *chaos) checkFresh(t *rapid.T) {
	fresh := newHub(t)
	fresh.now = c.now
	for _, object := range rapid.Permutation(slices.Sorted(maps.Keys(c.truth))).Draw(t, "order") {
		c.truth[object].happen(fresh)
	}
	for name := range c.placed {
		require.Equal(t, fresh.decide(name), c.decide(name), name)
		have, _ := c.Explain(key(name), c.now)
		want, _ := fresh.Explain(key(name), c.now)
		require.Equal(t, want, have, name)
	}
}

// TestWorld_decides_as_a_fresh_one: whatever happened before, and whatever the
// order in which it is told, the same objects give the same decisions; and Dirty
// leaves out nothing that would be decided otherwise.
func TestWorld_decides_as_a_fresh_one(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chaos{
			hub: newHub(t), truth: map[string]event{}, known: map[types.NamespacedName]scheduling.Outcome{},
			others: map[types.NamespacedName]bool{}, placed: map[string]string{},
		}
		for _, set := range []string{"a", "b"} {
			c.do(event{"set " + set, func(h *hub) { h.set(set) }})
			c.do(event{"binding n1/" + set, func(h *hub) { h.bind("n1", set) }})
		}
		t.Repeat(map[string]func(*rapid.T){
			"cluster": c.putCluster, "cluster again": c.putCluster, "cluster once more": c.putCluster,
			"score": c.putScore, "decision": c.putDecision, "placement": c.putPlacement, "placement again": c.putPlacement,
			"set": c.putSet, "binding": c.bindSet, "remove": c.remove,
			"time":    func(*rapid.T) { c.now = c.now.Add(5 * time.Second) },
			"decide":  func(*rapid.T) { c.decideDirty() },
			"half":    func(*rapid.T) { c.halfDecide() },
			"check":   c.checkClean,
			"compare": c.checkFresh,
			"":        func(*rapid.T) {},
		})
		c.checkClean(t)
		c.checkFresh(t)
	})
}

// halfDecide: something happens between Dirty and Decide.
func (c *chaos) halfDecide() {
	for _, k := range c.Dirty() {
		delete(c.known, k)
		defer func() {
			if o, ok := c.Decide(k, c.now); ok && len(c.Dirty()) == 0 {
				c.known[k] = o
				delete(c.others, k)
			}
		}()
	}
}

// TestDecide_properties: of any one placement over any clusters.
func TestDecide_properties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHub(t)
		h.set("all", "all")
		h.bind("n", "all")
		n := rapid.IntRange(0, 12).Draw(t, "clusters")
		for i := range n {
			h.cluster(fmt.Sprintf("c%02d", i), rapid.SliceOfN(rapid.SampledFrom(traits), 0, 6).Draw(t, "traits")...)
			h.score(fmt.Sprintf("c%02d", i), "s", fmt.Sprintf("v=%d", rapid.IntRange(-100, 100).Draw(t, "score")))
		}
		h.decided("n/other", "c00", "c01")
		spec := drawSpec(t)
		h.placement("n/p", spec)
		first := h.decide("n/p")
		requireSound(t, h, first)
		h.decided("n/p", first.Clusters...)
		again := h.decide("n/p")
		require.ElementsMatch(t, first.Clusters, again.Clusters, "deciding twice moves\n%s", spec)
		if len(again.Scores) > 0 && !strings.Contains(spec, "weight: -2") && !strings.Contains(spec, "Resource") {
			h.cluster("worse", "set=a", "region=eu", "zone=1")
			h.score("worse", "s", "v=-100")
			requireWorse(t, h, spec, again)
		}
	})
}

// requireSound: bound by numberOfClusters, taken from what passed, best first.
func requireSound(t *rapid.T, h *hub, o scheduling.Outcome) {
	e, _ := h.Explain(key("n/p"), h.now)
	require.Equal(t, o, e.Outcome)
	var selected []string
	for at, v := range e.All {
		if v.Filter != "" {
			require.NotEmpty(t, v.Why)
			continue
		}
		require.Equal(t, v.Why == "", v.Selected, "%+v", v)
		if v.Rank == 0 {
			continue
		}
		require.Equal(t, at+1, v.Rank)
		sum := int64(0)
		for k, score := range v.Scores {
			require.LessOrEqual(t, score, int64(100))
			require.GreaterOrEqual(t, score, int64(-100))
			sum += score * e.Prioritizers[k].Weight
		}
		require.Equal(t, sum, v.Sum)
		if v.Selected {
			selected = append(selected, v.Cluster)
		}
	}
	require.Equal(t, selected, append([]string(nil), o.Clusters...))
}

// requireWorse: a cluster that scores worse than all that are chosen, where
// nothing spreads, changes nothing.
func requireWorse(t *rapid.T, h *hub, spec string, before scheduling.Outcome) {
	if strings.Contains(spec, "spreadPolicy") || !strings.Contains(spec, "numberOfClusters") {
		return
	}
	after := h.decide("n/p")
	for _, s := range after.Scores {
		last := len(before.Clusters)
		if s.Cluster == "worse" && last > 0 && last == len(after.Clusters) && s.Score < after.Scores[last-1].Score {
			require.ElementsMatch(t, before.Clusters, after.Clusters)
		}
	}
}
