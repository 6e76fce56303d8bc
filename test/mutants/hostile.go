// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

// hostile are guards against what is made to cost much.
func hostile() []mutant {
	return []mutant{
		{
			name: "metadata-unbounded", rule: "T74: each of very many labels costs many times its length",
			file: "server/rpc/admin/validate.go", tests: []string{"./server/rpc/admin"}, run: "^TestApplyWork$",
			old: "	if work.Metadata.Size > maxMetadata {", new: "	if false {",
		},
		{
			name: "reviews-in-YAML", rule: "T74: what is no JSON is not read",
			file: "server/webhook/webhook.go", tests: []string{"./server/webhook"},
			old: "err != nil || begin[0] != '{' {", new: "err != nil || len(begin) == 0 {",
		},
		{
			name: "spokes-batch-released", rule: "decision 13: what another hub brought is the spoke's to let go",
			file: "server/rpc/admin/held.go", tests: []string{"./server/rpc/admin"}, run: "^TestMW68_held_on_the_spoke$",
			old: "		if batch.GetOnSpoke() {\n			return nil, fail(", new: "		if false {\n			return nil, fail(",
		},
	}
}
