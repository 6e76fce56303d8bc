// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package link keeps the one connection between an agent and its hub: it dials,
// waits between attempts, and speaks the Session stream (PROTOCOL c1, c3 to c6).
// Desired objects come down as frames, are put together, checked against their
// digests and handed to a Store; acks, statuses, reports and events go up.
//
// It knows frames, not meanings: an object is a key, a revision and bytes. What
// is stored where, what a delete leads to and what a status says is decided by
// the interfaces that it is given. It has no clock but the process's own, and no
// Kubernetes client, so that a thousand of them fit into one process.
//
// # How it runs
//
// Run has one session at a time; between two it waits. A session has three
// goroutines: one receives and sorts, one works off what takes time (storing),
// one sends. Only the sender touches the stream's sending side. What is to be
// sent lies in an outbox, by key and by priority, never in a queue that could
// overflow. When the hub drains, or a new certificate is to be used, the next
// session is opened before the last one ends; from its Welcome on nothing that
// the old one still receives is looked at.
package link
