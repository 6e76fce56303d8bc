// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

// choosings are mutants of how placements choose clusters.
func choosings() []mutant {
	choosing := []string{"./server/scheduling"}
	return []mutant{
		{
			name: "chooses-what-is-not-bound", rule: "PL-62: the namespace is the border between tenants",
			file: "server/scheduling/placement.go", tests: choosing,
			old: "	case !p.within(c):\n		return outside", new: "	case false:\n		return outside",
		},
		{
			name: "chooses-what-is-deleted", rule: "PL-12: a cluster that is being deleted is no candidate",
			file: "server/scheduling/placement.go", tests: choosing,
			old: "	case c.deleting():", new: "	case false:",
		},
		{
			name: "tolerates-for-ever", rule: "PL-25: a toleration with seconds ends",
			file: "server/scheduling/taint.go", tests: choosing,
			old: "now.Before(end) && ", new: "",
		},
		{
			name: "sleeps-through-taints", rule: "a placement that is not dirty decides as it did",
			file: "server/scheduling/cluster.go", tests: choosing,
			old: "	if changed.taints || ", new: "	if ",
		},
		{
			name: "spreads-anyway", rule: "DoNotSchedule rather chooses fewer clusters",
			file: "server/scheduling/spread.go", tests: choosing,
			old: "		if t.strict && excess[k] > 0 {", new: "		if t.strict && excess[k] > 1 {",
		},
		{
			name: "spends-without-end", rule: "PL-21: one placement must not hold up the others",
			file: "server/scheduling/placement.go", tests: choosing,
			old: "return p.spent > w.budget", new: "return false",
		},
		{
			name: "one-cluster-at-a-time", rule: "PL-21: a cluster with many dear expressions must not hold up the others",
			file: "server/scheduling/cel.go", tests: choosing,
			old: "	case l.turn < 0:", new: "	case false:",
		},
		{
			name: "half-of-another-cluster", rule: "PL-21: what expressions said of a cluster is forgotten as it changes",
			file: "server/scheduling/placement.go", tests: choosing,
			old: "	if p.half == c {\n", new: "	if false {\n",
		},
		{
			name: "explains-to-another", rule: "PL-62: a page token is of one placement",
			file: "server/rpc/admin/explanations.go", tests: []string{"./server/rpc/admin"},
			old: " && found.placement == placement.UID && ", new: " && ",
		},
		{
			name: "keeps-what-is-not-bound", rule: "PL-62: a placement that cannot be grouped loses the clusters of sets that are not bound any more",
			file: "internal/decide/decide.go", tests: []string{"./internal/decide"},
			old: "			if !may {\n				names", new: "			if !may && false {\n				names",
		},
		{
			name: "others-keep-what-is-not-bound", rule: "PL-62: the namespace is the border, whoever decides",
			file: "server/controller/placement/loop.go", tests: []string{"./test/conformance/placement"}, run: "TestPlacement_.*/PL-62_external",
			old: "		return l.confine(ctx, request.NamespacedName)\n", new: "		return reconcile.Result{}, nil\n",
		},
		{
			name: "forgets-what-is-kept", rule: "PL-62: a decided cluster that leaves matters even if it does not match",
			file: "server/scheduling/placement.go", tests: choosing,
			old: "	case v < mismatched && w.owned[p.key][c.name] > 0:", new: "	case false:",
		},
		{
			name: "explains-other-peoples-clusters", rule: "PL-62: clusters of other sets are for who may list clusters",
			file: "server/rpc/admin/explanations.go", tests: []string{"./server/rpc/admin"},
			old: "	if !all {\n", new: "	if all && false {\n",
		},
	}
}
