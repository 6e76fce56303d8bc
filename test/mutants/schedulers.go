// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

// schedulers are guards between external schedulers and what they decide.
func schedulers() []mutant {
	const dir = "server/rpc/scheduler/"
	pure, onHub := []string{"./server/rpc/scheduler"}, []string{"./test/integration/hub"}
	return []mutant{
		{
			name: "term-is-not-asked", rule: "T69: only the current term of a scheduler decides",
			file: dir + "submit.go", tests: onHub, run: "TestT69_|TestSchedulers_",
			old: "	if err := s.checkTerm(ctx, decision.Scheduler, r.GetTerm()); err != nil {\n",
			new: "	if err := s.checkTerm(ctx, decision.Scheduler, r.GetTerm()); err != nil && r.GetTerm() == 0 {\n",
		},
		{
			name: "term-counts-from-its-lease", rule: "c6: a Lease that was deleted or restored must not repeat terms",
			file: dir + "term.go", tests: onHub, run: "TestT69_|TestSchedulers_",
			old: "		after.number = max(before.number+1, uint64(max(0, now.UnixMilli())))\n",
			new: "		after.number = before.number + 1\n",
		},
		{
			name: "told-before-the-cache-has-it", rule: "c1: a reader is told what changed, not what was there before",
			file: dir + "follow.go", tests: pure,
			old: "			if fresh || try >= cacheTries {\n", new: "			if fresh || try >= 0 {\n",
		},
		{
			name: "bookmark-before-what-changed", rule: "c1: the first bookmark says that everything was told",
			file: dir + "dirty.go", tests: pure,
			old: "		delete(d.wants, key)\n", new: "		delete(taken, key)\n		continue\n",
		},
		{
			name: "resume-over-a-restore", rule: "c13: a resume token is of one hub epoch",
			file: dir + "follow.go", tests: pure,
			old: "	case from.Epoch != f.Epoch():\n", new: "	case false:\n",
		},
		{
			name: "watch-over-a-restore", rule: "c13: a watch from a later time than the apiserver's begins anew",
			file: dir + "follow.go", tests: pure,
			old: "errList == nil && back {\n", new: "errList == nil && back && false {\n",
		},
		{
			name: "watch-outlives-the-right", rule: "c12: a watch ends when its caller may not watch any more",
			file: dir + "follow.go", tests: pure,
			old: "			err = f.authorize(ctx)\n", new: "			err = nil\n",
		},
		{
			name: "every-namespace-is-told", rule: "c12: placements are told to who may list them, namespace by namespace",
			file: dir + "placements.go", tests: onHub, run: "TestT69_|TestSchedulers_",
			old: "	if may, err := w.may(ctx, key.Namespace); err != nil || !may {\n		return true, err\n	}\n", new: "",
		},
	}
}
