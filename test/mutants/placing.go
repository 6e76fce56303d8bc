// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

// placings are mutants of how decisions are written.
func placings() []mutant {
	deciding, placing := []string{"./internal/decide"}, []string{"./test/conformance/placement"}
	return []mutant{
		{
			name: "decides-before-all-is-seen", rule: "nothing is decided before every cluster has been seen",
			file: "server/controller/placement/loop.go", tests: placing,
			old: "	if err := l.feed.await(ctx); err != nil {", new: "	if err := ctx.Err(); err != nil {",
		},
		{
			name: "shrinks-first", rule: "a cluster that stays chosen is in one of the objects at every moment",
			file: "internal/decide/order.go", tests: deciding,
			old: "c.holders[cluster] < 2 {", new: "c.holders[cluster] < 1 {",
		},
		{
			name: "unfenced", rule: "T69: nothing of an older term is written",
			file: "internal/decide/record.go", tests: deciding,
			old: "ok && failure == nil && last > d.Term {", new: "ok && failure == nil && last > d.Term+1 {",
		},
		{
			name: "outside-the-sets", rule: "PL-62: clusters of sets that are not bound are never chosen",
			file: "internal/decide/decide.go", tests: deciding,
			old: "	if d.Scheduler == \"\" {\n		return chosen, nil, nil", new: "	if d.Scheduler != \"-\" {\n		return chosen, nil, nil",
		},
	}
}
