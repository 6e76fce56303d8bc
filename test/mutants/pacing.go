// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

// pacing are guards of how far content is sent ahead (docs/adr/0008-pace.md).
func pacing() []mutant {
	const dir = "server/session/"
	pure := []string{"./server/session"}
	return []mutant{
		{
			name: "window-ahead", rule: "B7: what is on the wire cannot be overtaken, so little is",
			file: dir + "send.go", tests: pure,
			old: "(used == 0 || used+bytes <= c.pace.limit)", new: "used >= 0",
		},
		{
			name: "pace-never-less", rule: "B7: a link that takes longer is sent less",
			file: dir + "pace.go", tests: pure,
			old: "	case took > p.shortest+lead:\n", new: "	case false:\n",
		},
		{
			name: "pace-never-more", rule: "c5: a fast link is not slowed",
			file: dir + "pace.go", tests: pure,
			old: "	case busy && took <= p.shortest+lead/2:\n", new: "	case false:\n",
		},
		{
			name: "pace-of-another-link", rule: "B7: after a pause the pace is found anew",
			file: dir + "pace.go", tests: pure,
			old: "now.Sub(p.idle) >= paceIdle", new: "false",
		},
		{
			name: "pace-without-way-out", rule: "B13: one object always fits when nothing is on its way, or nothing moves any more",
			file: dir + "send.go", tests: pure,
			old: "(used == 0 || used+bytes <= c.pace.limit)", new: "used+bytes <= c.pace.limit/4",
		},
		{
			name: "heartbeats-for-acknowledgements", rule: "T2: an agent that reads nothing does not keep its session by heartbeats",
			file: dir + "clock.go", tests: pure,
			old: "	case len(c.frames) > 0 && reached(now, c.progress.Add(ackPatience)):\n", new: "	case false:\n",
		},
	}
}
