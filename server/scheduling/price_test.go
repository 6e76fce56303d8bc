// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// evaluate has one expression choose one cluster, and says how many MiB that took.
func (h *hub) evaluate(expression string) (chosen bool, why string, mib uint64) {
	h.t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	h.placement("n/p", fmt.Sprintf("predicates: [{requiredClusterSelector: {celSelector: {celExpressions: [%q]}}}]", expression))
	o := h.decide("n/p")
	runtime.ReadMemStats(&after)
	e, _ := h.Explain(key("n/p"), h.now)
	return len(o.Clusters) > 0, e.All[0].Why + o.Misconfigured.Message, (after.TotalAlloc - before.TotalAlloc) >> 20
}

func newEvaluator(t *testing.T) *hub {
	t.Helper()
	h := newHub(t)
	h.set("a")
	h.bind("n", "a")
	h.cluster("c0", "set=a")
	return h
}

// TestPL21_calls_that_make_much: a call that would cost more than an expression may
// is not run, however little CEL says that it costs.
func TestPL21_calls_that_make_much(t *testing.T) {
	const times8 = ".map(x, x+x+x+x+x+x+x+x)"
	long := `["aaaaaaaaaaaaaaaa"]` + strings.Repeat(times8, 3) // 8 KiB
	shared := "[[1]]" + strings.Repeat(".map(x, [x, x])", 24)  // 16 Mi elements
	const limit = "actual cost limit exceeded"
	for name, tc := range map[string]struct{ expression, why string }{
		"replace":              {long + `.map(x, x+x).all(x, x.replace("", x).size() > 0)`, limit},
		"replace some":         {long + `.map(x, x+x).all(x, x.replace("a", x, 10000).size() > 0)`, limit},
		"join":                 {long + times8 + `.all(x, x.split("").join(x).size() > 0)`, limit},
		"format":               {shared + `.all(x, "%s".format([x]) != "")`, limit},
		"digits":               {`"%.1000000f".format([1.0]) != ""`, "precision 1000000 exceeds"},
		"range":                {`lists.range(1000001).size() > 0`, limit},
		"equality":             {shared + `.all(x, x == x)`, limit},
		"flatten":              {shared + `.all(x, dyn(x).flatten(30).size() > 0)`, limit},
		"lists":                {"[[1]]" + strings.Repeat(".map(x, x + x)", 40) + `.all(x, x.sum() > 0)`, limit},
		"indexOf":              {long + times8 + `.all(x, x.indexOf(x.substring(10000) + "b") == -1)`, limit},
		"lastIndexOf":          {long + times8 + `.all(x, x.lastIndexOf("b" + x.substring(10000)) == -1)`, limit},
		"sets":                 {`[lists.range(2000)].all(x, sets.contains(x, x))`, limit},
		"distinct":             {`lists.range(2000).distinct().size() > 0`, limit},
		"quantity":             {`quantity("1e1000000000").compareTo(quantity("1")) > 0`, limit},
		"quantity of digits":   {long + `.all(x, isQuantity(x))`, limit},
		"version":              {long + `.all(x, isSemver("1.0." + x))`, limit},
		"pattern":              {`"a".matches("(abcdefghij){101}")`, "instructions, at most 1000 are possible"},
		"pattern of find":      {`"a".find("(abcdefghij){101}") == ""`, "instructions, at most 1000 are possible"},
		"pattern that is made": {`["(abcdefghij){101}"].all(x, "a".matches(x))`, limit},
		"pattern on much":      {long + times8 + times8 + `.all(x, x.matches("(a{20}){20}b"))`, limit},
	} {
		t.Run(name, func(t *testing.T) {
			chosen, why, mib := newEvaluator(t).evaluate(tc.expression)
			require.False(t, chosen)
			require.Contains(t, why, tc.why)
			require.LessOrEqual(t, mib, uint64(160))
		})
	}
}

// TestPL19_functions: calls are guarded, and still do what they do in Kubernetes.
func TestPL19_functions(t *testing.T) {
	for _, expression := range []string{
		`[3, 1, 2].sort() == [1, 2, 3] && [1, 1].distinct() == [1] && [[1], [2]].flatten() == [1, 2]`,
		`"a" in ["a", "b"] && "set" in {"set": 1} && 1 in [1, 2].map(x, x)`,
		`["a", "b"].join("-") == "a-b" && "aXbX".replace("X", "Y", 1) == "aYbX" && "a,b".split(",").size() == 2`,
		`"%s-%d".format(["a", 1]) == "a-1" && "abc".indexOf("c") == 2 && "abc".contains("bc")`,
		`"abc".matches("^a.c$") && ["a+"].all(p, "aa".matches(p)) && "a1b2".findAll("[0-9]") == ["1", "2"]`,
		`quantity("1Gi").compareTo(quantity("1Mi")) > 0 && quantity("1e3").add(1).asInteger() == 1001`,
		`semver("1.2.3").major() == 1 && ip("1.2.3.4").family() == 4 && cidr("10.0.0.0/8").containsIP("10.1.1.1")`,
		`url("https://a.b/c?d=e").getQuery()["d"] == ["e"] && sets.contains([1, 2], [1])`,
		`dyn("x") + "y" == "xy" && [1] + [2] == [1, 2] && dyn(1) + 1 == 2 && dyn(1.0) != dyn(2)`,
		`managedCluster.?spec.?nothing.orValue("x") == "x" && duration("1h") + duration("1m") > duration("1h")`,
		`[1, 2].transformMap(i, v, v * 2) == {0: 2, 1: 4} && "[1]".parseJSON() == [1]`,
		`managedCluster.metadata.labels["cluster.open-cluster-management.io/clusterset"] == "a"`,
	} {
		chosen, why, _ := newEvaluator(t).evaluate(expression)
		require.True(t, chosen, "%s: %s", expression, why)
	}
	for expression, why := range map[string]string{
		`dyn(managedCluster.metadata) + 1 == 2`: "no such overload",
		`"a".matches("(")`:                      "invalid matches argument",
		`["("].all(x, "a".matches(x))`:          "missing closing )",
		`dyn(1).matches("a")`:                   "no such overload",
	} {
		chosen, says, _ := newEvaluator(t).evaluate(expression)
		require.False(t, chosen, expression)
		require.Contains(t, says, why, expression)
	}
}
