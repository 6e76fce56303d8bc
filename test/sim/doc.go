// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sim runs hub and agent against each other in virtual time, from one
// seed, and checks after every step what must never happen and in the end what
// must have come about.
//
// Real are: the hub's core of a session (server/session), the agent's link but
// for its stream (agent/link.Steps), its durable store (agent/store), and what
// lies between them and the executor (agent.Steps). Models are: the apiserver,
// the index of each hub replica, the writer of statuses with its fences, the
// network, the executor, and everybody who breaks something: people, crashes,
// cuts, restores from a backup.
//
// One goroutine runs everything, in a testing/synctest bubble, so that a seed
// gives the same run every time. docs/testing.md says how to read a failure.
package sim
