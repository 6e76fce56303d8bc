// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

// lives are mutants of how clusters come and go.
func lives() []mutant {
	cleaning := []string{"./server/controller/cleanup"}
	return []mutant{
		{
			name: "absent-cluster-is-emptied", rule: "decision 8: a ManagedCluster that is merely absent empties no namespace",
			file: "server/controller/cleanup/controller.go", tests: cleaning,
			old: `!= name || marked == "" && seen == "" {`, new: `!= name {`,
		},
		{
			name: "next-batch-at-once", rule: "RC-67: a batch is gone before the next one is deleted",
			file: "server/controller/cleanup/empty.go", tests: cleaning,
			old: "		if p < least {", new: "		if o := &objects[i]; o.DeletionTimestamp == nil && p < least {",
		},
		{
			name: "force-while-connected", rule: "a cluster whose agent is connected is not let go of by force",
			file: "server/rpc/admin/remove.go", tests: []string{"./server/rpc/admin"},
			old: "	if len(sessions) > 0 {", new: "	if len(sessions) > 1000 {",
		},
		{
			name: "consent-ends-without-a-no", rule: "T82: only a clear and lasting no of the spoke withdraws consent",
			file: "agent/consent.go", tests: []string{"./agent"},
			old: "	if found == unclear || !c.had {", new: "	if found == granted {",
		},
	}
}
