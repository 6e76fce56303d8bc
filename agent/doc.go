// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package agent is the house of what runs on a spoke: it makes the rooms and
// wires them, and nothing else.
//
//	hub ══ link ══> inbound ──> store ──> source ──> work ──> the spoke's apiserver
//	hub <══ link ══ outbound <────────────────────── work
//
// The store is between the stream and the work: what the hub said is durable
// before anything is done, and the work goes on from the store when the hub is
// gone, also after a restart. Rooms do not know each other; the adapters here
// turn the types of one into those of the next.
package agent
