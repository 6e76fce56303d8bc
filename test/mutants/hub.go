// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

// all is the list.
func all() []mutant {
	return slices.Concat(sessions(), sending(), pacing(), statuses(), identities(), ways(), requests(), joining(), agents(), holds(), applying(), evicting(), admissions(), hostile(), lives(), health(), replicaSets(), choosings(), placings(), schedulers(), inventories())
}

func sessions() []mutant {
	const dir = "server/session/"
	pure := []string{"./server/session"}
	return []mutant{
		{
			name: "works-unread", rule: "T5: no session before the works were listed: what is not known yet is not absent",
			file: "server/gate.go", tests: []string{"./test/integration/hub"}, run: "TestT05_",
			old: "when(h.index.Synced() && h.index.Current(), errNotYet)", new: "when(true || h.index.Synced(), errNotYet)",
		},
		{
			name: "leases-unread", rule: "c6: no session before it is known who has which cluster",
			file: "server/gate.go", tests: []string{"./test/integration/hub"}, run: "TestT05_",
			old: "when(h.sessions.Synced(), errNotYet)", new: "nil",
		},
		{
			name: "register-after-welcome", rule: "B1: a session hears of changes before it compares, or one falls between",
			file: "server/rpc/agent/session.go", tests: []string{"./server/rpc/agent", "./test/scenario"},
			old: `	r.unwatch = r.works.Watch(func(m session.Marked) {
		if r.inbox.Put(m) {
			r.notify()
		}
	})
	older := r.service.sessions.add(r)
	r.compare(hello)
`,
			new: `	older := r.service.sessions.add(r)
	r.compare(hello)
	r.unwatch = r.works.Watch(func(m session.Marked) {
		if r.inbox.Put(m) {
			r.notify()
		}
	})
`,
		},
		{
			name: "skip-quorum-read", rule: "decision 8: absence from the index deletes nothing; a quorum read has to show it",
			file: dir + "orphan.go", tests: pure,
			old: "	case in.Found && !c.displaced(e, in):\n", new: "	case false:\n",
		},
		{
			name: "absent-means-delete", rule: "decision 8: nobody is asked at all",
			file: dir + "orphan.go", tests: pure,
			old: "		c.batches = append(c.batches, b)\n	}\n	c.askQuorum(e)\n",
			new: "		c.batches = append(c.batches, b)\n	}\n	e.wait, e.orphan.proven = waitBatch, true\n	b.waiting--\n	c.sealBatches()\n",
		},
		{
			name: "downgrade-unasked", rule: "c3: where the agent holds something newer, the quorum is read before anything is sent",
			file: dir + "compare.go", tests: pure,
			old: "	if !newer(theirs.Revision, obj) {\n", new: "	if true {\n",
		},
		{
			name: "ignore-epoch", rule: "c6: a status of another session's epoch ends the stream",
			file: dir + "status.go", tests: pure,
			old: "if batch.GetSessionEpoch() != c.cfg.Epoch {", new: "if false {",
		},
		{
			name: "unproven-mark-counts", rule: "decision 9: a mark without the hub's proof makes no new epoch",
			file: dir + "hello.go", tests: pure,
			old: "if !c.cfg.Hub.proven(mark) {", new: "if false {",
		},
		{
			name: "restore-unnoticed", rule: "decision 9: a proven mark above the index is looked into",
			file: dir + "hello.go", tests: pure,
			old: "	c.effect(CheckRestore{Mark: mark})\n", new: "	c.restoreWait = false\n",
		},
		{
			name: "orphans-before-restore-check", rule: "decision 9: no orphan is announced while a restore is being looked into",
			file: dir + "orphan.go", tests: pure,
			old: "	if c.restoreWait {\n		return\n	}\n	var left", new: "	var left",
		},
	}
}

// sending are guards of what goes out, and of the index behind it.
func sending() []mutant {
	const dir = "server/session/"
	pure := []string{"./server/session"}
	return []mutant{
		{
			name: "delete-waits-behind-content", rule: "B7: deletes go before content",
			file: dir + "send.go", tests: pure,
			old: "	c.addDeletes(now, &d)\n	c.checkTransfer()\n", new: "	c.checkTransfer()\n	if c.small.empty() && c.large.empty() && c.transfer == nil {\n		c.addDeletes(now, &d)\n	}\n",
		},
		{
			name: "no-credit", rule: "c5: no more is on its way than the agent asked for",
			file: dir + "send.go", tests: pure,
			old: "	if c.unacked.objects+len(d.changes) >= c.window.objects {\n		return false\n	}\n", new: "	if true {\n		return true\n	}\n",
		},
		{
			name: "finalizer-not-awaited", rule: "B3: nothing is sent before the hub's finalizer is on it",
			file: dir + "dirty.go", tests: pure,
			old: "	case !obj.Finalizer && e.finalizer != obj.UID:\n		c.ensureFinalizer(e, obj.UID)\n	default:\n", new: "	default:\n",
		},
		{
			name: "refused-orphan-is-final", rule: "B6: an agent that has not the orphan gets what the index shows now",
			file: dir + "ack.go", tests: pure,
			old: "	if !f.delete || why.GetReason() != reason.UIDMismatch {\n", new: "	if why.GetReason() != reason.UIDMismatch || true {\n",
		},
		{
			name: "lock-over-send", rule: "B12: no lock is held while a stream is written to",
			file: "server/rpc/agent/runner.go", tests: []string{"./server/rpc/agent"},
			old: "	err := r.stream.Send(message)\n", new: "	r.mu.Lock()\n	err := r.stream.Send(message)\n	r.mu.Unlock()\n",
		},
		{
			name: "no-watchdog", rule: "B13: a peer that takes nothing is left",
			file: "server/rpc/agent/watchdog.go", tests: []string{"./server/rpc/agent", "./server/session"},
			old: "stalled >= stallTimeout {", new: "stalled >= 1000*stallTimeout {",
		},
		{
			name: "epoch-not-asked-for-a-list", rule: "decision 9: revisions do not show every restore, the epoch does",
			file: "server/store/list.go", tests: []string{"./server/store"}, run: "TestT7_",
			old: "			if err := x.checkEpoch(ctx); err != nil {\n				return 0, err\n			}\n", new: "",
		},
		{
			name: "epoch-not-asked-for-a-watch", rule: "decision 9: revisions do not show every restore, the epoch does",
			file: "server/store/follow.go", tests: []string{"./server/store"}, run: "TestT7_",
			old: "	if err := x.checkEpoch(ctx); err != nil {\n		return err\n	}\n", new: "",
		},
		{
			name: "epoch-comes-back", rule: "decision 9: a hub epoch that is over does not begin again",
			file: "server/epoch.go", tests: []string{"./test/integration/hub"}, run: "TestSchedulers_watches_begin_anew",
			old: "	if !h.epochs[epoch] {\n", new: "	if true {\n",
		},
		{
			name: "restored-list-is-news", rule: "decision 9: a list below what the index had seen is a restore",
			file: "server/store/list.go", tests: []string{"./server/store"},
			old: "	if back && !x.restoring {", new: "	if false {",
		},
	}
}

