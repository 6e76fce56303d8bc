// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

func agents() []mutant {
	holding := []string{"./agent/store/..."}
	linking := []string{"./agent/link"}
	return []mutant{
		{
			name: "ack-before-store", rule: "decision 12: STORED means that a re-read after SIGKILL gives the same digest",
			file: "agent/link/intake.go", tests: linking,
			old: "	err := in.store.Put(ctx, key, rev, content)\n", new: "	_ = in.store.Put(ctx, key, rev, content)\n	err := error(nil)\n",
		},
		{
			name: "visible-before-durable", rule: "decision 12: what is not on disk does not count",
			file: "agent/store/write.go", tests: holding,
			old: "		s.book.Unsure(key, true)\n		s.mu.Unlock()\n		return err\n", new: "		s.book.Unsure(key, true)\n		s.mu.Unlock()\n",
		},
		{
			name: "failed-writes-forgotten", rule: "decision 8: what may be stored keeps the epoch it was delivered under",
			file: "agent/store/write.go", tests: holding,
			old: "		s.book.Unsure(key, true)\n", new: "",
		},
		{
			name: "head-without-chunks", rule: "decision 12: the head Secret is written last, when all it names is there",
			file: "agent/store/secrets.go", tests: holding,
			old: "		names, err := s.putChunks(ctx, record.Key, head.SHA256, body)\n		if err != nil {\n			return err\n		}\n",
			new: "		names, err := s.putChunks(ctx, record.Key, head.SHA256, body)\n		if err != nil {\n			_ = err\n		}\n",
		},
		{
			name: "content-unchecked", rule: "T67: content that has not its digest is thrown away",
			file: "agent/link/intake.go", tests: linking,
			old: "	if err := wire.Verify(rev, content); err != nil {", new: "	if err := wire.Verify(rev, content); err != nil && false {",
		},
		{
			name: "bomb", rule: "B22: the reader stops at the declared size",
			file: "internal/codec/codec.go", tests: []string{"./internal/codec"},
			old: "	if size > c.max {", new: "	if false {",
		},
		{
			name: "wanted-again-is-finalized", rule: "what a restore brought back is not reported as deleted",
			file: "agent/outbound.go", tests: []string{"./agent"}, run: "TestOutbound_",
			old: "		case held && state == store.DeleteNone:", new: "		case held && false:",
		},
		{
			name: "wanted-again-finalizes-the-next-delete", rule: "the news that an object is gone ends no later delete of it",
			file: "agent/link/intake.go", tests: linking,
			old: "	in.wanted(key, rev.UID)\n", new: "",
		},
		{
			name: "stale-status-is-forgotten", rule: "a status of an object that a restore brings back is reported again",
			file: "agent/link/status.go", tests: linking,
			old: "	case agentv1.StatusCode_STATUS_CODE_INVALID, agentv1.StatusCode_STATUS_CODE_STALE_UID:",
			new: "	case agentv1.StatusCode_STATUS_CODE_STALE_UID:\n		delete(s.pending, key)\n	case agentv1.StatusCode_STATUS_CODE_INVALID:",
		},
		{
			name: "mark-of-a-welcome-is-lost", rule: "decision 9: the newest mark outlives what it came with",
			file: "agent/store/hub.go", tests: []string{"./agent/store"}, run: "TestHighWater",
			old: "	s.metaStale = s.metaStale || s.book.High.ResourceVersion != before\n	behind", new: "	_ = before\n	behind",
		},
		{
			name: "superseded-goes-on", rule: "T61: a superseded instance leaves the spoke to the one that has the session",
			file: "agent/outbound.go", tests: []string{"./agent"},
			old: "	if out.yields() {\n", new: "	if out.yields() && false {\n",
		},
		{
			name: "superseded-until-welcome", rule: "T61: an instance that was superseded applies nothing before it is in sync",
			file: "agent/link/link.go", tests: linking,
			old: "		Superseded: l.state.Superseded,\n", new: "		Superseded: false,\n",
		},
	}
}

