// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

// admissions are guards of what may be stored at all, and of what the hub deletes
// by itself.
func admissions() []mutant {
	rules, hooks, ends := []string{"./internal/workrules"}, []string{"./server/webhook"}, []string{"./server/controller/work"}
	return []mutant{
		{
			name: "no-manifest-limit", rule: "WH-16: spec and status stay under what an apiserver stores",
			file: "internal/workrules/workrules.go", tests: rules,
			old: "	if size > limit {", new: "	if size > limit && size < 0 {",
		},
		{
			name: "nameless-manifest", rule: "WH-15: each apply of a generateName would make another object",
			file: "internal/workrules/workrules.go", tests: rules,
			old: "	case meta.GenerateName != \"\":", new: "	case meta.GenerateName != \"\" && meta.Name != \"\":",
		},
		{
			name: "rest-unbounded", rule: "T74: what is too long is not decoded",
			file: "server/rpc/admin/validate.go", tests: []string{"./server/rpc/admin"},
			old: "	if len(r.GetWorkJson()) > limit+maxRest {", new: "	if false {",
		},
		{
			name: "execute-as-unasked", rule: "WH-17: who may not execute-as has nothing applied as somebody else",
			file: "server/webhook/access.go", tests: hooks,
			old: "	if review.Status.Allowed {", new: "	if true || review.Status.Allowed {",
		},
		{
			name: "execute-as-change-unasked", rule: "WH-17: a change of the executor is asked for, too",
			file: "server/webhook/executor.go", tests: hooks,
			old: "	if req.Operation == admissionv1.Update && equality.Semantic.DeepEqual(change.before, change.after) {", new: "	if req.Operation == admissionv1.Update && (true || equality.Semantic.DeepEqual(change.before, change.after)) {",
		},
		{
			name: "asked-without-groups", rule: "WH-17: the question is asked as the whole user of the request",
			file: "server/webhook/access.go", tests: hooks,
			old: "Groups: user.Groups, ", new: "",
		},
		{
			name: "unserved-finalizer", rule: "a finalizer that nobody takes off keeps a work for ever",
			file: "server/webhook/mutate.go", tests: hooks,
			old: " || !w.cfg.Served(ctx, req.Namespace) {", new: " {",
		},
		{
			name: "accept-unasked", rule: "WH-08: who may write clusters may not therefore let them in",
			file: "server/webhook/cluster.go", tests: hooks,
			old: "	if !after.Spec.HubAcceptsClient || before.Spec.HubAcceptsClient {", new: "	if true || !after.Spec.HubAcceptsClient || before.Spec.HubAcceptsClient {",
		},
		{
			name: "leave-unasked", rule: "WH-11: who moves a cluster may do so in the set that it leaves, too",
			file: "server/webhook/cluster.go", tests: hooks,
			old: "range []string{before, after} {", new: "range []string{after} {",
		},
		{
			name: "bind-unasked", rule: "WH-13: who binds a set sees and reaches its clusters",
			file: "server/webhook/cluster.go", tests: hooks,
			old: "	if req.Operation == admissionv1.Update && before.Spec.ClusterSet == after.Spec.ClusterSet {", new: "	if true || req.Operation == admissionv1.Update && before.Spec.ClusterSet == after.Spec.ClusterSet {",
		},
		{
			name: "binding-of-another-name", rule: "WH-12: rights on a binding's name are rights on that set",
			file: "server/webhook/cluster.go", tests: hooks,
			old: "	if after.Name != after.Spec.ClusterSet {", new: "	if after.Name == \"\" {",
		},
		{
			name: "untrusted-certificate", rule: "a replica serves with a new authority's certificate not before it is trusted",
			file: "server/ca/webhook.go", tests: []string{"./server/ca"},
			old: "	moved := trusted && authority.Cert.Equal(w.trusted) && !authority", new: "	moved := (trusted || true) && !authority",
		},
		{
			name: "set-members-end", rule: "MH-02: works of a replica set never end by themselves",
			file: "server/controller/work/ttl.go", tests: ends,
			old: "generated := work.Labels[workv1alpha1.ManifestWorkReplicaSetControllerNameLabelKey]; generated {", new: "generated := work.Labels[workv1alpha1.ManifestWorkReplicaSetControllerNameLabelKey]; generated && false {",
		},
		{
			name: "endless-ttl-is-due", rule: "MH-01: a time too long to be counted does not overflow into the past",
			file: "server/controller/work/ttl.go", tests: ends,
			old: "	if seconds > math.MaxInt64/int64(time.Second) {", new: "	if seconds > math.MaxInt64-1 && seconds < 0 {",
		},
		{
			name: "incomplete-works-end", rule: "MH-01: only what is complete ends",
			file: "server/controller/work/ttl.go", tests: ends,
			old: "complete == nil || complete.Status != metav1.ConditionTrue {", new: "complete == nil || complete.Status == metav1.ConditionUnknown {",
		},
	}
}

// health are guards of what is said about clusters.
func health() []mutant {
	return []mutant{
		{
			name: "flaps-undamped", rule: "B33: a cluster that comes and goes does not move conditions, taints and events each time",
			file: "server/controller/lease/flaps.go", tests: []string{"./server/controller/lease"},
			old: "	if h.better.IsZero() && h.recent(now) < flapLimit {", new: "	if true || h.recent(now) < flapLimit {",
		},
		{
			name: "skew-excuses-chain", rule: "T38: a clock that is behind excuses nothing else about the hub's certificate",
			file: "internal/pki/verify.go", tests: []string{"./internal/pki"},
			old: "		return nil //nolint:nilerr // then something else is wrong, too\n", new: "		_ = err\n",
		},
		{
			name: "taints-of-others", rule: "RC-42: the taints of others are not touched",
			file: "server/controller/taint/taint.go", tests: []string{"./server/controller/taint"},
			old: "		if !kube.HealthTaint(t) {\n			wanted = append(wanted, t)\n			continue", new: "		if !kube.HealthTaint(t) {\n			continue",
		},
	}
}