func statuses() []mutant {
	kitchen := []string{"./server/store"}
	return []mutant{
		{
			name: "persisted-before-2xx", rule: "c7: PERSISTED only after the apiserver's 2xx",
			file: "server/store/write.go", tests: kitchen,
			old: "		if err == nil && !again {\n", new: "		if !again {\n",
		},
		{
			name: "fence-unasked", rule: "c6: who has not written this state asks the Lease by quorum before writing",
			file: "server/store/write.go", tests: kitchen,
			old: "	if err := w.fence.Check(ctx, g); err != nil {\n		return err\n	}\n	t.session = g.serial()\n	return nil\n",
			new: "	t.session = g.serial()\n	return nil\n",
		},
		{
			name: "conflict-unasked", rule: "c7: after a 409 the Lease is read by quorum before the next try",
			file: "server/store/write.go", tests: kitchen,
			old: "	if err := w.fence.Check(ctx, j.grant); err != nil {\n		return nil, err\n	}\n", new: "",
		},
		{
			name: "undelivered-once", rule: "B18: why a work is not delivered is shown, though the apiserver does not take it at first",
			file: "server/store/status.go", tests: kitchen,
			old: "			if result.Outcome == Retry && j.lasting {\n", new: "			if false {\n",
		},
		{
			name: "undelivered-outlives-its-clear", rule: "B18: and is not shown any more once the work was delivered",
			file: "server/store/queue.go", tests: kitchen,
			old: "	l.forget(j.slot())\n	old, waits", new: "	old, waits",
		},
		{
			name: "statuses-go-first", rule: "T19: statuses that are not taken hold up nothing else",
			file: "server/store/queue.go", tests: kitchen, run: "TestQueue_",
			old: "{ return j.class == classFinalizer || j.final }", new: "{ return false }",
		},
		{
			name: "status-of-another-uid", rule: "B6: a status is for one UID",
			file: "server/store/write.go", tests: kitchen,
			old: "if s == nil || s.UID != j.uid {", new: "if s == nil {",
		},
		{
			name: "patch-without-version", rule: "MW-76: the patch carries uid and resourceVersion",
			file: "server/store/write.go", tests: kitchen,
			old: `	metadata["uid"], metadata["resourceVersion"] = t.uid, formatRV(t.resourceVersion)`, new: `	metadata["uid"] = t.uid`,
		},
		{
			name: "no-op-is-written", rule: "a status that is stored already costs no write",
			file: "server/store/change_status.go", tests: kitchen,
			old: "	if t.status != c.digest || c.delivers(t)", new: "	if true || c.delivers(t)",
		},
		{
			name: "future-generation", rule: "c7: a generation above the hub's is read by quorum, retried once, then INVALID",
			file: "server/store/change_status.go", tests: kitchen,
			old: "	if c.ObservedGeneration > t.generation {", new: "	if false {",
		},
		{
			name: "finalized-without-delete", rule: "B3: our finalizer goes only from an object that is being deleted",
			file: "server/store/change_finalizer.go", tests: kitchen,
			old: "	case !t.deleting && !t.live:\n		return step{read: true} // the index may be behind\n	case !t.deleting:\n", new: "	case false:\n",
		},
		{
			name: "lease-taken-blindly", rule: "c6: another fingerprint is refused while the owner lives",
			file: "server/store/take.go", tests: kitchen,
			old: "	if holder.Fingerprint != claim.Fingerprint {", new: "	if false {",
		},
		{
			name: "leaving-cluster-cut-off", rule: "c4: only the agent of a cluster that is being removed can finish its works",
			file: "server/controller/gc/gc.go", tests: []string{"./server/controller/gc"},
			old: "		if e.EverIssued() {", new: "		if false {",
		},
		{
			name: "unknown-after-a-start", rule: "decision 11: after a start nothing turns Unknown before one lease duration",
			file: "server/controller/lease/replicas.go", tests: []string{"./server/controller/lease"},
			old: "	return r.hearing.Add(duration + r.spread)\n", new: "	return r.hearing\n",
		},
	}
}