// holds are guards of what an agent deletes, prunes and applies.
func holds() []mutant {
	holding := []string{"./agent/store/..."}
	return []mutant{
		{
			name: "requested-other-uid", rule: "B6: a requested delete is for one UID",
			file: "agent/store/hold/book.go", tests: holding,
			old: "	if had && item.UID() != uid {\n", new: "	if had && uid == \"\" {\n",
		},
		{
			name: "orphan-other-uid", rule: "B6: an orphan delete is for one UID",
			file: "agent/store/hold/book.go", tests: holding,
			old: "	if !had || item.UID() != uid {\n", new: "	if !had {\n",
		},
		{
			name: "many-orphans", rule: "decision 8: many deletes by absence at once wait for a person",
			file: "agent/store/hold/book.go", tests: holding,
			old: "	return orphans > MaxOrphans || ", new: "	return false && ",
		},
		{
			name: "orphans-of-an-old-epoch", rule: "decision 8: what was stored under another hub epoch is held",
			file: "agent/store/hold/book.go", tests: holding,
			old: "	case older:\n		return HubEpoch\n", new: "	case false && older:\n",
		},
		{
			name: "hub-behind", rule: "decision 9: what a hub behind its own mark deletes is held",
			file: "agent/store/hold/book.go", tests: holding,
			old: "		b.behind = mark.ResourceVersion < b.High.ResourceVersion\n", new: "		b.behind = false\n",
		},
		{
			name: "prune-of-older-content", rule: "decision 8: prunes caused by an older generation are held",
			file: "agent/store/hold/book.go", tests: holding,
			old: "	if reason == \"\" && rev.Generation < old.Revision.Generation {\n", new: "	if false {\n",
		},
		{
			name: "no-grace", rule: "decision 8: every orphan delete waits for its grace",
			file: "agent/store/store.go", tests: holding,
			old: "	case d.DueAt(s.cfg.Clock.Now()):", new: "	case true:",
		},
		{
			name: "release-of-anything", rule: "decision 8: a release is for one batch",
			file: "agent/store/hold/batch.go", tests: holding,
			old: "		if batch.ID != id {\n", new: "		if false {\n",
		},
		{
			name: "apply-before-inventory", rule: "B8: what will be applied is listed before it is",
			file: "agent/work/reconcile.go", tests: []string{"./test/conformance/work"},
			old: "		applied, err = c.store.SetResources(ctx, applied, inventory.Merge(applied.Status.AppliedResources, toRecord(p)))\n",
			new: "		_ = toRecord(p)\n",
		},
		{
			name: "complete-applied-again", rule: "MW-51: a manifest that is complete is not applied again",
			file: "agent/work/reconcile.go", tests: []string{"./test/conformance/work"},
			old: "	if planned.complete {\n", new: "	if planned.complete && false {\n",
		},
		{
			name: "rules-without-bound", rule: "MW-46: a list or map that a rule makes is bounded, counted as if nothing were shared",
			file: "agent/work/rule/limits.go", tests: []string{"./agent/work/rule"},
			old: "	if weight(made, maxCost) > maxCost {\n", new: "	if false {\n",
		},
		{
			name: "prune-of-others", rule: "MW-55: what belongs to somebody else is left",
			file: "agent/work/inventory/remove.go", tests: []string{"./test/conformance/work"},
			old: "	if err != nil || !apply.Owns(owner, live) {\n", new: "	if err != nil {\n",
		},
	}
}

// applying are guards of as whom and what an agent applies.
func applying() []mutant {
	onSpoke := []string{"./test/conformance/work"}
	return []mutant{
		{
			name: "executor-unasked", rule: "MW-69: an executor is asked about before anything is applied",
			file: "agent/work/reconcile.go", tests: onSpoke, run: "^TestExecutor",
			old: "	if err := c.authorize(ctx, p); err != nil {\n", new: "	if err := error(nil); err != nil {\n",
		},
		{
			name: "executor-denied", rule: "MW-69: a review that says no, however it says it, is a no",
			file: "agent/work/executor/executor.go", tests: []string{"./agent/work/executor"},
			old: "reviewed.Status.Allowed && !reviewed.Status.Denied", new: "reviewed.Status.Allowed",
		},
		{
			name: "executor-escalates", rule: "MW-71: an executor grants nothing by a work that it could not grant itself",
			file: "agent/work/executor/executor.go", tests: onSpoke, run: "^TestExecutor",
			old: "	if !grants(req.Resource) || !slices.Contains(req.Verbs, \"create\") {\n", new: "	if !grants(req.Resource) || true {\n",
		},
		{
			name: "rights-of-before", rule: "MW-73: what an apiserver answers right after a change of rights is not remembered",
			file: "agent/work/executor/rights.go", tests: []string{"./agent/work/executor"},
			old: "	return now.Sub(r.changed) >= settling\n", new: "	return true\n",
		},
		{
			name: "ignored-and-owned", rule: "MW-31: what is ignored is given away, so that leaving it out does not delete it",
			file: "agent/work/apply/ignored.go", tests: onSpoke, run: "^TestIgnoreFields$",
			old: "	if err != nil || given.Empty() {\n		return live, err\n", new: "	if err != nil || given != nil {\n		return live, err\n",
		},
		{
			name: "parts-of-one-value", rule: "MW-31: a part of what the apiserver keeps as one value is not left out of it",
			file: "agent/work/apply/ignored.go", tests: onSpoke, run: "^TestIgnoreFields$",
			old: "		if at.whole {\n", new: "		if false {\n",
		},
	}
}

