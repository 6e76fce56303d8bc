// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package store is the agent's durable copy of what the hub delivered, so that
// a spoke goes on by itself when the hub is gone, also after a restart.
//
// Keys with exact content bytes come in from the session, and go out to the
// work controller and, as digests, to the hub. "Stored" means that a re-read
// after SIGKILL gives the same bytes. The record of each object carries the
// state of its delete too (package hold decides it), so that one write changes
// both or none.
//
// Two backends: Secrets in the spoke's apiserver, and files. The package knows
// neither the stream nor protobuf, nor what is in an object.
package store
