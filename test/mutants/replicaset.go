// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

// replicaSets are mutants of ManifestWorkReplicaSets.
func replicaSets() []mutant { return slices.Concat(generatedWorks(), rollouts()) }

// generatedWorks are mutants of which works there are.
func generatedWorks() []mutant {
	rows := []string{"./test/conformance/replicaset"}
	const dir = "server/controller/replicaset/"
	return []mutant{
		{
			name: "template-executor-unasked", rule: "WH-17: the hub's rights are no way around an author's own",
			file: "server/webhook/validate.go", tests: []string{"./server/webhook"},
			old: "	if err := w.checkExecutor(ctx, req, change); err != nil {", new: "	if err := w.checkExecutor(ctx, req, change); err != nil && false {",
		},
		{
			name: "template-executor-in-one-namespace", rule: "WH-17: the right to an executor is needed wherever the works go",
			file: "server/webhook/validate.go", tests: []string{"./server/webhook"},
			old: `"spec.manifestWorkTemplate.executor", metav1.NamespaceAll,`, new: `"spec.manifestWorkTemplate.executor", req.Namespace + metav1.NamespaceAll,`,
		},
		{
			name: "no-decision-is-a-decision", rule: "MH-10: while nobody decides, works stay",
			file: dir + "works.go", tests: rows,
			old: "return f.name == placement && f.missing != \"\" })", new: "return f.name == placement && f.missing == placement })",
		},
		{
			name: "half-a-decision-is-one", rule: "MH-10: a decision that is yet to be filled says nothing",
			file: dir + "refs.go", tests: rows,
			old: "if d.Status.Decisions == nil {", new: "if d.Status.Decisions == nil && false {",
		},
		{
			name: "missing-decision-unnoticed", rule: "MH-10: a decision that is missing is no ground to delete its clusters' works",
			file: dir + "refs.go", tests: rows,
			old: "if !there[name] {", new: "if !there[name] && false {",
		},
		{
			name: "deletes-while-decisions-change", rule: "MH-10: no work is deleted while the placement's status says otherwise",
			file: dir + "works.go", tests: rows,
			old: "|| live.writing() != \"\" {", new: "|| live.writing() == \"no\" {",
		},
		{
			name: "works-of-others-deleted", rule: "MH-26: a deleted set takes its own works along and no others",
			file: dir + "remove.go", tests: rows,
			old: "client.MatchingLabels{setLabel: label}, ", new: "client.HasLabels{setLabel}, ",
		},
		{
			name: "foreign-name-taken", rule: "MH-26: a user's work that happens to have the name is left alone",
			file: dir + "write.go", tests: rows,
			old: "!has && found.GenerateName == generateName(o.key()):", new: "!has:",
		},
		{
			name: "second-work-for-overlap", rule: "MH-11: a cluster that two placements choose has one work",
			file: dir + "refs.go", tests: rows,
			old: "if cluster == \"\" || by[cluster] != nil {", new: "if cluster == \"\" || by[cluster] == f {",
		},
		{
			name: "old-success-counts", rule: "MH-19: a success from before the content is none",
			file: dir + "works.go", tests: rows,
			old: "since.After(p.Since) {", new: "!since.IsZero() {",
		},
		{
			name: "finalizer-too-early", rule: "MH-25: with Foreground the set waits for its works",
			file: dir + "remove.go", tests: rows,
			old: "if left > 0 && set.Spec", new: "if left < 0 && set.Spec",
		},
	}
}

// rollouts are mutants of which clusters have the content when.
func rollouts() []mutant {
	plans := []string{"./server/rollout"}
	return []mutant{
		{
			name: "too-many-at-once", rule: "MH-17: no more than maxConcurrency are in progress",
			file: "server/rollout/plan.go", tests: plans,
			old: "d.flying >= d.rules.concurrency", new: "d.flying > d.rules.concurrency",
		},
		{
			name: "failures-do-not-stop", rule: "MH-21: more failures than may be stop a rollout",
			file: "server/rollout/plan.go", tests: plans,
			old: "len(failed) > s.failures {", new: "len(failed) > s.failures+1 {",
		},
		{
			name: "mandatory-may-fail", rule: "MH-21: mandatory decision groups tolerate no failure",
			file: "server/rollout/plan.go", tests: plans,
			old: "clusters: g.Clusters, mandatory: true})", new: "clusters: g.Clusters, mandatory: true, failures: count(d.rules.failures, d.total)})",
		},
		{
			name: "blocked-has-a-place", rule: "MH-17: who cannot be given the content holds up nobody",
			file: "server/rollout/plan.go", tests: plans,
			old: "return s == Applying ||", new: "return s == Blocked || s == Applying ||",
		},
		{
			name: "blocked-never-times-out", rule: "MH-20: who was not given the content in time has timed out",
			file: "server/rollout/plan.go", tests: plans,
			old: "case Blocked, Applying, Progressing, Failed:", new: "case Applying, Progressing, Failed:",
		},
	}
}