// evicting are guards of what has no work any more.
func evicting() []mutant {
	onSpoke := []string{"./test/conformance/work"}
	return []mutant{
		{
			name: "evict-before-in-sync", rule: "MW-62: what the hub may not have sent yet is not missing",
			file: "agent/work/evict.go", tests: onSpoke, run: "^TestEviction$",
			old: "	case !c.cfg.InSync():\n", new: "	case false:\n",
		},
		{
			name: "evict-other-agent", rule: "MW-64: what is of another agent is not touched",
			file: "agent/work/evict.go", tests: onSpoke, run: "^TestEviction$",
			old: "	if applied.Spec.AgentID != c.cfg.AgentID {\n", new: "	if false {\n",
		},
		{
			name: "evict-without-grace", rule: "MW-62: an eviction waits for its grace period",
			file: "agent/work/evict.go", tests: onSpoke, run: "^TestEviction$",
			old: "left := eviction.Due.Sub(c.cfg.Clock.Now()); left > 0 {", new: "left := eviction.Due.Sub(c.cfg.Clock.Now()); left > 0 && false {",
		},
		{
			name: "evict-without-heir", rule: "decision 13: what no work of today has taken over is held",
			file: "agent/work/inventory/remove.go", tests: onSpoke, run: "^TestEviction$",
			old: "		if inherits {\n			return false, release(ctx, object, live, owner)\n		}\n	}\n	return true, nil\n",
			new: "		if inherits {\n			return false, release(ctx, object, live, owner)\n		}\n	}\n	return false, nil\n",
		},
		{
			name: "evict-before-applied", rule: "MW-58: nothing is given up before its new owner has applied it",
			file: "agent/work/evict.go", tests: onSpoke, run: "^TestEviction$",
			old: " && types.UID(theirs.UID) == object {", new: " {",
		},
		{
			name: "evict-to-the-dead", rule: "MW-68: an owner that is gone inherits nothing",
			file: "agent/work/evict.go", tests: onSpoke, run: "^TestEviction$",
			old: "	alive := heir.UID == ref.UID && heir.DeletionTimestamp == nil\n", new: "	alive := true\n",
		},
		{
			name: "drift-waits-its-turn", rule: "MW-19: what somebody changed on the spoke goes before what is delivered",
			file: "agent/work/work.go", tests: []string{"./agent/work", "./test/conformance/work"},
			old: "	c.order.hurry(name)\n", new: "",
		},
		{
			name: "delivery-starves", rule: "MW-19: and still leaves room for it",
			file: "agent/work/lanes.go", tests: []string{"./agent/work"},
			old: " || l.inARow >= urgentInARow && l.rest.Len() > 0 {", new: " {",
		},
		{
			name: "in-sync-without-all", rule: "MW-62: a session that could not store something is not in sync",
			file: "agent/link/link.go", tests: []string{"./agent/link"},
			old: "l.state.InSync = false, len(failed) == 0\n", new: "l.state.InSync = false, true\n",
		},
		{
			name: "in-sync-and-gone", rule: "MW-62: with its session an agent is in sync no more",
			file: "agent/link/link.go", tests: []string{"./agent/link"},
			old: "		l.state.Connected, l.state.InSync, ", new: "		l.state.Connected, _, ",
		},
	}
}
